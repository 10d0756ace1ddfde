"""What of a log that can be read is likely to mean something else: a user who is none, ratings of dislike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

_WORDS = "unknown anonymous anon guest deleted user default missing empty false 0 -1 - -- ? 00000000 0000000000000000"
STAND_INS = frozenset((*_WORDS.split(), "(not set)", "not set", "00000000-0000-0000-0000-000000000000"))
"""Ids, in lower case, that programs write for users who are not known."""
TIMES_THE_NEXT, TIMES_OF_A_STAND_IN = 5, 2
LEAST_SHARE, LEAST_ROWS, LEAST_USERS = 0.01, 50, 10
MOST_GIANTS = 3


class Giant(NamedTuple):
    """A user with an implausible part of the log.

    Attributes:
        user: the id.
        rows: interactions.
        share: of all interactions, from 0 to 1.
        times: as many as the largest plausible user has.
    """

    user: str
    rows: int
    share: float
    times: float


def giants(users: pd.Series) -> list[Giant]:
    """Users who have many times as many interactions as any other, and at least a hundredth of all.

    In public data sets of films and shops the most active user has up to 4 times as many as the next one.

    Args:
        users: ids of N interactions.
    """
    counts = users.value_counts()
    for n in range(min(MOST_GIANTS, len(counts) - LEAST_USERS), 0, -1):
        after = int(counts.iloc[n])
        found = [Giant(str(counts.index[at]), int(rows), rows / len(users), rows / after) for at, rows in
                 enumerate(counts.iloc[:n])]  # fmt: skip
        if all(_implausible(giant) for giant in found):
            return found
    return []


def _implausible(giant: Giant) -> bool:
    times = TIMES_OF_A_STAND_IN if giant.user.lower() in STAND_INS else TIMES_THE_NEXT
    return giant.rows >= LEAST_ROWS and giant.share >= LEAST_SHARE and giant.times >= times


class Ratings(NamedTuple):
    """Ratings that differ.

    Attributes:
        low, high: the lowest and the highest.
        negative: share below 0 of all ratings, from 0 to 1.
        below: share below ``middle``.
        middle: halfway between lowest and highest; 0 if there are negative ones.
        least: the least rating that is above the middle.
    """

    low: float
    high: float
    negative: float
    below: float
    middle: float
    least: float


def ratings_that_differ(ratings: np.ndarray) -> Ratings | None:
    """What the ratings of N interactions, NaN where there is none, say of likes and dislikes; None if all are alike."""
    there = ratings[~np.isnan(ratings)]
    if not len(there) or there.min() == there.max():
        return None
    low, high, negative = float(there.min()), float(there.max()), float((there < 0).mean())
    middle = 0.0 if negative else (low + high) / 2
    above = there[there > middle]
    least = float(above.min()) if len(above) else high
    return Ratings(low, high, negative, float((there < middle).mean()), middle, least)
