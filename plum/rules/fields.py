"""Business rules: which items of the catalogue a request may recommend, as masks over catalogue rows.

A rule such as ``topics has Comedy and not year < 1990`` becomes a boolean mask (N,); masks combine by ``&``, ``|`` and
``~``. ``docs/rules.md`` describes the language. Logic is two-valued: a comparison with a missing value is false, so
``year > 1990`` and ``year <= 1990`` both exclude items without a year, and ``not year > 1990`` includes them.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from plum.data.tables import ITEM_COLUMNS
from plum.errors import PlumError
from plum.rules.columns import Column, make_column
from plum.rules.holds import holds
from plum.rules.language import Condition, Mistake, parse, spell_field
from plum.rules.values import nearest, number

logger = logging.getLogger(__name__)

POPULARITY = "popularity"
Values: TypeAlias = pd.Series | pa.Array | pa.ChunkedArray


class ItemFields:
    """The fields of the catalogue's items, for use in rules.

    A field is prepared when the first rule uses it, and kept: later rules take milliseconds.

    Args:
        items: items.parquet, N rows: ``item_id`` (unique) and any other column.
        popularity: (N,) training interactions, which become the field ``popularity`` unless items have a column of
            that name.

    Raises:
        PlumError: for missing or repeated ids.
        ValueError: if ``popularity`` is not (N,).

    Example:
        >>> fields = ItemFields(pd.DataFrame({"item_id": ["a", "b"], "year": [1984, 2001]}))
        >>> fields.mask("year > 1990 or item_id = a")
        array([ True,  True])
        >>> fields.mask("year > 1990") & fields.deny(["b"])
        array([False, False])
    """

    def __init__(self, items: pd.DataFrame, popularity: np.ndarray | None = None) -> None:
        self._index = _index_of(items, "the items")
        self._values: dict[str, Values] = {str(name): items[name] for name in items.columns}
        if popularity is not None and np.shape(popularity) != (len(items),):
            raise ValueError(f"popularity must be ({len(items)},), found {np.shape(popularity)}")
        if popularity is not None and POPULARITY not in self._values:
            self._values[POPULARITY] = pa.array(popularity)
        self._columns: dict[str, Column] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self._values)

    def with_table(self, table: pd.DataFrame, name: str = "the table of fields") -> ItemFields:
        """Add or replace columns by item id; items without a row in the table have no value.

        The five fixed columns of items are not replaced; rows of items outside the catalogue are logged.

        Args:
            table: M rows, ``item_id`` and other columns.
            name: of the table, for messages.

        Returns:
            The fields with those of the table; this object is unchanged.

        Raises:
            PlumError: for rows without an id, two rows of one item, or a table without any item of the catalogue.
        """
        index = _index_of(table, name)
        unknown = index.difference(self._index, sort=False)
        if len(unknown) == len(index):
            found = f"{name} has {_some(index)}; the catalogue has {_some(self._index)}" if len(index) else "no rows"
            raise PlumError(f"{name} has no item of the catalogue", found, "check its column item_id")
        if len(unknown):
            logger.warning("%s: %s rows of items outside the catalogue: %s", name, f"{len(unknown):,}", _some(unknown))
        fixed = [column for column in table.columns if column in ITEM_COLUMNS[1:]]
        if fixed:
            logger.warning("%s: ignored columns that must stay as in training: %s", name, ", ".join(fixed))
        rows = index.get_indexer(self._index)
        places = pa.array(rows, mask=rows < 0)
        taken = [column for column in table.columns if column not in ITEM_COLUMNS]
        added = {str(column): _arrow(str(column), table[column]).take(places) for column in taken}
        new = copy.copy(self)
        new._values = self._values | added
        new._columns = {field: column for field, column in self._columns.items() if field not in added}
        return new

    def mask(self, rule: str) -> np.ndarray:
        """The items that satisfy a rule.

        Returns:
            Boolean mask (N,), a new array.

        Raises:
            PlumError: for a syntax error, an unknown field or list value, or a condition that does not fit the field's
                type; each with its place in the rule.
        """
        expression = parse(rule)
        try:
            return holds(expression, self._column)
        except Mistake as mistake:
            raise mistake.told(rule) from None
        except RecursionError:
            raise PlumError("the rule nests its conditions too deeply", None, "use fewer brackets") from None

    def allow(self, ids: Iterable[object]) -> np.ndarray:
        """The items with these ids, and no others: a mask (N,).

        Raises:
            PlumError: for unknown ids: how many, the first ones, and similar ids.
        """
        names = [ids] if isinstance(ids, str) else [str(item) for item in ids]
        rows = self._index.get_indexer(pd.Index(names, dtype=self._index.dtype))
        unknown = [item for item, row in zip(names, rows, strict=True) if row < 0]
        if unknown:
            near = dict.fromkeys(match for item in unknown[:3] for match in nearest(item, self._index))
            raise PlumError(
                f"{len(unknown):,} of {len(names):,} item ids are not in the catalogue",
                ", ".join(map(repr, unknown[:5])) + ("..." if len(unknown) > 5 else ""),
                f"did you mean {', '.join(map(repr, near))}?" if near else f"ids look like {_some(self._index)}",
            )
        mask = np.zeros(len(self._index), dtype=bool)
        mask[rows] = True
        return mask

    def deny(self, ids: Iterable[object]) -> np.ndarray:
        """All items but those with these ids: a mask (N,). Raises as :meth:`allow`."""
        return ~self.allow(ids)

    def _column(self, asked: Condition) -> Column:
        if asked.field not in self._values:
            near = nearest(asked.field, self._values)
            fix = f"did you mean {', '.join(map(spell_field, near))}? " if near else ""
            if number(asked.field) is not None:
                fix = "write the field first, as in year > 1990. "
            listed = ", ".join(map(spell_field, self._values))
            raise Mistake(f"items have no field {asked.field!r}", asked.at, f"{fix}fields: {listed}")
        if asked.field not in self._columns:
            values = _arrow(asked.field, self._values[asked.field])
            self._columns[asked.field] = make_column(asked.field, values)
        return self._columns[asked.field]


def _index_of(table: pd.DataFrame, name: str) -> pd.Index:
    """The item ids of a table, which must be complete and unique."""
    if "item_id" not in table.columns:
        listed = ", ".join(map(repr, table.columns))
        raise PlumError(f"{name}: no column 'item_id'", f"columns: {listed}", "name the column of ids item_id")
    ids = table["item_id"]
    missing = (ids.isna() | (ids == "")).to_numpy(dtype=bool)
    if missing.any():
        found = f"{missing.sum():,} of {len(ids):,} rows, the first is row {int(missing.argmax()) + 1}"
        raise PlumError(f"{name}: rows without an item_id", found, "give every row the id of its item")
    index = pd.Index(ids.astype(str))
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        raise PlumError(f"{name}: {len(twice):,} items have several rows", _some(twice), "keep one row per item")
    return index


def _arrow(name: str, values: Values) -> pa.Array | pa.ChunkedArray:
    if not isinstance(values, pd.Series):
        return values
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise PlumError(f"field {name!r} holds values of several types", str(error), "give it one type") from None


def _some(ids: pd.Index) -> str:
    return ", ".join(map(repr, ids[:5].tolist())) + ("..." if len(ids) > 5 else "")
