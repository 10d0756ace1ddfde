"""What a column's values look like: ids, numbers, times, text or lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from plum.data import rows
from plum.data.times import TEXT, ZONED, read_times
from plum.errors import PlumError

MOST = 0.95
"""Share of the values that must look alike for the column to count as of their kind."""
MISSING = frozenset(rows.MISSING.to_pylist())
"""Ways to write "no value", as the readers know them."""
MIXED = "mixed"
_FEW = 200
"""Values that are tried before all of a column are read as times."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}([ ,T].*)?|([A-Za-z]{3,9},? ){1,2}\d{1,2}:?.*\d{2,4}.*")


@dataclass(frozen=True)
class Look:
    """A summary of a column.

    Attributes:
        name: of the column.
        kind: ``empty``, ``integer``, ``number``, ``boolean``, ``time``, ``other date`` (one that plum does not read),
            ``text``, ``list`` or ``object``.
        unit: of a time, as the reader of times tells it: ``s``, ``YYYYMMDD``, ..., ``iso`` for text, ``typed`` for a
            column of that type, ``mixed`` if there are several.
        n_present: values that are there.
        n_distinct: different ones.
        low, high: of numbers.
        length: mean characters of a value.
        example: the first value, shortened.
        refusal: why the values can't be read as times, and what to do, if they may well be times.
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
    refusal: tuple[str, str] | None = None

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
    present = [value for value in values if not _is_missing(value)]
    if not present:
        return Look(name, "empty")
    texts = [id_text(value) for value in present]
    distinct = len(set(texts))
    shown = texts[0] if len(texts[0]) <= 32 else texts[0][:29] + "..."
    length = sum(map(len, texts)) / len(texts)
    kind, unit, low, high, refusal = _kind(present, texts)
    return Look(name, kind, len(present), distinct, unit, low, high, length, shown, refusal)


def id_text(value: Any) -> str:
    """A value as the readers write an id: trimmed text, the number 12.0 as 12."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def is_literal_list(value: Any) -> bool:
    """Whether a text is a list or an object in the syntax of JSON or Python, or a set as PostgreSQL writes it."""
    return isinstance(value, str) and value.strip()[:1] in ("[", "{") and value.strip()[-1:] in ("]", "}")


def _is_missing(value: Any) -> bool:
    if value is None or (isinstance(value, float) and value != value):
        return True
    return isinstance(value, str) and value.strip() in MISSING


_Refusal = tuple[str, str] | None


def _kind(present: Sequence[Any], texts: Sequence[str]) -> tuple[str, str, float, float, _Refusal]:
    """Kind, unit of a time, lowest and highest number, and why it is no time."""
    for types, kind in (((list, tuple), "list"), ((dict,), "object"), ((bool,), "boolean")):
        if _share(isinstance(value, types) for value in present) >= MOST:
            return kind, "", 0.0, 0.0, None
    if _share(isinstance(value, date | datetime) for value in present) >= MOST:
        return "time", "typed", 0.0, 0.0, None
    unit, refusal = _as_time(texts)
    numbers = [float(text) for text in texts if _NUMBER.fullmatch(text)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 0.0)
    if unit:
        return "time", unit, low, high, None
    if len(numbers) >= MOST * len(texts):
        whole = _share(number == int(number) for number in numbers if abs(number) < 1 << 53) >= 1.0
        return "integer" if whole else "number", "", low, high, refusal
    if refusal or _share(bool(_DATE.fullmatch(text)) for text in texts) >= MOST:
        return "other date", "", 0.0, 0.0, refusal
    return "text", "", 0.0, 0.0, None


def _as_time(texts: Sequence[str]) -> tuple[str, _Refusal]:
    """The form of times, blank if these values are none, and why they can't be read if they may be times."""
    for some in (texts[:_FEW], texts):
        column = pa.chunked_array([pa.array(some, pa.string())])
        try:
            times = read_times(column, np.zeros(len(some), bool), "")
        except PlumError as error:
            nothing = error.what.startswith(": no timestamp can be read")
            if some is not texts and not nothing:
                continue  # the others may tell
            return "", None if nothing else (f"{error.what.removeprefix(': ')}, {error.found}", error.fix or "")
        if times.order_only or times.usable.mean() < (MOST if some is texts else 0.5):
            return "", None
    form = next(iter(times.forms)) if len(times.forms) == 1 else MIXED
    return ("iso" if form in (TEXT, ZONED) else form), None


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return sum(found) / len(found) if found else 0.0
