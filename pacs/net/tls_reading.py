"""
Reading decrypted data in large pieces, without letting go of the interpreter for each record.

OpenSSL gives a record, 16 KB at most, with each call, and pyOpenSSL's calls release the interpreter's lock. Beside a
busy thread (the one that commits, for instance) getting it back takes longer than decrypting: 45 ms for a megabyte
were measured, against 1.5 ms. Decrypting a record takes some microseconds, so the lock is kept here, and one call takes
all records that are there. Handing memory to OpenSSL and back is as short.
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
_ssl_get_error: Final = _function("SSL_get_error", ctypes.c_void_p, ctypes.c_int)
_bio_write: Final = _function("BIO_write", ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
_bio_read: Final = _function("BIO_read", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_clear_errors: Final = _function("ERR_clear_error")
_IS_SHORT: Final = None not in (_ssl_read, _ssl_get_error, _bio_write, _bio_read, _clear_errors)
_WANT_READ: Final = 2  # SSL_ERROR_WANT_READ, openssl/ssl.h

_buffer: Final = mmap.mmap(-1, PIECE_BYTES)  # of the reactor's thread, filled and copied within one call
_address: Final = ctypes.addressof(ctypes.c_char.from_buffer(_buffer))
_view: Final = memoryview(_buffer)


class ShortConnection(SSL.Connection):
    """
    A connection over memory BIOs that keeps the interpreter's lock, for the reactor's thread alone.

    What goes wrong is left to pyOpenSSL: the same call, made again, tells it.
    """

    def __init__(self, context: SSL.Context, socket: None = None) -> None:
        super().__init__(context, socket)
        self._handle = int(_CFFI.cast("uintptr_t", self._ssl))
        self._in = int(_CFFI.cast("uintptr_t", self._into_ssl))
        self._out = int(_CFFI.cast("uintptr_t", self._from_ssl))
        self._is_empty = False

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """
        Receive as many records as there are, 1 MB at most, whatever `bufsiz` says.

        Raises:
            SSL.Error: as pyOpenSSL's own.
        """
        if self._is_empty:
            self._is_empty = False
            raise SSL.WantReadError
        handle, count, received = self._handle, 0, 1
        _clear_errors()
        while count <= PIECE_BYTES - RECORD_BYTES:
            received = _ssl_read(handle, _address + count, PIECE_BYTES - count)
            if received <= 0:
                break
            count += received
        wants_more = received <= 0 and _ssl_get_error(handle, received) == _WANT_READ
        if count:
            self._is_empty = wants_more
            return _view[:count].tobytes()
        if wants_more:
            raise SSL.WantReadError
        return super().recv(bufsiz, flags)

    def bio_write(self, buf: bytes) -> int:  # type: ignore[override]
        """Take what the socket gave."""
        self._is_empty = False
        written: int = _bio_write(self._in, buf, len(buf))
        return written if written > 0 else super().bio_write(buf)

    def bio_read(self, bufsiz: int) -> bytes:
        """
        Give what the socket is to have.

        Raises:
            SSL.WantReadError: nothing.
        """
        count: int = _bio_read(self._out, _address, min(bufsiz, PIECE_BYTES))
        if count <= 0:
            raise SSL.WantReadError
        return _view[:count].tobytes()


Connection: Final[type[SSL.Connection]] = ShortConnection if _IS_SHORT else SSL.Connection
"""What a server's TLS connection is made of."""
