"""
Reading decrypted data in large pieces, without letting go of the interpreter for each record.

OpenSSL gives a record, 16 KB at most, with each call, and pyOpenSSL's calls release the interpreter's lock. Beside a
busy thread (the one that commits, for instance) getting it back takes longer than decrypting: 45 ms for a megabyte
were measured, against 1.5 ms. Decrypting a record takes 20 µs, so the lock is kept here, and one call takes all records
that are there.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any, Final

from OpenSSL import SSL

try:
    from cryptography.hazmat.bindings._rust import _openssl as _bindings
except ImportError:  # they are private: without them records are read one by one
    _openssl: Any = None
else:
    _openssl = _bindings

PIECE_BYTES: Final = 1 << 20
RECORD_BYTES: Final = 16 << 10

_LIBRARY: Final[Any] = getattr(_openssl, "lib", None)
_CFFI: Final[Any] = getattr(_openssl, "ffi", None)


def _function(name: str, *arguments: Any) -> Any:
    """Give a function of pyOpenSSL's OpenSSL, to be called with the interpreter's lock; None without it."""
    try:
        address = int(_CFFI.cast("uintptr_t", _CFFI.addressof(_LIBRARY, name)))
    except (AttributeError, TypeError, ValueError):
        return None
    return ctypes.PYFUNCTYPE(ctypes.c_int, *arguments)(address)


_ssl_read: Final = _function("SSL_read", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_buffer: Final = mmap.mmap(-1, PIECE_BYTES)  # of the reactor's thread, filled and copied within one call
_address: Final = ctypes.addressof(ctypes.c_char.from_buffer(_buffer))
_view: Final = memoryview(_buffer)


class Connection(SSL.Connection):
    """A connection over memory BIOs whose `recv` gives as many records as there are; for the reactor's thread alone."""

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """
        Receive up to 1 MB, whatever `bufsiz` says.

        Raises:
            SSL.Error: as pyOpenSSL's own.
        """
        if _ssl_read is None:
            return super().recv(bufsiz, flags)
        handle = int(_CFFI.cast("uintptr_t", self._ssl))
        count = 0
        while count <= PIECE_BYTES - RECORD_BYTES:
            received = _ssl_read(handle, _address + count, PIECE_BYTES - count)
            if received <= 0:
                break
            count += received
        if count:
            _LIBRARY.ERR_clear_error()  # if it was one, the next call meets it again
            return _view[:count].tobytes()
        _LIBRARY.ERR_clear_error()
        return super().recv(bufsiz, flags)
