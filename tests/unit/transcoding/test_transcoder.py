"""
The pool of worker processes: its limits, and what happens to a process that does not keep them.
"""

from __future__ import annotations

import os
import signal
import struct
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from pacs.dataset.file import DataSetFile
from pacs.transcoding.errors import TranscodingError
from pacs.transcoding.settings import TranscodingSettings
from pacs.transcoding.syntaxes import RLE_LOSSLESS
from pacs.transcoding.transcoder import Transcoder
from pacs.workers.process import WorkerProcess
from tests.dicom import element
from tests.samples import samples
from tests.transcoding import EXPLICIT, IMPLICIT, in_memory, transcoded

SETTINGS = TranscodingSettings(directory=Path(tempfile.gettempdir()))
PLAIN = element(0x00080018, "UI", b"1.2.3\0")


def image(rows: int, columns: int, frames: int, fragment: bytes) -> bytes:
    """Give a data set of frames that are all the same, RLE compressed."""
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)) + fragment
    return (
        PLAIN
        + element(0x00280002, "US", struct.pack("<H", 1))
        + element(0x00280004, "CS", b"MONOCHROME2 ")
        + element(0x00280008, "IS", b"%06d" % frames)
        + element(0x00280010, "US", struct.pack("<H", rows))
        + element(0x00280011, "US", struct.pack("<H", columns))
        + element(0x00280100, "US", struct.pack("<H", 8))
        + element(0x00280101, "US", struct.pack("<H", 8))
        + element(0x00280103, "US", struct.pack("<H", 0))
        + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF)
        + struct.pack("<HHL", 0xFFFE, 0xE000, 0)
        + item * frames
        + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    )


def zeros(count: int) -> bytes:
    """Give bytes of zero as one RLE segment (PS3.5 G.3)."""
    runs, rest = divmod(count, 128)
    segment = b"\x81\0" * runs + (bytes((257 - rest, 0)) if rest > 1 else b"\0\0" * rest)
    return struct.pack("<16L", 1, 64, *[0] * 14) + segment


def bits_stored(count: int) -> bytes:
    return element(0x00280101, "US", struct.pack("<H", count))


class TranscoderTests(TestCase):
    def setUp(self) -> None:
        self.transcoders: list[Transcoder] = []

    async def _stop(self) -> None:
        for transcoder in self.transcoders:
            await transcoder.stop()
            self.assertEqual([worker for worker in transcoder.pool.workers if worker.is_alive], [])

    def tearDown(self) -> Deferred[None]:  # type: ignore[override]  # trial waits for it
        return Deferred.fromCoroutine(self._stop())

    def make(self, **changes: Any) -> Transcoder:
        transcoder = Transcoder(settings=replace(SETTINGS, **changes), reactor=reactor)
        self.transcoders.append(transcoder)
        return transcoder

    async def run_one(
        self, transcoder: Transcoder, data: bytes, target: str = IMPLICIT, source: str = EXPLICIT
    ) -> bytes:
        given = DataSetFile(in_memory(data), 0, len(data), source)
        try:
            made = await transcoder.transcode(given, target)
        finally:
            given.close()
        try:
            self.assertEqual(made.transfer_syntax_uid, target)
            return os.pread(made.descriptor, made.length + 1, made.offset)
        finally:
            made.close()

    async def fails(self, transcoder: Transcoder, data: bytes, reason: str, source: str = EXPLICIT) -> None:
        with self.assertRaises(TranscodingError) as raised:
            await self.run_one(transcoder, data, source=source)
        self.assertIn(reason, str(raised.exception))

    def test_many_at_once_share_the_processes(self) -> Deferred[None]:
        async def check() -> None:
            transcoder = self.make(workers=2)
            data = [element(0x00080018, "UI", b"1.2.%02d" % number) for number in range(40)]
            results = await gatherResults(
                [Deferred.fromCoroutine(self.run_one(transcoder, one)) for one in data], consumeErrors=True
            )
            self.assertEqual(results, [transcoded(one, EXPLICIT, IMPLICIT) for one in data])
            self.assertEqual(len(transcoder.pool.workers), 2)

        return Deferred.fromCoroutine(check())

    def test_garbage_is_an_error_and_the_process_goes_on(self) -> Deferred[None]:
        async def check() -> None:
            transcoder = self.make(workers=1)
            await self.fails(transcoder, b"garbage" * 100, "")
            worker = next(iter(transcoder.pool.workers))
            await self.fails(transcoder, PLAIN[:-2], "reaches beyond")
            self.assertEqual(await self.run_one(transcoder, PLAIN), transcoded(PLAIN, EXPLICIT, IMPLICIT))
            self.assertIs(worker, next(iter(transcoder.pool.workers)))

        return Deferred.fromCoroutine(check())

    def test_a_jpeg_with_fewer_bits_stored_than_allocated_does_not_end_the_process(self) -> Deferred[None]:
        """GDCM aborts when it is told of fewer than 8 of 8 bits."""
        names = ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jpeg_dcmtk.dcm")  # lossless and baseline
        chosen = [sample for sample in samples() if sample.path.name in names]

        async def check() -> None:
            transcoder = self.make(workers=1)
            for sample in chosen:
                source, data = sample.transfer_syntax_uid, sample.data_set
                fewer = data.replace(bits_stored(8), bits_stored(7))
                expected = transcoded(data, source, EXPLICIT).replace(bits_stored(8), bits_stored(7))
                self.assertEqual(await self.run_one(transcoder, fewer, EXPLICIT, source), expected)

        self.assertEqual(len(chosen), len(names))
        return Deferred.fromCoroutine(check())

    def test_an_object_over_the_time_limit_fails_and_the_next_one_has_a_new_process(self) -> Deferred[None]:
        async def check() -> None:
            transcoder = self.make(workers=1)
            await self.run_one(transcoder, PLAIN)
            transcoder = self.make(workers=1, seconds=0.05)
            slow = image(4096, 4096, 1000, zeros(4096 * 4096))
            started_s = time.monotonic()
            await self.fails(transcoder, slow, "took more than 0.05 s", RLE_LOSSLESS)
            self.assertLess(time.monotonic() - started_s, 10)
            self.assertEqual([worker for worker in transcoder.pool.workers if worker.is_alive], [])

        return Deferred.fromCoroutine(check())

    def test_a_process_that_dies_fails_its_object_alone(self) -> Deferred[None]:
        async def check() -> None:
            transcoder = self.make(workers=1)
            await self.run_one(transcoder, PLAIN)
            worker = next(iter(transcoder.pool.workers))
            running = Deferred.fromCoroutine(
                self.fails(transcoder, image(4096, 4096, 1000, zeros(4096 * 4096)), "unexpectedly", RLE_LOSSLESS)
            )
            waiting = Deferred.fromCoroutine(self.run_one(transcoder, PLAIN))
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            await running
            self.assertEqual(await waiting, transcoded(PLAIN, EXPLICIT, IMPLICIT))

        return Deferred.fromCoroutine(check())

    def test_memory_is_limited(self) -> Deferred[None]:
        async def check() -> None:
            transcoder = self.make(workers=1, memory_bytes=700 << 20)
            await self.fails(transcoder, image(30000, 30000, 1, zeros(1)), "too large to be decoded", RLE_LOSSLESS)
            self.assertEqual(await self.run_one(transcoder, PLAIN), transcoded(PLAIN, EXPLICIT, IMPLICIT))

        return Deferred.fromCoroutine(check())

    def test_many_frames_cost_the_memory_of_one(self) -> Deferred[None]:
        """200 frames of 4 MB: 800 MB pass through a process that may have 700 MB of address space."""

        async def check() -> None:
            transcoder = self.make(workers=1, memory_bytes=700 << 20)
            data = image(2048, 2048, 200, zeros(2048 * 2048))
            given = DataSetFile(in_memory(data), 0, len(data), RLE_LOSSLESS)
            made = await transcoder.transcode(given, EXPLICIT)
            given.close()
            self.assertGreater(made.length, 200 * 2048 * 2048)
            made.close()
            worker = next(iter(transcoder.pool.workers))
            self.assertLess(resident_kib(worker), 160 * 1024)

        return Deferred.fromCoroutine(check())

    def test_canceling_frees_the_place(self) -> Deferred[None]:
        async def check() -> None:
            transcoder = self.make(workers=1)
            slow = Deferred.fromCoroutine(
                self.fails(transcoder, image(4096, 4096, 1000, zeros(4096 * 4096)), "gone", RLE_LOSSLESS)
            )
            waiting = Deferred.fromCoroutine(self.run_one(transcoder, PLAIN))
            waiting.addErrback(lambda _: b"canceled")
            waiting.cancel()
            self.assertEqual(await waiting, b"canceled")
            slow.cancel()
            await slow
            self.assertEqual(await self.run_one(transcoder, PLAIN), transcoded(PLAIN, EXPLICIT, IMPLICIT))

        return Deferred.fromCoroutine(check())

    def test_an_idle_process_ends_and_stopping_fails_who_waits(self) -> Deferred[None]:
        async def check() -> None:
            transcoder = self.make(workers=1, idle_s=0.05)
            await self.run_one(transcoder, PLAIN)
            worker = next(iter(transcoder.pool.workers))
            await worker.when_ended()
            self.assertFalse(worker.is_alive)
            slow = image(4096, 4096, 1000, zeros(4096 * 4096))
            running = Deferred.fromCoroutine(self.fails(transcoder, slow, "stopping", RLE_LOSSLESS))
            waiting = Deferred.fromCoroutine(self.fails(transcoder, PLAIN, "stopping"))
            await transcoder.stop()
            await running
            await waiting

        return Deferred.fromCoroutine(check())


def resident_kib(worker: WorkerProcess) -> int:
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
