"""Rules on the rows of a log: ``rating >= 4 and event = purchase and timestamp >= 2020-01-01``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from plum.data.items import typed_column
from plum.data.tables import INTERACTION_COLUMNS
from plum.errors import PlumError
from plum.rules.columns import Column, NumberColumn, TextColumn, make_column
from plum.rules.holds import holds
from plum.rules.language import Condition, Expression, Joined, Mistake, Not, Value, parse, spell_field
from plum.rules.values import nearest, number

_NOT_SECONDS = 1e11
"""Numbers from here on are times in milliseconds or finer units, which logs may hold, but rules don't."""
_ROW = "row"


class LogRule:
    """A rule on log rows, and the least rating, as ``plum.data.filters.RowFilter``.

    Ids are text and compare exactly; ``timestamp`` compares with dates and with seconds since 1970, whatever the file's
    unit; further columns of the log are typed by their values.

    Args:
        where: the rule; None or blank for none.
        min_rating: rows with a lower rating, or none, don't satisfy it; None for no limit.

    Raises:
        PlumError: for a syntax error, with its place.

    Example:
        >>> LogRule("rating > 0 and event = purchase").fields
        ('rating', 'event')
    """

    def __init__(self, where: str | None, min_rating: float | None = None) -> None:
        self._where = where if where and where.strip() else None
        self._min_rating = min_rating
        self._expression = None if self._where is None else parse(self._where)
        named = dict.fromkeys(_fields(self._expression)) if self._expression is not None else {}
        self.fields = tuple(named if min_rating is None else named | {"rating": None})
        rules = [] if self._where is None else [f"where: {self._where}"]
        self.text = " and ".join(rules if min_rating is None else [*rules, f"min_rating: {min_rating:g}"])

    def mask(self, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> np.ndarray:
        """See :class:`plum.data.filters.RowFilter`."""
        made: dict[str, Column] = {}

        def column(asked: Condition) -> Column:
            if asked.field not in made:
                made[asked.field] = _column(asked, columns)
            return made[asked.field]

        kept = np.ones(len(next(iter(columns.values()))), dtype=bool)
        if self._expression is not None and self._where is not None:
            try:
                kept &= holds(self._expression, column)
            except Mistake as mistake:
                raise mistake.told(self._where) from None
            except RecursionError:
                raise PlumError("the rule nests its conditions too deeply", None, "use fewer brackets") from None
        if self._min_rating is not None:
            if "rating" not in columns:
                raise PlumError("min_rating: there are no ratings", None, "leave out data.source.min_rating")
            kept &= column(Condition("rating", ">=", (Value(repr(self._min_rating), 0),), 0, 0)).test(
                Condition("rating", ">=", (Value(repr(self._min_rating), 0),), 0, 0)
            )
        return kept


def log_rule(where: str | None, min_rating: float | None) -> LogRule | None:
    """The rule of a source; None if it has none."""
    rule = LogRule(where, min_rating)
    return rule if rule.fields else None


def _fields(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Condition):
        yield expression.field
    elif isinstance(expression, Not):
        yield from _fields(expression.part)
    elif isinstance(expression, Joined):
        for part in expression.parts:
            yield from _fields(part)


def _column(asked: Condition, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> Column:
    name = asked.field
    if name not in columns:
        near = nearest(name, columns)
        fix = f"did you mean {', '.join(map(spell_field, near))}? " if near else ""
        listed = ", ".join(map(spell_field, columns))
        raise Mistake(f"the log has no column {name!r}", asked.at, f"{fix}columns: {listed}")
    values = columns[name]
    if name in ("user_id", "item_id"):
        return TextColumn(values, exact=True, owner=_ROW)
    if name == "timestamp":
        return _Seconds(values)
    if name not in INTERACTION_COLUMNS:
        chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
        values = pa.array(typed_column(chunked), from_pandas=True)
    return make_column(name, values, owner=_ROW)


class _Seconds(NumberColumn):
    """Times in seconds since 1970."""

    def test(self, asked: Condition) -> np.ndarray:
        """See :class:`plum.rules.columns.Column`."""
        for value in asked.values:
            written = number(value.text)
            if written is not None and abs(written) >= _NOT_SECONDS:
                fix = "compare it with a date: timestamp >= 2020-01-31"
                raise Mistake("timestamp is in seconds since 1970, whatever the file's unit", value.at, fix)
        return super().test(asked)
