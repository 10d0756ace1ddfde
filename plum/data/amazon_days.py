"""The days of Amazon's prepared sequences, which may lie beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plum.data.files import Source
from plum.data.rows import warn
from plum.data.sequences import Sequences, read_sequences
from plum.data.tables import RowProblem, refuse_many_problems
from plum.errors import PlumError

DAY = 86_400
"""Seconds."""
_FIRST_DAY, _LAST_DAY = 8_766, 47_482
"""1994, in which Amazon was founded, and 2100: what is outside are no days since 1970."""


def read_days(path: Path, found: Sequences, max_bad_share: float) -> tuple[np.ndarray | None, list[RowProblem]]:
    """Read ``NAME_days.txt``: rows and places as in ``NAME.txt``, days since 1970-01-01 in place of the items.

    Args:
        path: the file.
        found: the sequences.
        max_bad_share: share of unusable lines, from 0 to 1, over which the file is refused.

    Returns:
        Seconds since 1970 (N,) int64 of the interactions, at 0:00 UTC of their day, None if the file is not there; and
        the unusable lines.

    Raises:
        PlumError: if it has other users or lengths than the sequences, holds something else than days, has days that
            go against the order of the sequences, or too many lines are unusable.
    """
    if not path.is_file():
        return None, []
    dated = read_sequences(Source(path))
    refuse_many_problems(dated.problems, dated.n_lines, max_bad_share)
    warn(dated.problems)
    rows = _rows(dated, found)
    starts = np.cumsum(dated.lengths) - dated.lengths
    places = np.concatenate([np.arange(starts[row], starts[row] + dated.lengths[row]) for row in rows])
    days = _whole_days(dated, found)[places]
    owner = np.repeat(np.arange(len(rows)), found.lengths)
    back = np.flatnonzero((np.diff(days) < 0) & (np.diff(owner) == 0)) + 1
    if len(back):
        first, where = int(back[0]), found.where()
        example = f"{where(first)}: day {days[first]} after day {days[first - 1]}"
        n_users = f"{len(np.unique(owner[back])):,}"
        raise _unfit(
            dated, found, f"the days of {n_users} users go against the order of their items (first: {example})"
        )
    return days * DAY, dated.problems


def _rows(dated: Sequences, found: Sequences) -> list[int]:
    """The row of the days for each user of the sequences.

    Raises:
        PlumError: for other users, and other numbers of interactions.
    """
    row_of = {user: row for row, user in enumerate(dated.users)}
    known = set(found.users)
    for these, there, what in (
        (found.users, row_of.keys(), "users have no days"),
        (dated.users, known, f"users of the days are not in {found.name}"),
    ):
        other = [user for user in these if user not in there]
        if other:
            raise _unfit(dated, found, f"{len(other):,} {what} (first: {other[0]!r})")
    rows = [row_of[user] for user in found.users]
    n_days = np.array(dated.lengths)[rows]
    differ = np.flatnonzero(n_days != found.lengths)
    if len(differ):
        first = int(differ[0])
        example = f"{found.users[first]!r}: {n_days[first]} days, {found.lengths[first]} items"
        raise _unfit(dated, found, f"{len(differ):,} users have not as many days as items (first: {example})")
    return rows


def _whole_days(dated: Sequences, found: Sequences) -> np.ndarray:
    """The days (N,) int64, in the order of their file.

    Raises:
        PlumError: for other values.
    """
    is_number = pc.match_substring_regex(dated.items, r"^\d{1,9}$")
    days = pc.if_else(is_number, dated.items, "-1").cast(pa.int64()).to_numpy()
    wrong = np.flatnonzero((days < _FIRST_DAY) | (days > _LAST_DAY))
    if len(wrong):
        first = int(wrong[0])
        example = f"{dated.where()(first).replace('item', 'day')}: {dated.items[first].as_py()!r}"
        span = f"{_FIRST_DAY:,} to {_LAST_DAY:,}, the years 1994 to 2099"
        raise _unfit(dated, found, f"{len(wrong):,} values are no days since 1970, {span} (first: {example})")
    return days


def _unfit(dated: Sequences, found: Sequences, why: str) -> PlumError:
    return PlumError(
        f"{dated.name} does not fit {found.name}",
        why,
        f"get the file that belongs to {found.name}, or take this one away: the order of {found.name} counts then",
    )
