"""
Each filter of the REST API's lists by itself, and none, with each order, from the beginning and from the middle: the
paths that `python -m bench.rest matrix` asks for, in pages of 1,000, of the archive that `bench.generate_index` makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final
from urllib.parse import urlencode

from bench.generate_index import SERIES_OF_A_STUDY, STUDIES, study_uid
from pacs.archive.attributes import Level
from pacs.archive.index.listing import COLUMNS
from pacs.web.filters import FILTERS
from pacs.web.routes import LARGEST_PAGE
from pacs.web.schema import DATE

RESOURCES: Final = {"patients": Level.PATIENT, "studies": Level.STUDY, "series": Level.SERIES}
MIDDLE: Final = {
    Level.PATIENT: STUDIES // 2,
    Level.STUDY: STUDIES // 2,
    Level.SERIES: STUDIES * SERIES_OF_A_STUDY // 2,
}
_NUMBERS: Final = ("L0004711", "L00*", "L*", "*99")
_DAYS: Final = ("20110203", "20050101-", "-20061231", "20050101-20061231")
VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "patient_id": _NUMBERS,
    "patient_name": ("LARGE04711*", "large00*", "L*", "*PATIENT", "nobody"),
    "issuer": ("nobody", "*a*"),
    "birth_date": ("19700101", "19710101", "19600101-", "-19691231", "19600101-19801231"),
    "sex": ("O", "F", "?"),
    "study_instance_uid": (study_uid(4711),),
    "study_date": _DAYS,
    "study_time": ("120000", "12", "0800-1759", "-1159", "00-"),
    "accession_number": _NUMBERS,
    "study_id": _NUMBERS,
    "study_description": ("Abdomen", "Abd*", "*dom*", "x*"),
    "referring_physician": ("nobody", "*a*"),
    "modality": ("CT", "C*", "*T", "MR"),
    "modalities_in_study": ("CT", "C*", "MR"),
    "num_series": ("1", "0"),
    "num_instances": ("50", "0"),
    "size_bytes": ("0",),
    "series_instance_uid": (f"{study_uid(4711)}.1",),
    "series_number": ("1", "7"),
    "series_description": ("x*", "*x*"),
    "series_date": ("20110203", "20050101-"),
    "body_part_examined": ("CHEST", "*H*"),
    "protocol_name": ("x*", "*x*"),
    "station_name": ("x*", "*x*"),
}
"""What each filter is asked for: what one, some, all and none have. The ends of dates are filters of their own."""


def paths(resource: str) -> Iterator[str]:
    """Give what is asked for of a resource."""
    level = RESOURCES[resource]
    orders = ("", *COLUMNS[level], *(f"-{name}" for name in COLUMNS[level]))
    for query, sort, offset in product(_queries(level), orders, (0, MIDDLE[level])):
        paging = {"limit": str(LARGEST_PAGE), "offset": str(offset)} | ({"sort": sort} if sort else {})
        yield f"{resource}?{urlencode(query | paging, safe='*')}"


def _queries(level: Level) -> Iterator[dict[str, str]]:
    yield {}
    for item in FILTERS[level]:
        for value in VALUES[item.name]:
            low, dash, high = value.partition("-")
            if item.type is DATE and dash:
                ends = {f"{item.name}_from": low, f"{item.name}_to": high}
                yield {name: end for name, end in ends.items() if end}
            else:
                yield {item.name: value}
