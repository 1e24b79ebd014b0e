"""Which route a path means."""

from __future__ import annotations

import pytest

from pacs.web.paths import PathTable

TEMPLATES = ("/a", "/a/{uid}", "/a/active", "/a/{uid}/b", "/{x}/{y}/c", "/")


@pytest.fixture
def table() -> PathTable[str]:
    table: PathTable[str] = PathTable()
    for template in TEMPLATES:
        assert table.add(template, template)
    return table


@pytest.mark.parametrize(
    ("path", "template", "values"),
    [
        ("/a", "/a", {}),
        ("/", "/", {}),
        ("/a/1.2", "/a/{uid}", {"uid": "1.2"}),
        ("/a/active", "/a/active", {}),
        ("/a/x/b", "/a/{uid}/b", {"uid": "x"}),
        ("/a/x/c", "/{x}/{y}/c", {"x": "a", "y": "x"}),
    ],
)
def test_a_path_is_found_with_its_values(table: PathTable[str], path: str, template: str, values: object) -> None:
    assert table.find(path.encode()) == (template, values)


@pytest.mark.parametrize("path", ["/b", "/a/", "/a//b", "/a/x/d", "/a/x/b/"])
def test_other_paths_are_not_found(table: PathTable[str], path: str) -> None:
    assert table.find(path.encode()) is None


@pytest.mark.parametrize("template", ["/a/{id...}", "/a/x{uid}"])
def test_a_parameter_that_is_no_whole_segment_is_left_to_others(template: str) -> None:
    assert not PathTable[str]().add(template, template)
