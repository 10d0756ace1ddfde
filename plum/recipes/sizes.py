"""How large a data set is, and what of its shape decides a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from plum.data import splits
from plum.data.describe import describe
from plum.data.histories import Histories
from plum.data.moments import Moment, before, codes
from plum.data.tables import RawTables
from plum.data.times import USUAL_FROM
from plum.errors import PlumError

LEAVE_ONE_OUT, TEMPORAL = "leave-one-out", "temporal"
TEST_SHARE = 0.1
TEXT_COLUMNS = ("title", "creator", "description")


@dataclass(frozen=True)
class Sizes:
    """Numbers of a data set and of its split.

    Attributes:
        users, items, interactions: in the log; items of the item table where there is one.
        bad_rows: rows that plum can't use, of ``rows``.
        train: training interactions.
        questions: users with a test item and a history before it.
        short_users: users with too few interactions to be asked, who only train.
        lengths: 50th and 95th percentile of a user's interactions.
        ties: share of interactions that share their time with another of the same user.
        tied_tests: share of the test users for whom a tie decides which item is the test.
        seen_tests: share of the test users whose test items all stand in their history.
        temporal_users: users who would be asked under the temporal protocol.
        words: mean words of text of an item.
        text: text columns that items have.
        topics: share of items with topics.
        largest_user: share of the log of its most active user, and that user's id.
        odd_times: share of the times before 1990 or in the future.
        protocol: of the split that these numbers are of.
        later: items that are not known before validation begins, under the temporal protocol.
    """

    users: int
    items: int
    interactions: int
    rows: int
    bad_rows: int
    train: int
    questions: int
    short_users: int
    lengths: tuple[float, float]
    ties: float
    tied_tests: float
    seen_tests: float
    temporal_users: int
    words: float
    text: tuple[str, ...]
    topics: float
    largest_user: tuple[float, str] = (0.0, "")
    odd_times: float = 0.0
    protocol: str = LEAVE_ONE_OUT
    later: int = 0

    @property
    def learnt(self) -> int:
        """Items that Semantic IDs are learnt from."""
        return self.items - self.later


@dataclass(frozen=True)
class Measured:
    """A data set with its numbers.

    Attributes:
        sizes: for the recipe.
        description: of ``plum.data.describe``.
        items: the catalogue.
        histories: the split.
    """

    sizes: Sizes
    description: dict[str, Any]
    items: pd.DataFrame
    histories: Histories


def measure(tables: RawTables, now: float) -> Measured:
    """Split a data set as the recipe will, and count.

    Args:
        tables: as read from the source.
        now: seconds since 1970; later times are odd.

    Raises:
        PlumError: if neither protocol leaves a question to ask.
    """
    ordered, ties = splits.order_interactions(tables.interactions)
    times = ordered["timestamp"].to_numpy()
    comparable = not tables.timestamps_are_positions and codes(ordered).max(initial=0) > 1
    cutoffs = splits.temporal_cutoffs(ordered, TEST_SHARE, TEST_SHARE) if comparable else None
    try:
        split, protocol = splits.leave_one_out(ordered), LEAVE_ONE_OUT
    except PlumError:
        if cutoffs is None:
            raise
        split, protocol = splits.temporal(ordered, *cutoffs), TEMPORAL
    histories = Histories.from_split(split, tables.items["item_id"])
    described = describe(tables)
    _, past, targets = histories.questions("test")
    seen = [bool(np.isin(target, before).all()) for before, target in zip(past, targets, strict=True)]
    lengths = ordered["user_id"].value_counts()
    dates = np.median(times) > 1e8  # else rows are numbered, and no number is a date
    sizes = Sizes(
        users=described["counts"]["users"],
        items=len(tables.items),
        interactions=len(ordered),
        rows=tables.n_rows,
        bad_rows=sum(problem.count for problem in tables.problems),
        train=sum(map(len, histories.train)),
        questions=len(past),
        short_users=int((lengths < splits.MIN_SPLIT_LENGTH).sum()),
        lengths=(float(np.percentile(lengths, 50)), float(np.percentile(lengths, 95))),
        ties=ties.share,
        tied_tests=ties.users_test_tied / max(1, len(past)),
        seen_tests=float(np.mean(seen)) if seen else 0.0,
        temporal_users=_asked_after(ordered, cutoffs[1]) if cutoffs else 0,
        words=_words(tables.items),
        text=tuple(name for name in TEXT_COLUMNS if tables.items[name].notna().any()),
        topics=described["item_fields"]["topics"],
        largest_user=(float(lengths.iloc[0] / len(ordered)), str(lengths.index[0])),
        odd_times=float(((times < USUAL_FROM) | (times > now + 86_400)).mean()) if dates else 0.0,
        protocol=protocol,
        later=int((~splits.known_items(split, tables.items["item_id"])).sum()) if protocol == TEMPORAL else 0,
    )
    return Measured(sizes, described, tables.items, histories)


def _asked_after(ordered: pd.DataFrame, moment: Moment) -> int:
    """Users with interactions before and after a moment."""
    earlier = before(ordered, moment)
    users = ordered["user_id"]
    return len(set(users[earlier].unique()) & set(users[~earlier].unique()))


def _words(items: pd.DataFrame) -> float:
    total = sum(items[name].dropna().astype(str).str.count(r"\S+").sum() for name in TEXT_COLUMNS)
    return float(total / max(1, len(items)))
