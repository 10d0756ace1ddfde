"""Fields of items, encoded once so that each condition of a rule takes a few milliseconds.

Every kind of column knows its missing values, and answers conditions with a mask (N,) that is false there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.tables import ITEM_COLUMNS
from plum.data.time_numbers import UNITS, unit_of
from plum.errors import PlumError
from plum.rules.language import Condition, Mistake, Value, spell_field, spell_value
from plum.rules.values import fold, moment, nearest, number

logger = logging.getLogger(__name__)

_SMALLEST_EPOCH = 1e7  # in seconds, April 1970: smaller numbers are years, prices or counts, not times
_COMPARED = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_ORDERED = (*_COMPARED, "in")


class Column(Protocol):
    """A field of all N items; ``null`` is the mask (N,) of those without a value."""

    null: np.ndarray

    def test(self, asked: Condition) -> np.ndarray:
        """The items that satisfy a condition: a new mask (N,), false where there is no value.

        Args:
            asked: condition on this field, except ``is null`` and ``is not null``, which ``null`` answers.

        Raises:
            Mistake: for an operator or a value that does not fit this kind of field.
        """
        ...


def make_column(name: str, values: pa.Array | pa.ChunkedArray) -> Column:
    """Make the column of a field's values (N,), of the kind that fits their type.

    Raises:
        PlumError: for types that rules don't support.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return make_column(name, values.cast(kind.value_type))
    if pa.types.is_null(kind):
        if name not in ITEM_COLUMNS:
            return EmptyColumn(len(values))
        kind = pa.list_(pa.string()) if name == "topics" else pa.string()
        values = values.cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return TextColumn(values, exact=name == "item_id")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return ListColumn(values)
    if pa.types.is_boolean(kind):
        return BooleanColumn(values)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return NumberColumn(values)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return DateColumn(values)
    fix = "give text, numbers, booleans, dates or lists of text"
    raise PlumError(f"field {name!r} can't be used in rules", f"type {kind}", fix)


class TextColumn:
    """Text; ``=`` ignores case unless ``exact``, ``has`` (contains) always does."""

    kind = "text"
    example = "has word"

    def __init__(self, values: pa.ChunkedArray | pa.Array, exact: bool = False) -> None:
        self._texts = _one_chunk(values, pa.large_string())
        self._exact = exact
        self.null = _mask(self._texts.is_null())

    def test(self, asked: Condition) -> np.ndarray:
        """See :class:`Column`."""
        if asked.operator == "has":
            return _mask(pc.match_substring(self._folded, fold(asked.values[0].text)))
        if asked.operator not in ("=", "!=", "in"):
            sample = next((text for text in self._texts.to_pylist() if text and number(text) is None), None)
            raise misuse(asked, f"text, such as {sample!r}" if sample else "text", self.example)
        texts = self._texts if self._exact else self._folded
        wanted = [value.text if self._exact else fold(value.text) for value in asked.values]
        hits = _mask(pc.is_in(texts, value_set=pa.array(wanted, pa.large_string())))
        found = set(pc.unique(texts.filter(pa.array(hits))).to_pylist())
        unknown = [value for value, text in zip(asked.values, wanted, strict=True) if text not in found]
        if unknown:
            self._tell(asked.field, unknown)
        return ~hits & ~self.null if asked.operator == "!=" else hits

    @cached_property
    def _folded(self) -> pa.Array:
        """The folded texts: ASCII ones all at once, the others one by one."""
        ascii_only = pc.fill_null(pc.string_is_ascii(self._texts), True)
        lower = pc.ascii_lower(self._texts)
        others = pc.invert(ascii_only)
        folded = [fold(text) for text in self._texts.filter(others).to_pylist()]
        return pc.replace_with_mask(lower, others, pa.array(folded, pa.large_string()))

    def _tell(self, field: str, unknown: Sequence[Value]) -> None:
        """Refuse unknown item ids; warn of other unknown texts, which may be correct but have no item."""
        known = pc.unique(self._texts.drop_null()).to_pylist()
        near = nearest(unknown[0].text, known)
        more = f" (nor {len(unknown) - 1:,} more of these values)" if len(unknown) > 1 else ""
        what = f"no item has {spell_field(field)} = {spell_value(unknown[0].text)}{more}"
        some = ", ".join(map(spell_value, near or known[:3])) or "none at all"
        guess = f"did you mean {some}?" if near else f"there are for example: {some}"
        if self._exact:
            raise Mistake(what, unknown[0].at, guess)
        logger.warning("%s; %s", what, guess)


class ListColumn:
    """Lists of texts, such as topics, stored as the rows of each text."""

    kind = "a list"

    def __init__(self, values: pa.ChunkedArray | pa.Array) -> None:
        lists = _one_chunk(values, pa.large_list(pa.large_string()))
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        rows = np.repeat(np.arange(len(lists)), lengths)
        encoded = lists.flatten().dictionary_encode()
        spellings = encoded.dictionary.to_pylist()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        self._codes: dict[str, int] = {}
        self._spellings: list[str] = []
        for text in spellings:
            if self._codes.setdefault(fold(text), len(self._codes)) == len(self._spellings):
                self._spellings.append(text)
        merged = np.array([self._codes[fold(text)] for text in spellings] + [-1])[codes]  # -1, of a null, stays -1
        order = np.argsort(merged, kind="stable")
        self._rows = rows[order]
        self._starts = np.searchsorted(merged[order], np.arange(len(self._spellings) + 1))
        self.null = np.ones(len(lists), dtype=bool)
        self.null[rows[merged >= 0]] = False

    @property
    def example(self) -> str:
        """A condition that fits this column."""
        return f"has {spell_value(self._spellings[0]) if self._spellings else 'word'}"

    def test(self, asked: Condition) -> np.ndarray:
        """See :class:`Column`."""
        if asked.operator != "has":
            raise misuse(asked, self.kind, self.example)
        value = asked.values[0]
        code = self._codes.get(fold(value.text))
        if code is None:
            near = nearest(value.text, self._spellings)
            some = ", ".join(map(spell_value, near or self._spellings[:8]))
            fix = f"did you mean {some}?" if near else f"there are: {some}" + ", ..." * (len(self._spellings) > 8)
            what = f"no item has {value.text!r} among its {asked.field}"
            raise Mistake(what, value.at, fix if self._spellings else "no item has any")
        mask = np.zeros(len(self.null), dtype=bool)
        mask[self._rows[self._starts[code] : self._starts[code + 1]]] = True
        return mask


class BooleanColumn:
    """True and false."""

    kind = "true or false"
    example = "= true"

    def __init__(self, values: pa.ChunkedArray | pa.Array) -> None:
        truth = _one_chunk(values, pa.bool_())
        self.null = _mask(truth.is_null())
        self._true = _mask(truth)

    def test(self, asked: Condition) -> np.ndarray:
        """See :class:`Column`."""
        if asked.operator == "is true":
            return self._true.copy()
        if asked.operator not in ("=", "!="):
            raise misuse(asked, self.kind, self.example)
        value = asked.values[0]
        if value.text.lower() not in ("true", "false"):
            fix = f"write {spell_field(asked.field)} = true, or = false"
            raise Mistake(f"{asked.field} is true or false, never {value.text!r}", value.at, fix)
        wanted = (value.text.lower() == "true") == (asked.operator == "=")
        return self._true.copy() if wanted else ~self._true & ~self.null


class NumberColumn:
    """Numbers; they compare with dates if they are seconds, or finer units, since 1970."""

    kind = "a number"
    example = ">= 5"

    def __init__(self, values: pa.ChunkedArray | pa.Array) -> None:
        if not pa.types.is_floating(values.type):
            try:
                values = values.cast(pa.int64())
            except pa.ArrowInvalid:  # fractions of decimals, or beyond 63 bits
                values = values.cast(pa.float64(), safe=False)
        numbers = _one_chunk(values, values.type)
        found = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False)
        self.null = _mask(numbers.is_null()) | np.isnan(found)
        self._values = np.where(self.null, 0, found).astype(found.dtype)

    def test(self, asked: Condition) -> np.ndarray:
        """See :class:`Column`."""
        if asked.operator not in _ORDERED:
            raise misuse(asked, self.kind, self.example)
        numbers, spans = [], []
        for value in asked.values:
            written = number(value.text)
            if written is None:
                spans.append(self._span(asked, value))
            else:
                numbers.append(written)
        mask = np.zeros(len(self.null), dtype=bool)
        for low, end in spans:
            mask |= _within(self._values, asked.operator, low, end)
        if numbers:
            mask |= self._compare(asked.operator, numbers)
        return mask & ~self.null

    def _compare(self, operator: str, numbers: list[int | float]) -> np.ndarray:
        values = self._values
        if values.dtype.kind == "f":
            with np.errstate(over="ignore"):  # in the column's own precision: 9.99 finds 9.99
                numbers = [values.dtype.type(float(one)) for one in numbers]
        if operator == "in":
            if values.dtype.kind == "i":
                whole = [int(one) for one in numbers if -(1 << 63) <= one < 1 << 63 and one == int(one)]
                return np.isin(values, np.array(whole, dtype=np.int64))
            return np.isin(values, np.array(numbers, dtype=values.dtype))
        return np.asarray(_COMPARED[operator](values, numbers[0]), dtype=bool)

    def _span(self, asked: Condition, value: Value) -> tuple[float, float]:
        """Start and end of a date in the column's unit.

        Raises:
            Mistake: for a value that is no date either, or a column whose numbers are no times.
        """
        span = moment(value.text)
        if span is None:
            fix = f"for example: {spell_field(asked.field)} {self.example}"
            raise Mistake(f"{asked.field} is a number, and {value.text!r} is none", value.at, fix)
        there = self._values[~self.null]
        if len(there) and np.median(np.abs(there)) < _SMALLEST_EPOCH:
            found = f"such as {there[0].item():g}, not seconds since 1970"
            raise Mistake(f"{asked.field} holds numbers {found}", value.at, "compare it with a number")
        per_second = UNITS[unit_of(there)]
        if per_second >= 1_000_000:  # whole numbers: nanoseconds are beyond what floats tell apart
            return span[0] * (per_second // 1_000_000), span[1] * (per_second // 1_000_000)
        return span[0] * per_second / 1_000_000, span[1] * per_second / 1_000_000


class DateColumn:
    """Dates and times, in UTC; a date without a time is the whole day."""

    kind = "a date"
    example = ">= 2015-06-01"

    def __init__(self, values: pa.ChunkedArray | pa.Array) -> None:
        kind = pa.timestamp("us", tz=getattr(values.type, "tz", None))
        moments = _one_chunk(values.cast(kind, safe=False), kind)
        self.null = _mask(moments.is_null())
        self._micros = pc.fill_null(moments.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)

    def test(self, asked: Condition) -> np.ndarray:
        """See :class:`Column`."""
        if asked.operator not in _ORDERED:
            raise misuse(asked, self.kind, self.example)
        mask = np.zeros(len(self.null), dtype=bool)
        for value in asked.values:
            span = moment(value.text)
            if span is None:
                fix = f"write dates as {spell_field(asked.field)} {self.example}, times as 2015-06-01T12:30"
                raise Mistake(f"{asked.field} is a date, and {value.text!r} is none", value.at, fix)
            mask |= _within(self._micros, asked.operator, *span)
        return mask & ~self.null


class EmptyColumn:
    """A field without any value: no item satisfies any condition."""

    def __init__(self, n: int) -> None:
        self.null = np.ones(n, dtype=bool)

    def test(self, asked: Condition) -> np.ndarray:
        """See :class:`Column`."""
        return np.zeros(len(self.null), dtype=bool)


def misuse(asked: Condition, kind: str, example: str) -> Mistake:
    """Build the mistake of a condition that does not fit the field's kind."""
    name = spell_field(asked.field)
    if asked.operator == "is true":
        return Mistake(f"{name} is {kind}: by itself it is no condition", asked.at, f"for example: {name} {example}")
    what = f"{name} is {kind}, which does not go with {asked.operator}"
    return Mistake(what, asked.operator_at, f"for example: {name} {example}")


def _within(values: np.ndarray, operator: str, low: float, end: float) -> np.ndarray:
    """Compare values (N,) with a stretch of time, from ``low`` to just before ``end``; mask (N,)."""
    if operator in ("=", "!=", "in"):
        inside = (values >= low) & (values < end)
        return ~inside if operator == "!=" else inside
    return _COMPARED["<" if operator in ("<", "<=") else ">="](values, low if operator in ("<", ">=") else end)


def _one_chunk(values: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    values = values.cast(kind)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _mask(values: pa.Array) -> np.ndarray:
    """Booleans as a mask (N,) that may be changed, false where there is no value."""
    return np.array(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)
