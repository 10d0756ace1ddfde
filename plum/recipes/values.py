"""What a column's values look like: ids, numbers, times, text or lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from plum.data.missing import is_missing

MOST = 0.95
"""Share of the values that must look alike for the column to count as of their kind."""
MIXED = "mixed"
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
EARLIEST, LATEST = 315_532_800, 4_102_444_800
"""1980 and 2100 in seconds: numbers in between may be times of interactions."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:?\d\d.*)?")
_DATE = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}([ ,T].*)?|([A-Za-z]{3,9},? ){1,2}\d{1,2}:?.*\d{2,4}.*")
_YYYYMMDD = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(\d{6})?")


@dataclass(frozen=True)
class Look:
    """A summary of a column.

    Attributes:
        name: of the column.
        kind: ``empty``, ``integer``, ``number``, ``boolean``, ``time``, ``other date`` (one that plum does not read),
            ``text``, ``list`` or ``object``.
        unit: of a time: a key of ``UNITS``, ``iso``, or ``typed`` for a column of that type; ``mixed`` if values of one
            column have different units.
        n_present: values that are there.
        n_distinct: different ones.
        low, high: of numbers.
        length: mean characters of a value.
        example: the first value, shortened.
    """

    name: str
    kind: str
    n_present: int = 0
    n_distinct: int = 0
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    length: float = 0.0
    example: str = ""

    @property
    def is_id(self) -> bool:
        """Whether the values may be ids: whole numbers or short text."""
        return self.kind in ("integer", "boolean") or (self.kind == "text" and self.length <= 64)

    @property
    def repeats(self) -> bool:
        """Whether values come again, as those of users and items in a log do, and an event's own id does not."""
        return self.n_distinct < 0.98 * self.n_present or self.n_present < 20

    def in_words(self) -> str:
        """What the column holds, for a table: ``"943 values, such as 196"``."""
        if self.kind == "empty":
            return "empty"
        if self.kind in ("time", "other date"):
            return f"times ({'dates' if self.unit in ('iso', 'typed', '') else self.unit}), such as {self.example}"
        return f"{self.n_distinct:,} different values, such as {self.example}"


def look(name: str, values: Sequence[Any]) -> Look:
    """Look at the values of a column: text, or what Parquet and JSON hold."""
    present = [value for value in values if not is_missing(value)]
    if not present:
        return Look(name, "empty")
    texts = [id_text(value) for value in present]
    distinct = len(set(texts))
    shown = texts[0] if len(texts[0]) <= 32 else texts[0][:29] + "..."
    length = sum(map(len, texts)) / len(texts)
    kind, unit, low, high = _kind(present, texts)
    return Look(name, kind, len(present), distinct, unit, low, high, length, shown)


def id_text(value: Any) -> str:
    """A value as the readers write an id: trimmed text, the number 12.0 as 12."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def is_literal_list(value: Any) -> bool:
    """Whether a text is a list or an object in the syntax of JSON or Python, or a set as PostgreSQL writes it."""
    return isinstance(value, str) and value.strip()[:1] in ("[", "{") and value.strip()[-1:] in ("]", "}")


def _kind(present: Sequence[Any], texts: Sequence[str]) -> tuple[str, str, float, float]:
    """Kind, unit of a time, lowest and highest number."""
    for types, kind in (((list, tuple), "list"), ((dict,), "object"), ((bool,), "boolean")):
        if _share(isinstance(value, types) for value in present) >= MOST:
            return kind, "", 0.0, 0.0
    if _share(isinstance(value, date | datetime) for value in present) >= MOST:
        return "time", "typed", 0.0, 0.0
    numbers = [float(text) for text in texts if _NUMBER.fullmatch(text)]
    if len(numbers) >= MOST * len(texts):
        return _number_kind(numbers, texts)
    if _share(bool(_ISO.fullmatch(text)) for text in texts) >= MOST:
        return "time", "iso", 0.0, 0.0
    if _share(bool(_DATE.fullmatch(text)) for text in texts) >= MOST:
        return "other date", "", 0.0, 0.0
    return "text", "", 0.0, 0.0


def _number_kind(numbers: Sequence[float], texts: Sequence[str]) -> tuple[str, str, float, float]:
    low, high = min(numbers), max(numbers)
    if _share(bool(_YYYYMMDD.fullmatch(text)) for text in texts) >= MOST:
        return "other date", "", low, high
    for unit in UNITS:
        if _share(_unit_of(number) == unit for number in numbers) >= MOST:
            return "time", unit, low, high
    if low > 0 and _share(_unit_of(number) is not None for number in numbers) >= MOST:
        return "other date", MIXED, low, high
    whole = _share(number == int(number) for number in numbers if abs(number) < 1 << 53) >= 1.0
    return "integer" if whole else "number", "", low, high


def _unit_of(number: float) -> str | None:
    """The unit in which a number is a time between 1980 and 2100, if there is one; no two units fit."""
    return next((unit for unit, scale in UNITS.items() if EARLIEST * scale <= number <= LATEST * scale), None)


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / len(found) if found else 0.0
