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


@pytest.mark.parametrize(
    ("path", "template", "value"),
    [("/p/x", "/p/{id...}", "x"), ("/p/%2Fx", "/p/{id...}", "/x"), ("/p/x%2Fb", "/p/{id...}", "x/b"),
     ("/p/%2Fx%2F/b", "/p/{id...}/b", "/x/")],
)  # fmt: skip
def test_a_slash_that_is_quoted_ends_no_segment(path: str, template: str, value: str) -> None:
    table: PathTable[str] = PathTable()
    for each in ("/p/{id...}", "/p/{id...}/b"):
        assert not table.add(each, each)
    assert table.find(path.encode()) == (template, {"id": value})
    assert table.find(b"/p/x/y") is None  # as it is, it is left to others
