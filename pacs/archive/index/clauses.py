"""
From a condition of a query to a clause of a statement: its form, which a prepared statement is found by, and its
parameters, which differ from query to query.

A pattern that begins with letters becomes a range on the column as well, so that an index finds it; SQLite and
PostgreSQL (in the collation "C") read such a range alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import gmtime
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    UnaryExpression,
    and_,
    bindparam,
    func,
    literal_column,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy.sql.operators import custom_op

from pacs.archive.attributes import Level, Matching
from pacs.archive.index.schema import INSTANCES, PATIENTS, SERIES, STUDIES
from pacs.archive.keys import BY_TAG, MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY
from pacs.archive.names import ANY_GROUP, name_patterns
from pacs.archive.query import AnyOf, Condition, Count, Equals, Name, Number, Period, Range, Wildcard

TABLES: Final = {Level.PATIENT: PATIENTS, Level.STUDY: STUDIES, Level.SERIES: SERIES, Level.IMAGE: INSTANCES}

_ESCAPE: Final = "!"
_LAST_CHARACTER: Final = "\U0010ffff"
_BACKSLASH: Final[ColumnElement[str]] = literal_column("'\\'")
_LARGEST_LIST: Final = 1024
MANY_YEARS: Final = 6
TIME_DIGITS: Final = 6
_LAST_TIME: Final = "98" + _LAST_CHARACTER

MULTIPLE: Final = frozenset(
    tag
    for tag, attribute in BY_TAG.items()
    if attribute.column
    in ("image_type", "reading_physicians", "performing_physician", "operators_name", "admitting_diagnoses")
) | {MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY}
"""Attributes of several values: a column has them with backslashes between them."""

_NAME_GROUPS: Final[Mapping[int, tuple[ColumnElement[str], ...]]] = {
    0x00100010: (
        PATIENTS.c.patient_name_search,
        PATIENTS.c.patient_name_ideographic,
        PATIENTS.c.patient_name_phonetic,
    )
}
"""Names with a column for each component group, each with the groups behind it."""


class Clause(NamedTuple):
    """
    The form of a clause.

    Attributes:
        kind: a key of `_BUILDERS`.
        tags: of the attributes that it looks at.
        forms: of its parts, in the order of their parameters.
    """

    kind: str
    tags: tuple[int, ...]
    forms: tuple[str, ...] = ()


class Bound(NamedTuple):
    """A clause with its parameters; `is_exact` is not set when more rows may come than match."""

    clause: Clause
    parameters: tuple[str, ...]
    is_exact: bool = True


Take = Callable[[], Any]
"""Gives the next parameter of a statement."""


def column_of(tag: int) -> ColumnElement[Any]:
    """Give the column of an attribute of the index."""
    if tag == MODALITIES_IN_STUDY:
        return STUDIES.c.modalities_in_study
    if tag == SOP_CLASSES_IN_STUDY:
        return STUDIES.c.sop_classes_in_study
    attribute = BY_TAG[tag]
    column: ColumnElement[Any] = TABLES[attribute.level].c[attribute.column]
    return column


def search_column_of(tag: int) -> ColumnElement[Any]:
    """Give the column in which a name has its search form."""
    attribute = BY_TAG[tag]
    column: ColumnElement[Any] = TABLES[attribute.level].c[f"{attribute.column}_search"]
    return column


_EQUALS: Final = {tag: Clause("text", (tag,), ("equals",)) for tag in BY_TAG if tag not in MULTIPLE}
"""Single value matching, which most queries are."""


# -- binding: from a condition to its form and parameters


def bind(condition: Condition) -> Bound | None:
    """Give a condition on attributes of the index as a clause, or None when only looking at each row tells."""
    if isinstance(condition, Equals):
        clause = _EQUALS.get(condition.tag)
        if clause is not None and not _is_pattern(condition.value):
            return Bound(clause, (condition.value,))
    if isinstance(condition, Name):
        return _bind_name(condition)
    if isinstance(condition, Range):
        return _bind_range(condition)
    if isinstance(condition, Period):
        return _bind_period(condition)
    if isinstance(condition, Number):
        plain = tuple(value.lstrip("0") for value in condition.values)
        return Bound(Clause("number", (condition.tag,), ("",) * len(plain)), plain)
    if isinstance(condition, Count):
        return Bound(Clause("count", (condition.tag,), (condition.column,)), (str(condition.value),))
    if isinstance(condition, Equals | AnyOf | Wildcard):
        return _bind_text(condition.tag, _values(condition))
    return None


def _values(condition: Equals | AnyOf | Wildcard) -> tuple[str, ...]:
    if isinstance(condition, AnyOf):
        return condition.values
    return (condition.pattern,) if isinstance(condition, Wildcard) else (condition.value,)


def _bind_text(tag: int, values: tuple[str, ...]) -> Bound:
    attribute = BY_TAG.get(tag)
    is_uid = attribute is not None and attribute.matching is Matching.UID
    if tag in MULTIPLE:
        patterns = tuple(f"%\\{_like_pattern(value)}\\%" for value in values)
        return Bound(Clause("several", (tag,), ("",) * len(values)), patterns, not any(map(_may_cross, values)))
    plain = [value for value in values if is_uid or not _is_pattern(value)]
    forms: list[str] = []
    parameters: list[str] = []
    if len(plain) == 1:
        forms.append("equals")
        parameters += plain
    elif plain:
        size = min(size for size in (2**n for n in range(1, 12)) if size >= len(plain))
        forms.append(f"in{size}")
        parameters += plain + plain[-1:] * (size - len(plain))
    for value in values:
        if value not in plain:
            form, found = _bind_pattern(value)
            forms.append(form)
            parameters += found
    return Bound(Clause("text", (tag,), tuple(forms)), tuple(parameters))


def _is_pattern(value: str) -> bool:
    return "*" in value or "?" in value


def _may_cross(value: str) -> bool:
    """Whether a pattern could reach from one of several values into the next."""
    return "?" in value or "*" in value.strip("*")


def _bind_pattern(pattern: str) -> tuple[str, list[str]]:
    beginning = pattern.partition("*")[0].partition("?")[0]
    if not beginning:
        return "like", [_like_pattern(pattern)]
    if pattern == beginning + "*":
        return "beginning", [beginning, beginning + _LAST_CHARACTER]
    return "beginning_like", [beginning, beginning + _LAST_CHARACTER, _like_pattern(pattern)]


def _like_pattern(pattern: str) -> str:
    """Give the LIKE pattern of a key's value: "*" and "?" are wild cards, everything else means itself."""
    escaped = pattern.replace(_ESCAPE, _ESCAPE * 2).replace("%", f"{_ESCAPE}%").replace("_", f"{_ESCAPE}_")
    return escaped.replace("*", "%").replace("?", "_")


def _bind_name(condition: Name) -> Bound | None:
    if condition.is_fuzzy and not all(map(_is_pattern, condition.keys)):
        return None
    tag = condition.tag
    forms: list[str] = []
    parameters: list[str] = []
    if tag not in _NAME_GROUPS:
        for key in condition.keys:
            for place, text in name_patterns(key):
                like = _like_pattern(text)
                befores = ("\\", "=") if place else ("\\",)
                forms.append("any" if place else "first")
                parameters.append(f"%{like}%")
                parameters += [f"%{before}{like}{behind}%" for before in befores for behind in ("\\", "=")]
        return Bound(Clause("several_names", (tag,), tuple(forms)), tuple(parameters), is_exact=False)
    for key in condition.keys:
        for place, text in name_patterns(key):
            form, found = _bind_name_pattern(text)
            if place == ANY_GROUP and form == "like":
                forms.append("*like")
                parameters += [f"%{found[0]}%", *found * 3]
            elif place == ANY_GROUP:
                forms += (f"0{form}", f"1{form}", f"2{form}")
                parameters += found * 3
            else:
                forms.append(f"{place}{form}")
                parameters += found
    return Bound(Clause("name", (tag,), tuple(forms)), tuple(parameters))


def _bind_name_pattern(text: str) -> tuple[str, list[str]]:
    """Give the form of a pattern that may be followed by other component groups."""
    if not _is_pattern(text):
        return "equals", [text, text + "=", text + ">"]  # ">" comes behind "="
    form, parameters = _bind_pattern(text)
    return form, [*parameters, _like_pattern(text) + "=%"] if form != "beginning" else parameters


def _bind_range(condition: Range) -> Bound:
    forms = ("unknown",) if condition.matches_unknown else ()
    if condition.kind is Matching.DATE:
        parameters = _date_parameters(condition)
        if parameters[0][:4] != parameters[1][:4] and not condition.matches_unknown:
            if _has_many_years(condition):
                return Bound(Clause("date", (condition.tag,), ("many years",)), parameters)
            return Bound(Clause("date", (condition.tag,), ("years",)), (parameters[2], parameters[1], *parameters))
        return Bound(Clause("date", (condition.tag,), forms), parameters)
    return _bind_time(condition, forms)


def _bind_time(condition: Range, forms: tuple[str, ...]) -> Bound:
    """Give a range of times; those of less precision that begin with its beginning are named one by one."""
    low, high = condition.low or "000000", condition.high or _LAST_TIME
    beginnings: list[str] = []
    if len(low) == TIME_DIGITS and low <= high:
        beginnings = [low[:count] for count in range(1, TIME_DIGITS) if not low[count:].strip("0")]
    if beginnings:
        forms += ("beginnings",)
        beginnings += beginnings[-1:] * (TIME_DIGITS - 1 - len(beginnings))
    return Bound(Clause("time", (condition.tag,), forms), (low, high, *beginnings, low, high))


def _has_many_years(condition: Range) -> bool:
    """Whether a range of dates has so much of an archive that its index would only be a detour."""
    this_year = gmtime().tm_year
    first, last = (int(end[:4]) if end[:4].isdigit() else 0 for end in (condition.low, condition.high))
    return min(last or this_year, this_year) - first >= MANY_YEARS


def _date_parameters(condition: Range) -> tuple[str, ...]:
    low, high = condition.low or "00000000", condition.high or "99999999"
    return (low, high, *(f"{end[:4]}.{end[4:6]}.{end[6:]}" for end in (low, high)))


def _bind_period(condition: Period) -> Bound:
    date, time = condition.date, condition.time
    low = date.low + (time.low or "000000") if date.low else "0"
    high = date.high + (time.high or "99") if date.high else "9" * 9
    return Bound(Clause("period", (date.tag, time.tag)), (*_date_parameters(date), low, high))


# -- building: from a form to SQL


def build(clause: Clause, take: Take) -> ColumnElement[bool]:
    """Give the SQL of a clause; `take` makes its parameters, in the order in which they were bound."""
    return _BUILDERS[clause.kind](clause, take)


def without_index(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Give what SQLite takes for the same value and looks up in no index: a plus before it, which changes no text."""
    return UnaryExpression(column, operator=custom_op("+"))


def _like(column: ColumnElement[str], pattern: Any) -> ColumnElement[bool]:
    return column.like(pattern, escape=_ESCAPE)


def _text(clause: Clause, take: Take) -> ColumnElement[bool]:
    column = column_of(clause.tags[0])
    return or_(*(_text_part(column, form, take) for form in clause.forms))


def _text_part(column: ColumnElement[Any], form: str, take: Take) -> ColumnElement[bool]:
    if form == "equals":
        return and_(column == take())
    if form.startswith("in"):
        return column.in_([take() for _ in range(int(form[2:]))])
    if form == "like":
        return _like(column, take())
    within = and_(column >= take(), column < take())
    return and_(within, _like(column, take())) if form == "beginning_like" else within


def _several(clause: Clause, take: Take) -> ColumnElement[bool]:
    """Match one of the values that an attribute has."""
    values = _BACKSLASH.concat(column_of(clause.tags[0])).concat(_BACKSLASH)
    return or_(*(_like(values, take()) for _ in clause.forms))


def _several_names(clause: Clause, take: Take) -> ColumnElement[bool]:
    """Match one of the names that an attribute has; what none can match is told by one look at the whole text."""
    column = search_column_of(clause.tags[0])
    values = _BACKSLASH.concat(column).concat(_BACKSLASH)
    parts = []
    for form in clause.forms:
        is_near = _like(column, take())
        parts.append(and_(is_near, or_(*(_like(values, take()) for _ in range(4 if form == "any" else 2)))))
    return or_(*parts)


def _name(clause: Clause, take: Take) -> ColumnElement[bool]:
    """
    Match a name with a column for each group.

    Where every part is a range of an index, the parts are selected one by one: left to itself a planner takes so many
    ranges for a reason to read the whole table.
    """
    keys = keys_by_name(clause, take)
    if keys is not None:
        key: ColumnElement[int] = TABLES[BY_TAG[clause.tags[0]].level].c.pk
        return key.in_(keys)
    groups = _NAME_GROUPS[clause.tags[0]]
    parts = []
    for form in clause.forms:
        if form == "*like":
            parts.append(_name_anywhere(groups, take))
        else:
            parts.append(_name_part(groups[int(form[0])], form[1:], take))
    return or_(*parts)


def keys_by_name(clause: Clause, take: Take) -> CompoundSelect[Any] | None:
    """
    Give the keys of a name's matches, perhaps several times, where every part of the clause is a range of an index;
    else None, and nothing was taken.
    """
    if clause.kind != "name" or any(form[1:] == "like" for form in clause.forms):
        return None
    groups = _NAME_GROUPS[clause.tags[0]]
    table = TABLES[BY_TAG[clause.tags[0]].level]
    parts: list[Select[Any]] = []
    for form in clause.forms:
        column, kind = groups[int(form[0])], form[1:]
        if kind == "equals":
            parts.append(select(table.c.pk).where(column == take()))
            parts.append(select(table.c.pk).where(column >= take(), column < take()))
        else:
            parts.append(select(table.c.pk).where(_name_part(column, kind, take)))
    return union_all(*parts)


def _name_anywhere(groups: Sequence[ColumnElement[str]], take: Take) -> ColumnElement[bool]:
    """Match any of the groups; what no group can match is told by one look at the whole name."""
    return and_(_like(groups[0], take()), or_(*(_like(group, take()) for group in groups for _ in range(2))))


def _name_part(column: ColumnElement[str], form: str, take: Take) -> ColumnElement[bool]:
    if form == "like":
        return or_(_like(column, take()), _like(column, take()))
    within = and_(column >= take(), column < take())
    return and_(within, or_(_like(column, take()), _like(column, take()))) if form == "beginning_like" else within


def _number(clause: Clause, take: Take) -> ColumnElement[bool]:
    """Leading zeros do not count (PS3.5 6.2, IS)."""
    column = column_of(clause.tags[0])
    return and_(
        column != literal_column("''"), func.ltrim(column, literal_column("'0'")).in_([take() for _ in clause.forms])
    )


def _count(clause: Clause, take: Take) -> ColumnElement[bool]:
    """Compare a number that the index keeps; a parameter that is a text is made one by the column's affinity."""
    column: ColumnElement[Any] = TABLES[BY_TAG[clause.tags[0]].level].c[clause.forms[0]]
    return and_(column == take())


def _date(clause: Clause, take: Take) -> ColumnElement[bool]:
    """
    Match dates, those with points of old objects too (PS3.5 6.2, DA); a text that is no date is in no range.

    A range over years is one range of an index, from its beginning with points to its end without: "." comes before
    the digits. Within a year that would be most of the year, so that there are two. Many years are looked at row by
    row.
    """
    column = column_of(clause.tags[0])
    within: tuple[ColumnElement[bool], ...] = ()
    if "many years" in clause.forms:
        column = without_index(column)
    elif "years" in clause.forms:
        within = (column.between(take(), take()),)
    parts = [
        and_(column.between(take(), take()), func.length(column) == literal_column("8")),
        and_(column.between(take(), take()), column.like(literal_column("'____.__.__'"))),
    ]
    if "unknown" in clause.forms:
        parts.append(column == literal_column("''"))
    return and_(*within, or_(*parts))


def _padded_time(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Times of any precision; one without seconds or minutes is their beginning."""
    digits = func.replace(column, literal_column("':'"), literal_column("''"))
    zeros = func.substr(literal_column("'000000'"), func.length(digits) + literal_column("1"))
    padded: ColumnElement[str] = digits.concat(zeros)
    return padded


def _time(clause: Clause, take: Take) -> ColumnElement[bool]:
    """
    Match times as they are stored where that tells, as nearly all do; only those with colons are padded row by row.

    One of less precision is less than its padded form, and on the same side of every end but its padded form itself.
    """
    column = column_of(clause.tags[0])
    has_colons = _like(column, literal_column("'%:%'"))
    within: ColumnElement[bool] = column.between(take(), take())
    if "beginnings" in clause.forms:
        within = or_(within, column.in_([take() for _ in range(TIME_DIGITS - 1)]))
    padded = _padded_time(column)
    inside = or_(and_(within, not_(has_colons)), and_(has_colons, padded >= take(), padded <= take()))
    return or_(inside, column == literal_column("''")) if "unknown" in clause.forms else inside


def _period(clause: Clause, take: Take) -> ColumnElement[bool]:
    date, time = map(column_of, clause.tags)
    empty: ColumnElement[str] = literal_column("''")
    near = _date(Clause("date", clause.tags[:1], ("unknown",)), take)
    moment = func.replace(date, literal_column("'.'"), empty).concat(_padded_time(time))
    return and_(near, or_(date == empty, time == empty, and_(moment >= take(), moment <= take())))


_BUILDERS: Final[Mapping[str, Callable[[Clause, Take], ColumnElement[bool]]]] = {
    "text": _text,
    "several": _several,
    "several_names": _several_names,
    "name": _name,
    "number": _number,
    "count": _count,
    "date": _date,
    "time": _time,
    "period": _period,
}


class Parameters:
    """Makes the parameters of a statement, each with its place as name."""

    def __init__(self) -> None:
        self.count = 0

    def take(self) -> Any:
        """Give the next."""
        self.count += 1
        return bindparam(f"p{self.count - 1}")


def named(parameters: Sequence[str]) -> dict[str, str]:
    """Give parameters by the names that `Parameters` gives them."""
    return {f"p{i}": value for i, value in enumerate(parameters)}
