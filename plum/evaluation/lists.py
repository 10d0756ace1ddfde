"""Ranked lists from a file, of a run or of another system, in the form that is scored, and an audit of their flaws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.files import Advice
from plum.data.ids import as_ids
from plum.data.logs import read_table
from plum.data.missing import LIST_SPELLINGS, absent
from plum.data.rows import to_numbers, warn
from plum.data.tables import RowProblem, refuse_many_problems
from plum.errors import PlumError
from plum.evaluation.rankings import NO_ITEM, flatten

RETRIEVER = "retriever"
_COLUMNS = ("user_id", "rank", "item_id")
_ADVICE = Advice("give the columns user_id, rank and item_id, and score if there is one", "save the file as UTF-8")
MAX_UNREADABLE = 0.01
"""Share of a file's rows that may be unreadable."""
_MISSING = -2  # no id at all; NO_ITEM stands for an unknown id

# Possible flaws, each counted in rows of the file, lists (of users), or places of lists.
_SENTENCES = {
    "missing_users": "Rows without a user are left out",
    "unknown_users": "Rows of users who are not evaluated are left out",
    "missing_ranks": "Rows without a whole number as rank are left out",
    "low_ranks": "Rows with a rank below 1 count as rank 1, and later rows move down if needed (ranks count from 1)",
    "unsorted": "Lists not sorted by rank are sorted",
    "duplicated_ranks": "Rows with the same rank in a list are ordered by score, then by item id, and later rows move "
    "down if needed",
    "cut": "Rows after place {k} are not scored",
    "gaps": "Empty places before a filled one count as misses",
    "missing_items": "Places without an item id count as misses",
    "unknown_items": "Places with an item outside the catalogue count as misses",
    "repeated_items": "Places that repeat an item of the same list count as misses; only its first place can be a hit",
    "short": "In lists that end before place {k}, the remaining places count as misses",
    "no_list": "Users without a list miss in all {k} places",
}


@dataclass(frozen=True)
class Audit:
    """Flaws found in lists, and how they were handled.

    Attributes:
        k: places of a list.
        counts: kind -> number, for all kinds, including 0. Rows: ``missing_users``, ``unknown_users``,
            ``missing_ranks``, ``low_ranks``, ``duplicated_ranks``, ``cut``. Lists: ``unsorted``, ``short``,
            ``no_list``. Places of lists: ``gaps``, ``missing_items``, ``unknown_items``, ``repeated_items``.
        examples: kind -> the first one, for kinds that occur.
    """

    k: int
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def explain(self) -> list[str]:
        """One sentence per kind of flaw found: what was done, how often, and the first case."""
        return [
            f"{sentence.format(k=self.k)}: {self.counts[kind]:,} (first: {self.examples[kind]})."
            for kind, sentence in _SENTENCES.items()
            if self.counts.get(kind)
        ]


def read_recommendations(path: Path) -> tuple[pd.DataFrame, list[RowProblem]]:
    """Read ranked lists from Parquet, CSV, TSV or JSON Lines; text may be compressed (.gz).

    Args:
        path: a table with ``user_id``, ``rank`` and ``item_id``, one row per recommended item, optionally ``score`` and
            ``retriever``; other columns are not read.

    Returns:
        rows: ``retriever`` (if present), ``user_id`` and ``item_id`` as categories of trimmed text (12 and 12.0 are
            "12"), ``rank`` and ``score`` (if present) as float64. Missing values stay missing; text that is not a
            number counts as missing.
        unreadable: rows that could not be parsed, such as CSV lines with too many fields.

    Raises:
        PlumError: a file that is missing, damaged, of another format, or without rows; that lacks a column (the message
            names those it has) or has one of a wrong type; or that has over 1% unreadable rows.
    """
    rows = read_table(path, {name: name for name in _COLUMNS}, (RETRIEVER, "score"), encoding="utf-8", advice=_ADVICE)
    refuse_many_problems(rows.problems, rows.n_read, MAX_UNREADABLE, "fix the rows")
    warn(rows.problems)
    if not rows.table.num_rows:
        raise PlumError(f"{path} holds no row", "column names only", "write one row per recommended item")
    labels = rows.labels()
    table: dict[str, Any] = {}
    for name in (RETRIEVER, "user_id", "item_id"):
        if name in rows.table.column_names:
            table[name] = _categories(rows.table.column(name), labels[name])
    for name in ("rank", "score"):
        if name in rows.table.column_names:
            column = rows.table.column(name)
            if pa.types.is_boolean(column.type):
                raise PlumError(f"{labels[name]} must hold numbers", "booleans", "store numbers")
            values, _, bad = to_numbers(column, labels[name])
            table[name] = np.where(bad, np.nan, values)
    return pd.DataFrame(table), rows.problems


def by_retriever(table: pd.DataFrame, source: str) -> dict[str, pd.DataFrame]:
    """Split a table by retriever.

    Args:
        table: with a column ``retriever``.
        source: name of the table in messages.

    Returns:
        retriever -> its rows, in the order of first occurrence.

    Raises:
        PlumError: no such column, or rows without a retriever.
    """
    if RETRIEVER not in table:
        raise PlumError(
            f"{source} has no column 'retriever'", f"columns {', '.join(map(str, table.columns))}", "add it"
        )
    if table[RETRIEVER].isna().any():
        raise PlumError(
            f"{source}: {int(table[RETRIEVER].isna().sum()):,} rows name no retriever",
            f"the first is row {int(np.argmax(table[RETRIEVER].isna().to_numpy())) + 1:,}",
            "name it in every row, or drop the column if there is one retriever",
        )
    groups = table.groupby(RETRIEVER, sort=False, observed=True)
    return {str(name): rows.drop(columns=RETRIEVER) for name, rows in groups}


def read_lists(
    table: pd.DataFrame, user_ids: Sequence[str] | np.ndarray, item_ids: Sequence[str] | np.ndarray, k: int
) -> tuple[np.ndarray, Audit]:
    """Turn ranked lists into catalogue rows, each in the place of its rank.

    The rows of a user are sorted by rank, then score (highest first, missing ones last), then item id. Each row takes
    the place of its rank, or the next free place after the row before it; ranks below 1 count as 1. So ranks 1, 2, 2, 3
    fill the places 1 to 4, and 1, 2, 5 leave 3 and 4 empty.

    Places are never closed up. A place counts as a miss if it is empty, has no item, an item outside the catalogue, or
    an item that is higher up in the same list. Rows after place K are cut. Rows without a user, of a user who is not
    scored, or without a whole number as rank are left out. Users without a row, and lists that end early, miss in the
    remaining places. All of this is counted.

    Args:
        table: ``user_id``, ``rank``, ``item_id`` and optionally ``score``, one row per recommended item, of one
            retriever.
        user_ids: the U users that are scored, unique.
        item_ids: the N items of the catalogue, unique.
        k: places of a list (K).

    Returns:
        items: int64 (U, K), catalogue rows, ``NO_ITEM`` for a miss, at any place; users in the given order; no item
            twice in a row. Input of :func:`plum.evaluation.metrics.per_user_metrics`.
        audit: flaws found.

    Raises:
        ValueError: k < 1, repeated ids, or several retrievers in one table.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if RETRIEVER in table and table[RETRIEVER].nunique() > 1:
        raise ValueError("the table holds several retrievers: split it with by_retriever")
    rows = _Rows(table, user_ids, item_ids)
    notes = _Notes(rows, k)
    order = _usable(rows, notes)
    place = _places(rows.user[order], rows.rank[order], k)
    notes.rows("cut", order[place > k])
    order, place = order[place <= k], place[place <= k]
    user, item = rows.user[order], rows.item[order]
    notes.rows("missing_items", order[item == _MISSING])
    notes.rows("unknown_items", order[item == NO_ITEM])
    known = np.flatnonzero(item >= 0)
    again = pd.Series(user[known] * len(item_ids) + item[known]).duplicated().to_numpy()
    notes.rows("repeated_items", order[known[again]])
    last = np.zeros(len(user_ids), dtype=np.int64)
    np.maximum.at(last, user, place)
    notes.users("gaps", np.arange(len(user_ids)), times=last - np.bincount(user, minlength=len(user_ids)))
    notes.users("short", np.flatnonzero(rows.listed & (last < k)))
    notes.users("no_list", np.flatnonzero(~rows.listed))
    items = np.full((len(user_ids), k), NO_ITEM, dtype=np.int64)
    good = known[~again]
    items[user[good], place[good] - 1] = item[good]
    return items, notes.audit()


def count_seen(items: np.ndarray, histories: Sequence[np.ndarray]) -> int:
    """Count the places of lists with an item of the user's history.

    Args:
        items: int64 (U, K), catalogue rows, ``NO_ITEM`` for empty places.
        histories: U arrays of catalogue rows.

    Returns:
        Number of places; 0 for lists without seen items.
    """
    n_items = 1 + max(int(items.max(initial=0)), max((int(row.max(initial=0)) for row in histories), default=0))
    users, seen = flatten(histories, n_items)
    shown = np.arange(len(items))[:, None] * n_items + items
    return int((np.isin(shown, users * n_items + seen) & (items != NO_ITEM)).sum())


class _Rows:
    """The columns of a table (R rows) as numbers.

    Attributes:
        user, item: int64 (R,), places in the given ids; ``NO_ITEM`` for an unknown id, ``_MISSING`` for a missing one.
        item_order: int64 (R,), the order of item ids as text.
        rank, score: float64 (R,); NaN for a missing rank, ``-inf`` for a missing score.
        whole: bool (R,), rows with a whole number as rank.
        usable: bool (R,), rows of a scored user with a whole number as rank.
        listed: bool (U,), users with such a row.
    """

    def __init__(self, table: pd.DataFrame, user_ids: Sequence[str] | np.ndarray, item_ids: Sequence[str] | np.ndarray):
        self.table, self.user_ids = table, user_ids
        self.user, _ = _looked_up(table["user_id"], user_ids)
        self.item, self.item_order = _looked_up(table["item_id"], item_ids)
        self.rank = pd.to_numeric(table["rank"], errors="coerce").to_numpy(dtype=np.float64)
        score = pd.to_numeric(table["score"], errors="coerce") if "score" in table else pd.Series(np.zeros(len(table)))
        self.score = score.fillna(-np.inf).to_numpy(dtype=np.float64)
        self.whole = np.isfinite(self.rank) & (self.rank == np.floor(self.rank))
        self.usable = (self.user >= 0) & self.whole
        self.listed = np.bincount(self.user[self.usable], minlength=len(user_ids)) > 0

    def told(self, row: int) -> str:
        """Describe a row in a message."""
        user, rank, item = (self.table[name].iloc[row] for name in _COLUMNS)
        return f"user {_shown(user)}, rank {_shown(rank)}, item {_shown(item)}"


class _Notes:
    """Gathers an audit."""

    def __init__(self, rows: _Rows, k: int) -> None:
        self._rows, self._k = rows, k
        self._counts: dict[str, int] = dict.fromkeys(_SENTENCES, 0)
        self._examples: dict[str, str] = {}

    def rows(self, kind: str, found: np.ndarray) -> None:
        """Note rows, as their numbers or as a mask (R,); the example is the first of them in the table."""
        found = np.flatnonzero(found) if found.dtype == bool else found
        self._counts[kind] = len(found)
        if len(found):
            self._examples[kind] = self._rows.told(int(found.min()))

    def users(self, kind: str, users: np.ndarray, times: np.ndarray | None = None) -> None:
        """Note users, once each or ``times`` times; the example is the first in the order of users."""
        users = np.unique(users) if times is None else users[times > 0]
        self._counts[kind] = len(users) if times is None else int(times.sum())
        if len(users):
            self._examples[kind] = f"user {_shown(self._rows.user_ids[int(users[0])])}"

    def audit(self) -> Audit:
        """All that was noted."""
        return Audit(self._k, self._counts, self._examples)


def _looked_up(column: pd.Series, ids: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each id of a column in ``ids``, and in the sorted ids of the column, both int64 (R,)."""
    index = pd.Index(np.asarray(ids, dtype=object))
    if not index.is_unique:
        raise ValueError(f"ids are repeated, for example {index[index.duplicated()][0]!r}")
    categories = column.astype("category").cat
    labels = categories.categories.astype(str).to_numpy(dtype=object)
    codes = categories.codes.to_numpy(dtype=np.int64)
    # One more entry at the end, for code -1 (no value).
    places = np.append(index.get_indexer(labels), _MISSING).astype(np.int64)
    by_text = np.append(np.argsort(np.argsort(labels, kind="stable"), kind="stable"), len(labels)).astype(np.int64)
    return places[codes], by_text[codes]


def _categories(column: pa.ChunkedArray, label: str) -> pd.Categorical:
    """A column of ids (R,) as trimmed text; only distinct values are converted."""
    as_ids(column.slice(0, 0), label)  # refuses types that can't be ids, some of which can't be encoded either
    encoded = pc.dictionary_encode(column).unify_dictionaries()
    values = as_ids(pa.chunked_array([encoded.chunk(0).dictionary]), label)
    # Distinct values may be equal once trimmed; one more entry at the end stands for rows without a value.
    codes, distinct = pd.factorize(pd.Series(values.to_pandas()).mask(absent(values, LIST_SPELLINGS)))
    codes = np.append(codes, -1)
    rows = [pc.fill_null(chunk.indices, len(codes) - 1).to_numpy() for chunk in encoded.chunks]
    return pd.Categorical.from_codes(codes[np.concatenate(rows)], categories=pd.Index(distinct))


def _usable(rows: _Rows, notes: _Notes) -> np.ndarray:
    """The usable rows, sorted by user, rank, score and item id; notes rows that are left out or out of order."""
    notes.rows("missing_users", rows.user == _MISSING)
    notes.rows("unknown_users", rows.user == NO_ITEM)
    notes.rows("missing_ranks", (rows.user >= 0) & ~rows.whole)
    notes.rows("low_ranks", rows.usable & (rows.rank < 1))
    kept = np.flatnonzero(rows.usable)
    order = kept[np.argsort(rows.user[kept], kind="stable")]
    same_user = np.diff(rows.user[order]) == 0
    steps = np.diff(rows.rank[order])
    notes.users("unsorted", rows.user[order[1:][(steps < 0) & same_user]])
    if ((steps <= 0) & same_user).any():  # skip the sort if possible: it is the slowest step
        order = kept[np.lexsort((rows.item_order[kept], -rows.score[kept], rows.rank[kept], rows.user[kept]))]
    equal = (np.diff(rows.rank[order]) == 0) & (np.diff(rows.user[order]) == 0)
    notes.rows("duplicated_ranks", order[1:][equal])
    return order


def _places(user: np.ndarray, rank: np.ndarray, k: int) -> np.ndarray:
    """The place of each row: its rank, or the next place after the row before.

    place(j) = max(rank(j), place(j - 1) + 1) is j plus the highest rank(i) - i of the user's rows i up to j.

    Args:
        user: int64 (R,), ascending.
        rank: (R,) whole numbers, ascending for each user.
        k: places to fill; later rows get a place beyond.

    Returns:
        int64 (R,), from 1, strictly ascending for each user.

    Example:
        >>> _places(np.zeros(5, dtype=np.int64), np.array([1, 2, 2, 3, 7]), k=10)
        array([1, 2, 3, 4, 7])
    """
    if not len(user):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, np.diff(user) != 0))
    number = np.arange(len(user)) - np.repeat(starts, np.diff(np.append(starts, len(user)))) + 1
    ahead = np.clip(rank, 1, k + 1).astype(np.int64) - number
    # Each user's values are offset above the previous user's, so that one running maximum serves all.
    lift = user * (len(user) + k + 2)
    return np.maximum.accumulate(ahead + lift) - lift + number


def _shown(value: object) -> str:
    """A value of a table in a message."""
    if value is None or value != value:  # NaN differs from itself
        return "missing"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return repr(str(value)) if isinstance(value, str) else str(value)
