"""
One object after the other: decide on its pixels, transform, write, verify. What a worker process does.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from pacs.dataset.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from pacs.deidentification.codec import Buffer
from pacs.deidentification.errors import NotDeidentifiable
from pacs.deidentification.original import Original
from pacs.deidentification.regions import blank, find_regions
from pacs.deidentification.release import burned_in_reason, face_reason, hidden_plane_reason
from pacs.deidentification.settings import EngineSettings, Released
from pacs.deidentification.transform import Deidentified, Transformer
from pacs.deidentification.vault import Vault
from pacs.deidentification.verifier import Expectation, Verifier

Decode = Callable[[int, int, int, str, EngineSettings], Any]  # an UnnamedFile of pacs.transcoding.output

_PIECES: Final = 512  # of one scattered write; the system takes 1024
_PIXELS: Final = 0x7FE00010


class Engine:
    """
    De-identifies objects in one process.

    Args:
        decode: gives a data set with uncompressed frames, in a new file.

    Raises:
        VaultError: on making it; the vault can't be used.
    """

    def __init__(self, settings: EngineSettings, *, decode: Decode) -> None:
        self._settings = settings
        self._decode = decode
        self._vault = Vault(settings.vault_path, fingerprint_path=settings.fingerprint_path)
        self._transformer = Transformer(
            policy=settings.policy,
            vault=self._vault,
            implementation=settings.implementation,
            limits=settings.limits,
            default_character_set=settings.default_character_set,
        )
        self._verifier = Verifier()

    @property
    def name_key(self) -> bytes:
        """The vault's key for names of files."""
        return self._vault.name_key

    def close(self) -> None:
        """Close the vault."""
        self._vault.close()

    def deidentify(self, descriptor: int, offset: int, length: int, transfer_syntax_uid: str, output: int) -> Released:
        """
        De-identify one object.

        Args:
            descriptor, offset, length: where its data set is.
            output: an empty file, open for reading and writing; it is Released's afterwards.

        Raises:
            DeidentificationError: it is not released; what `output` holds then is to be thrown away.
            VaultError: the vault can't be used.
        """
        if length <= 0:
            raise NotDeidentifiable("unreadable", "no data set")
        with _Mapped(descriptor, offset, length) as mapped:
            original = self._transformer.read(mapped.buffer, transfer_syntax_uid)
            regions = self._decide(original)
            if regions is None:
                return self._release(original, mapped.buffer, transfer_syntax_uid, output, pixels_cleaned=False)
            return self._cleaned(descriptor, offset, length, original, transfer_syntax_uid, regions, output)

    def _decide(self, original: Original) -> tuple[Sequence[tuple[int, int, int, int]], bool] | None:
        """Give what is to be blanked, or None for nothing."""
        policy = self._settings.policy
        reason = face_reason(original, policy)
        if reason is not None:
            raise NotDeidentifiable("recognizable_features", reason)
        if policy.burned_in == "accept":
            return None
        reason = hidden_plane_reason(original)
        if reason is not None:
            raise NotDeidentifiable("embedded_overlay", reason)
        reason = burned_in_reason(original)
        if reason is None:
            return None
        if policy.burned_in == "clean":
            regions = find_regions(original, self._settings.region_rules)
            if regions is None:
                raise NotDeidentifiable("burned_in", f"{reason}, and no region rule is for it")
            return regions
        raise NotDeidentifiable("burned_in", reason)

    def _cleaned(
        self,
        descriptor: int,
        offset: int,
        length: int,
        original: Original,
        transfer_syntax_uid: str,
        regions: tuple[Sequence[tuple[int, int, int, int]], bool],
        output: int,
    ) -> Released:
        """Blank regions in a private copy; compressed frames are decoded and stay uncompressed, which loses nothing."""
        place = original.top.get(_PIXELS)
        syntax = TRANSFER_SYNTAXES[transfer_syntax_uid]
        if syntax.is_deflated or (place is not None and place[5] is not None):
            file = self._decode(descriptor, offset, length, transfer_syntax_uid, self._settings)
            try:
                return self._blanked(file.descriptor, 0, file.length, EXPLICIT_VR_LITTLE_ENDIAN, regions, output)
            finally:
                file.close()
        return self._blanked(descriptor, offset, length, transfer_syntax_uid, regions, output)

    def _blanked(
        self,
        descriptor: int,
        offset: int,
        length: int,
        transfer_syntax_uid: str,
        regions: tuple[Sequence[tuple[int, int, int, int]], bool],
        output: int,
    ) -> Released:
        with _Mapped(descriptor, offset, length, is_writable=True) as mapped:
            original = self._transformer.read(mapped.buffer, transfer_syntax_uid)
            blank(mapped.buffer, original, regions[0], keeps=regions[1])
            return self._release(original, mapped.buffer, transfer_syntax_uid, output, pixels_cleaned=True)

    def _release(
        self, original: Original, buffer: Buffer, transfer_syntax_uid: str, output: int, *, pixels_cleaned: bool
    ) -> Released:
        done = self._transformer.transform(original, transfer_syntax_uid, pixels_cleaned=pixels_cleaned)
        length = _write(output, done)
        patient = self._vault.pseudonyms(original.identity())
        expectation = Expectation(self._settings.policy, done.pseudonym, patient.shift_days, pixels_cleaned)
        with mmap.mmap(output, length, prot=mmap.PROT_READ) as written:
            self._verifier.verify(buffer, transfer_syntax_uid, written, expectation)
        return Released(
            descriptor=output,
            length=length,
            data_set_offset=len(done.meta),
            sop_class_uid=done.sop_class_uid,
            sop_instance_uid=done.sop_instance_uid,
            transfer_syntax_uid=done.transfer_syntax_uid,
            original_sop_instance_uid=original.text(0x00080018),
            pseudonym=done.pseudonym,
        )


class _Mapped:
    """A data set of an open file in memory; writable means a copy of one's own."""

    def __init__(self, descriptor: int, offset: int, length: int, *, is_writable: bool = False) -> None:
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        self._map = mmap.mmap(
            descriptor,
            length + offset - start,
            flags=mmap.MAP_PRIVATE,
            prot=mmap.PROT_READ | (mmap.PROT_WRITE if is_writable else 0),
            offset=start,
        )
        self.buffer: memoryview = memoryview(self._map)[offset - start :]

    def __enter__(self) -> _Mapped:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of it; what still has a view of it keeps it alive until then."""


def _write(output: int, done: Deidentified) -> int:
    """Write a file; give its length."""
    pieces: list[Buffer] = [done.meta, *done.data_set]
    total = 0
    for start in range(0, len(pieces), _PIECES):
        group = [memoryview(piece) for piece in pieces[start : start + _PIECES]]
        while group:
            written = os.writev(output, group)
            total += written
            while group and written >= len(group[0]):
                written -= len(group.pop(0))
            if written:
                group[0] = group[0][written:]
    return total
