"""
What the tests of the index share.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from pacs.archive.index.database import connect_reader
from tests.unit.archive.filled import fill


@pytest.fixture(scope="package")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """Give a reader's connection to the filled index."""
    path = tmp_path_factory.mktemp("index") / "index.db"
    fill(path)
    with closing(connect_reader(path)) as connection:
        yield connection
