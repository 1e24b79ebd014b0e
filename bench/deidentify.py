"""
De-identification side by side: `python -m bench.deidentify [IMAGES [ELEMENTS]]`.

A series of CT images of 512x512, read, de-identified, verified (ours alone does) and written by one process each: ours,
dicognito, dicom-anonymizer (PyPI; the extra `bench`) and Orthanc, which anonymizes a series that it has into another.
With ELEMENTS the headers are cut to about so many. Images per second of CPU and of wall clock, and violations of the
Basic Profile on the objects of `bench.adversarial`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pydicom

from bench.adversarial import Verdict, judge, make_objects
from bench.data import make_template, uid
from bench.peers import Peer
from pacs.dataset.part10 import encode_file_meta
from pacs.deidentification.engine import Engine
from pacs.deidentification.profiles import Policy
from pacs.deidentification.settings import EngineSettings, Implementation
from pacs.deidentification.tables import Profile

IMAGES: Final = 300
WARM_UP: Final = 10
_CUT_GROUPS: Final = (0x0008, 0x0018, 0x0020)
_NEEDED: Final = (0x00080016, 0x00080018, 0x00080060, 0x0020000D, 0x0020000E)
EXPLICIT: Final = "1.2.840.10008.1.2.1"

Tool = Callable[[Path, Path], None]


def make_series(directory: Path, count: int) -> list[Path]:
    """Write the images."""
    template = make_template("CT_small.dcm", 512, 512)
    paths = []
    for number in range(count):
        head = bytearray(template.head)
        uids = uid(1), uid(1, 1), uid(1, 1, number)
        for place, value in zip(template.places, uids, strict=True):
            head[place : place + len(value)] = value
        meta = encode_file_meta(
            sop_class_uid=template.sop_class_uid,
            sop_instance_uid=uids[2].decode(),
            transfer_syntax_uid=EXPLICIT,
            source_ae_title="",
            implementation_class_uid="2.25.1",
            implementation_version_name="BENCH",
        )
        paths.append(directory / f"{number:06}.dcm")
        paths[-1].write_bytes(meta + head + template.tail)
    return paths


def shorten(paths: list[Path], elements: int) -> None:
    """Cut headers: private elements go, then what is in the groups with the most of them."""
    for path in paths:
        data_set = pydicom.dcmread(path)
        data_set.remove_private_tags()
        tags = [element.tag for element in data_set]
        removable = [tag for tag in tags if tag.group in _CUT_GROUPS and tag not in _NEEDED]
        for tag in removable[: max(0, len(data_set) - elements)]:
            del data_set[tag]
        data_set.save_as(path)


def ours(directory: Path, profile: Profile) -> Tool:
    """Give the engine, as a worker process runs it."""
    settings = EngineSettings(
        policy=Policy(profile),
        vault_path=directory / "vault.db",
        fingerprint_path=directory / "vault.fingerprint",
        directory=directory,
        implementation=Implementation("2.25.1", "BENCH"),
    )

    def decode(*_: object) -> object:
        raise AssertionError("nothing is decoded here")

    engine = Engine(settings, decode=decode)

    def run(source: Path, target: Path) -> None:
        from pacs.dataset.part10 import read_file_meta

        with source.open("rb") as file:
            meta = read_file_meta(file)
            length = os.fstat(file.fileno()).st_size - meta.data_set_offset
            output = os.open(target, os.O_CREAT | os.O_RDWR, 0o600)
            engine.deidentify(file.fileno(), meta.data_set_offset, length, meta.transfer_syntax_uid, output)
            os.close(output)

    return run


def dicognito(_: Path) -> Tool:
    """Give dicognito's anonymizer."""
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer(seed="bench")

    def run(source: Path, target: Path) -> None:
        data_set = pydicom.dcmread(source)
        anonymizer.anonymize(data_set)
        data_set.save_as(target)

    return run


def dicom_anonymizer(_: Path) -> Tool:
    """Give dicom-anonymizer's function."""
    from dicomanonymizer import anonymize_dataset

    def run(source: Path, target: Path) -> None:
        data_set = pydicom.dcmread(source)
        anonymize_dataset(data_set, delete_private_tags=True)
        data_set.save_as(target)

    return run


class AnonymizingOrthanc(Peer):
    """Orthanc with its REST API, on this machine alone."""

    def command(self) -> Sequence[str]:
        config = self.directory / "orthanc.json"
        config.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(self.directory / "data"),
                    "IndexDirectory": str(self.directory / "data"),
                    "DicomServerEnabled": False,
                    "HttpPort": self.port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "OverwriteInstances": True,
                    "Plugins": [],
                }
            )
        )
        return ["/usr/sbin/Orthanc", str(config)]

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """Ask it; with a body it is a POST."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=body, timeout=600) as reply:
            answer: bytes = reply.read()
            return answer

    def anonymize(self, source: Path, target: Path) -> None:
        """De-identify one object."""
        found = json.loads(self.ask("/instances", source.read_bytes()))
        target.write_bytes(self.ask(f"/instances/{found['ID']}/anonymize", b'{"Force": true}'))


def measure_orthanc(sources: list[Path], objects: list[tuple[Path, int]], directory: Path) -> None:
    """Print its line: it has the series already, and keeps the anonymized one beside it."""
    orthanc = AnonymizingOrthanc("orthanc", directory / "orthanc")
    orthanc.start()
    try:
        for source in sources:
            orthanc.ask("/instances", source.read_bytes())
        (series,) = json.loads(orthanc.ask("/series"))
        cpu_s, wall_s = orthanc.cpu_s(), time.perf_counter()
        orthanc.ask(f"/series/{series}/anonymize", b'{"Synchronous": true, "KeepSource": true}')
        show("Orthanc", len(sources), orthanc.cpu_s() - cpu_s, time.perf_counter() - wall_s)
        show_verdict("Orthanc", judge(orthanc.anonymize, objects, directory / "orthanc-adversarial"))
    finally:
        orthanc.stop()


def show(name: str, count: int, cpu_s: float, wall_s: float) -> None:
    """Print how fast it was."""
    print(f"{name:28} {count / cpu_s:8.0f} images/s of CPU {count / wall_s:8.0f} images/s", flush=True)


def show_verdict(name: str, verdict: Verdict) -> None:
    """Print what it has left."""
    print(f"{name:28} {verdict.violations:8} violations, {verdict.refused} objects refused", flush=True)


def measure(name: str, tool: Tool, sources: list[Path], directory: Path) -> None:
    """Print one line."""
    directory.mkdir()
    for number, source in enumerate(sources[:WARM_UP]):
        tool(source, directory / f"w{number}.dcm")
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for number, source in enumerate(sources):
        tool(source, directory / f"{number}.dcm")
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    show(name, len(sources), cpu_s, wall_s)


def main() -> None:
    """Measure all of them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root)
        (directory / "in").mkdir()
        sources = make_series(directory / "in", count)
        if len(sys.argv) > 2:
            shorten(sources, int(sys.argv[2]))
        (directory / "adversarial").mkdir()
        objects = make_objects(directory / "adversarial")
        for profile in Profile:
            measure(f"ours, {profile.value}", ours(directory, profile), sources, directory / profile.value)
        tools = {"ours": ours(directory, Profile.BASIC), "dicognito": dicognito(directory)}
        tools["dicom-anonymizer"] = dicom_anonymizer(directory)
        for name, tool in tools.items():
            if name != "ours":
                measure(name, tool, sources, directory / name)
            show_verdict(name, judge(tool, objects, directory / f"{name}-adversarial"))
        measure_orthanc(sources, objects, directory)


if __name__ == "__main__":
    main()
