"""The result of every data source: plain tables with fixed columns, and a list of unusable rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from plum.errors import PlumError

INTERACTION_COLUMNS = ("user_id", "item_id", "timestamp", "rating", "reward")
ITEM_COLUMNS = ("item_id", "title", "topics", "creator", "description")


@dataclass(frozen=True)
class RowProblem:
    """Rows of one file that cannot be used, for one reason.

    Args:
        file: name of the file.
        reason: what is wrong, for example ``"timestamp is not a number"``.
        count: number of rows.
        example: place and content of the first one, for example ``"line 7: 'abc'"``.
        asked: the rows are usable; a setting leaves them out.
    """

    file: str
    reason: str
    count: int
    example: str
    asked: bool = False


@dataclass
class RawTables:
    """A data set as read from its source, before splits.

    Attributes:
        interactions: ``user_id``, ``item_id`` (str), ``timestamp`` (int64 seconds), ``rating`` (float32, NaN where
            there is none), ``reward`` (float32, 1.0 if the source has none), then extra columns.
        items: ``item_id``, ``title``, ``topics`` (list of str or None), ``creator``, ``description``, then extra
            columns, which only rules use; one row per item, ids unique; every value but ``item_id`` may be None.
        users: ``user_id`` and attributes, or None.
        tags: free-text tags given by users, ``user_id``, ``item_id``, ``tag``, ``timestamp``, or None. Those that leak
            no validation or test interaction become item text (see ``plum.stages.prepare``).
        problems: unusable rows, and those that a rule leaves out.
        n_rows: interaction rows read, usable or not.
        truth: arrays of a planted truth; synthetic data only.
        timestamps_are_positions: ``timestamp`` counts a user's interactions from 0, because the source gives only
            their order. Times of different users can't be compared, so a temporal split is impossible.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame | None = None
    tags: pd.DataFrame | None = None
    problems: list[RowProblem] = field(default_factory=list)
    n_rows: int = 0
    truth: dict | None = None
    timestamps_are_positions: bool = False


def refuse_many_problems(
    problems: Iterable[RowProblem],
    n_rows: int,
    max_bad_share: float,
    fix: str = "fix the rows, or allow more with --set data.max_bad_share=SHARE",
) -> None:
    """Refuse a source in which too many rows are unusable.

    Raises:
        PlumError: if more than ``max_bad_share`` of ``n_rows`` are unusable. It lists every reason with its count and
            first example.
    """
    problems = list(problems)
    bad = sum(problem.count for problem in problems)
    if n_rows and bad / n_rows > max_bad_share:
        listed = "; ".join(f"{p.file}: {p.count:,} rows, {p.reason} (first: {p.example})" for p in problems)
        raise PlumError(
            f"{bad:,} of {n_rows:,} rows are unusable, more than the allowed share of {max_bad_share:.1%}",
            listed,
            fix,
        )
