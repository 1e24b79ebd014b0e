"""
Worklist items from files: CSV and JSON with the fields of the JSON form, and the `.wl` files of DCMTK's wlmscpfs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pacs.dataset.elements import read_elements
from pacs.dataset.errors import DataSetError
from pacs.dataset.part10 import PREAMBLE_BYTES, PREFIX, read_file_meta
from pacs.dataset.transfer_syntaxes import TRANSFER_SYNTAXES
from pacs.dataset.values import values_of
from pacs.workflow.errors import WorkflowError
from pacs.workflow.item import WorklistItem, item_from_fields, items_of

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
LONGEST_FILE_BYTES: Final = 64 << 20


class FilesRefused(Exception):
    """
    Files that can't be imported.

    Attributes:
        faults: every one of them, with its place and without patient data.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def read_files(paths: list[Path]) -> list[WorklistItem]:
    """
    Read the items of files, and of the `.wl` files of directories.

    Raises:
        FilesRefused: with every fault; nothing should be imported then.
    """
    items: list[WorklistItem] = []
    faults: list[str] = []
    for path in _files(paths):
        try:
            if path.stat().st_size > LONGEST_FILE_BYTES:
                raise DataSetError(f"longer than {LONGEST_FILE_BYTES} bytes")
            if path.suffix.lower() == ".csv":
                items += _of_rows(path, _csv_rows(path), faults)
            elif path.suffix.lower() == ".json":
                items += _of_rows(path, _json_rows(path), faults)
            else:
                items += items_of_wl(path.read_bytes())
        except (OSError, ValueError, RecursionError, csv.Error, DataSetError, WorkflowError) as error:
            faults.append(f"{path}: {_reason(error)}")
    if faults:
        raise FilesRefused(faults)
    return items


def items_of_wl(data: bytes) -> tuple[WorklistItem, ...]:
    """
    Read a `.wl` file: a Part 10 file, or a bare data set in one of the default encodings.

    Raises:
        DataSetError, WorkflowError: it is none.
    """
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(PREFIX)] == PREFIX:
        meta = read_file_meta(BytesIO(data))
        data, syntax = data[meta.data_set_offset :], meta.transfer_syntax_uid
    else:
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if data[4:6].isalpha() else IMPLICIT_VR_LITTLE_ENDIAN
    elements = read_elements(data, syntax)
    return items_of(values_of(elements, "", "<" if TRANSFER_SYNTAXES[syntax].is_little_endian else ">"))


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*.wl") if file.is_file())
        else:
            yield path


def _of_rows(path: Path, rows: Iterator[tuple[int, dict[str, Any]]], faults: list[str]) -> list[WorklistItem]:
    items: list[WorklistItem] = []
    for number, fields in rows:
        try:
            items.append(item_from_fields(fields))
        except WorkflowError as error:
            faults.append(f"{path}:{number}: {error.comment}")
    return items


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the rows of a table whose first row names the fields; commas, semicolons or tabs between them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        reader = csv.DictReader(file, delimiter=delimiter, restkey="(more values than columns)")
        for row in reader:
            yield reader.line_num, {name.strip(): value for name, value in row.items() if value not in (None, "")}


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the objects of a list, of `{"data": […]}` as the REST interface answers, or the one object."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        content = content.get("data", [content])
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError("a list of objects is needed")
    yield from enumerate(content, 1)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}: {error.msg}"
    return str(error)
