"""Which rows of a log count: those that satisfy a rule, once or as often as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from plum.data.tables import RowProblem
from plum.errors import PlumError


class RowFilter(Protocol):
    """A rule on the rows of a log; ``plum.rules.log_rows`` makes one of text.

    Attributes:
        text: of the rule, for messages.
        fields: the columns that it reads.
    """

    text: str
    fields: tuple[str, ...]

    def mask(self, columns: Mapping[str, pa.ChunkedArray | pa.Array]) -> np.ndarray:
        """The rows that satisfy the rule, (N,), false where it compares a missing value.

        Args:
            columns: N values each: ids as text, ``timestamp`` in seconds, ``rating`` and ``reward`` as numbers, further
                columns as read.

        Raises:
            PlumError: for a column that there is not, and a condition that does not fit a column's type.
        """
        ...


def left_out(file: str, rule: RowFilter, count: int, example: str) -> RowProblem:
    """The note of rows that a rule leaves out."""
    return RowProblem(file, f"left out by {rule.text}", count, example, asked=True)


def none_left(file: str, rule: RowFilter, example: str) -> PlumError:
    """The error of a rule that leaves nothing."""
    return PlumError(
        f"{file}: no row satisfies {rule.text}",
        f"the first row: {example}",
        "change data.source.where or data.source.min_rating",
    )


def filtered(log: pd.DataFrame, rule: RowFilter | None, file: str) -> tuple[pd.DataFrame, list[RowProblem]]:
    """The interactions (N rows) that satisfy a rule, and the note of the others.

    Raises:
        PlumError: if none does, or the rule does not fit.
    """
    if rule is None:
        return log, []
    kept = rule.mask({str(name): pa.array(log[name], from_pandas=True) for name in log.columns})
    if kept.all():
        return log, []
    first = int(np.argmin(kept))
    example = ", ".join(repr(value) for value in log.iloc[first].tolist())
    if not kept.any():
        raise none_left(file, rule, example)
    return log[kept].reset_index(drop=True), [left_out(file, rule, int((~kept).sum()), example)]


def without_consecutive(ordered: pd.DataFrame) -> pd.DataFrame:
    """Drop interactions whose user's interaction just before is with the same item.

    Args:
        ordered: N interactions, by user, then time.
    """
    same = np.zeros(len(ordered), bool)
    for name in ("user_id", "item_id"):
        codes = pd.factorize(ordered[name])[0]
        again = codes[1:] == codes[:-1]
        same[1:] = again if name == "user_id" else same[1:] & again
    return ordered[~same].reset_index(drop=True)
