"""From an unordered log to training, validation and test sets: time order, tie-breaking, k-core, two split protocols.

Functions take and return data frames with the column names of ``interactions.parquet`` and ``split.parquet``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from plum.data.moments import Moment, before, earlier_than_above, same_as_before, sort_keys
from plum.errors import PlumError

log = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")
SPLIT_COLUMNS = ("user_id", "item_id", "position", "part")
MIN_SPLIT_LENGTH = 3  # one interaction to learn from, one to validate on, one to test on


@dataclass(frozen=True)
class TieReport:
    """Interactions of one user at one time, to the nanosecond if the log tells it: their true order is unknown.

    Attributes:
        interactions: all interactions.
        tied: interactions that share user and time with another one.
        share: ``tied`` of ``interactions``, 0 to 1.
        users: users with such interactions.
        users_test_tied: users whose last two interactions tie, so that tie-breaking picks their test item under
            leave-one-out; users without a test item are not counted.
        broken_by: ``"shuffle"`` or ``"keep"``.
    """

    interactions: int
    tied: int
    share: float
    users: int
    users_test_tied: int
    broken_by: str


@dataclass(frozen=True)
class SplitReport:
    """Counts of a split.

    Attributes:
        users: users.
        interactions: interactions of all parts.
        train, valid, test: interactions of the part.
        users_with_test: users with a test interaction.
        users_without_test: the others; under leave-one-out those with fewer than 3 interactions.
        test_users_without_train: users with test but no training interactions; possible only in a temporal split.
        test_cold: test interactions with an item that has no training interaction.
    """

    users: int
    interactions: int
    train: int
    valid: int
    test: int
    users_with_test: int
    users_without_test: int
    test_users_without_train: int
    test_cold: int


@dataclass(frozen=True)
class KnownReport:
    """The items of a catalogue by when they first occur, under the temporal protocol.

    Attributes:
        known: items with a training interaction.
        first_later: items that occur, but in validation and test only.
        never: items that don't occur.
        later_share: share of the items that are not known, 0 to 1.
    """

    known: int
    first_later: int
    never: int
    later_share: float


def order_interactions(
    interactions: pd.DataFrame, ties: Literal["shuffle", "keep"] = "shuffle", seed: int = 0
) -> tuple[pd.DataFrame, TieReport]:
    """Sort by user (as a string), then time, with explicit tie-breaking.

    Args:
        interactions: ``user_id``, ``item_id``, ``timestamp``, ``nanosecond`` if times are finer than a second, and any
            other columns, in any order.
        ties: order of a user's interactions at one time. ``"shuffle"``: random by ``seed``, independent of the
            order of the input. ``"keep"``: the order of the input, for logs that were written in order.
        seed: of the shuffle.

    Returns:
        The sorted rows with a new index, and the counts of ties.

    Raises:
        PlumError: if there are no rows, a column or an entry of the three is missing, or ``ties`` is unknown.
    """
    if ties not in ("shuffle", "keep"):
        raise PlumError("unknown way to break ties", repr(ties), 'set ties to "shuffle" or "keep"')
    _require(interactions, ("user_id", "item_id", "timestamp"), "the interactions")
    user = _ranks(interactions["user_id"])
    time = sort_keys(interactions)
    if ties == "keep":
        order = np.lexsort((*time, user))  # lexsort is stable
    else:
        # A canonical order first, so that the draw below gives each row the same number whatever the input order was.
        # Rating and reward tell repeats of one item at one time apart; rows that still tie are interchangeable.
        values = [interactions[name].to_numpy() for name in ("reward", "rating") if name in interactions]
        canonical = np.lexsort((*values, _ranks(interactions["item_id"]), *time, user))
        draw = np.random.default_rng(seed).random(len(interactions))
        order = canonical[np.lexsort((draw, *(key[canonical] for key in time), user[canonical]))]
    ordered = interactions.iloc[order].reset_index(drop=True)
    report = _tie_report(user[order], sort_keys(ordered), ties)
    if report.tied:
        log.info(
            "%d interactions (%.1f%%) of %d users tie in time; tie-breaking by %s decides the test item of %d users",
            report.tied,
            100 * report.share,
            report.users,
            ties,
            report.users_test_tied,
        )
    return ordered, report


def k_core(interactions: pd.DataFrame, k_users: int, k_items: int) -> pd.DataFrame:
    """Drop users and items with too few interactions, repeatedly until all have enough.

    Args:
        interactions: ``user_id``, ``item_id`` and any other columns.
        k_users: fewest interactions of a user; 0 is off.
        k_items: fewest interactions of an item; 0 is off.

    Returns:
        The remaining rows in their order, with a new index.

    Raises:
        PlumError: if there are no rows, a column or an entry of the two is missing, a threshold is negative, or
            nothing remains.
    """
    if k_users < 0 or k_items < 0:
        raise PlumError(
            "a k-core threshold is negative", f"k_users={k_users}, k_items={k_items}", "give 0 (off) or more"
        )
    _require(interactions, ("user_id", "item_id"), "the interactions")
    users = pd.factorize(interactions["user_id"])[0]
    items = pd.factorize(interactions["item_id"])[0]
    kept = np.arange(len(interactions))
    while True:
        enough = (np.bincount(users[kept])[users[kept]] >= k_users) & (np.bincount(items[kept])[items[kept]] >= k_items)
        if enough.all():
            break
        kept = kept[enough]
        if not len(kept):
            raise PlumError(
                f"the k-core with k_users={k_users} and k_items={k_items} leaves no interactions",
                f"{len(interactions):,} interactions of {users.max() + 1:,} users and {items.max() + 1:,} items",
                "lower the thresholds, or set them to 0 to keep all",
            )
    return interactions.iloc[kept].reset_index(drop=True)


def leave_one_out(ordered: pd.DataFrame) -> pd.DataFrame:
    """Split each user's history: last interaction to test, the one before to validation, the rest to training.

    Users with fewer than 3 interactions only train (see ``users_without_test`` of :func:`report_split`).

    Args:
        ordered: rows of :func:`order_interactions`.

    Returns:
        ``user_id``, ``item_id``, ``position`` (int32, from 0 in a user's history), ``part``; rows as in ``ordered``.

    Raises:
        PlumError: if rows are missing or not in order, or no user has 3 interactions.

    Example:
        A user with items a, b, c, d in time: a, b train; c valid; d test.
    """
    position, length = _positions(ordered)
    from_end = length - 1 - position
    part = np.select([from_end == 0, from_end == 1], ["test", "valid"], "train")
    part[length < MIN_SPLIT_LENGTH] = "train"
    if not (part == "test").any():
        raise PlumError(
            f"no user has the {MIN_SPLIT_LENGTH} interactions that leave-one-out needs",
            f"the longest history has {length.max()}",
            "use the temporal split, or data with longer histories",
        )
    return _split_table(ordered, position, part)


def temporal(ordered: pd.DataFrame, valid_from: Moment, test_from: Moment) -> pd.DataFrame:
    """Split at two times, the same for all users: train < ``valid_from`` <= valid < ``test_from`` <= test.

    Args:
        ordered: rows of :func:`order_interactions`.
        valid_from, test_from: the cut-off times.

    Returns:
        ``user_id``, ``item_id``, ``position`` (int32, from 0 in a user's history), ``part``; rows as in ``ordered``.

    Raises:
        PlumError: if rows are missing or not in order, the cut-offs are not in order, or a part is empty.
    """
    if valid_from >= test_from:
        raise PlumError(
            "the validation set must begin before the test set",
            f"valid_from={valid_from.second}, test_from={test_from.second}",
            "move the cut-offs apart",
        )
    position, _ = _positions(ordered)
    part = np.select([~before(ordered, test_from), ~before(ordered, valid_from)], ["test", "valid"], "train")
    empty = [name for name in PARTS if not (part == name).any()]
    if empty:
        seconds = ordered["timestamp"].to_numpy()
        first, last = Moment(int(seconds.min())), Moment(int(seconds.max()))
        raise PlumError(
            f"the temporal split leaves no interactions for {' and '.join(empty)}",
            f"valid_from={valid_from.second} ({_date(valid_from)}), test_from={test_from.second} ({_date(test_from)}); "
            f"timestamps from {first.second} ({_date(first)}) to {last.second} ({_date(last)})",
            "choose cut-offs within that range",
        )
    return _split_table(ordered, position, part)


def temporal_cutoffs(interactions: pd.DataFrame, valid_share: float, test_share: float) -> tuple[Moment, Moment]:
    """Cut-off times that give validation and test the wanted shares of the interactions, as nearly as ties allow.

    Args:
        interactions: ``timestamp`` and perhaps ``nanosecond`` of all interactions, in any order.
        valid_share: share of interactions for validation, above 0.
        test_share: share of interactions for test, above 0; with ``valid_share`` below 1.

    Returns:
        ``(valid_from, test_from)``, to hand to :func:`temporal`.

    Raises:
        PlumError: if the shares are out of range, or so many timestamps tie that a part would be empty.

    Example:
        >>> temporal_cutoffs(pd.DataFrame({"timestamp": np.arange(10)}), valid_share=0.2, test_share=0.1)
        (Moment(second=7, nanosecond=0), Moment(second=9, nanosecond=0))
    """
    if not (valid_share > 0 and test_share > 0 and valid_share + test_share < 1):
        raise PlumError(
            "the shares of the temporal split are invalid",
            f"valid_share={valid_share}, test_share={test_share}",
            "give two shares above 0 that sum to less than 1",
        )
    keys = sort_keys(interactions)
    keys = tuple(key[np.lexsort(keys)] for key in keys)
    n = len(interactions)
    if n:
        n_test = max(1, round(n * test_share))
        n_valid = max(1, round(n * valid_share))
        rows = (0, max(0, n - n_test - n_valid), n - n_test)
        first, valid_from, test_from = (Moment(*(int(key[row]) for key in reversed(keys))) for row in rows)
        if first < valid_from < test_from:
            return valid_from, test_from
    distinct = int((~same_as_before(keys)).sum()) + 1 if n else 0
    raise PlumError(
        "too few distinct timestamps for a temporal split with these shares",
        f"{n:,} interactions at {distinct:,} distinct times; valid_share={valid_share}, test_share={test_share}",
        "change the shares, give the cut-offs yourself, or split by leave-one-out",
    )


def known_items(split: pd.DataFrame, item_ids: pd.Series) -> np.ndarray:
    """Which items of a catalogue are known before validation begins: those with a training interaction.

    An item without one may have been there already; nothing but what comes later could tell it from one that was not,
    so it does not count as known either.

    Args:
        split: ``item_id``, ``part`` of a :func:`temporal` split.
        item_ids: N ids.

    Returns:
        (N,) bool.
    """
    return item_ids.isin(split.loc[split["part"] == "train", "item_id"]).to_numpy(dtype=bool)


def report_known(split: pd.DataFrame, item_ids: pd.Series) -> KnownReport:
    """Count the items of a catalogue by when they first occur; see :func:`known_items`."""
    known = known_items(split, item_ids)
    occurs = item_ids.isin(split["item_id"]).to_numpy(dtype=bool)
    return KnownReport(
        known=int(known.sum()),
        first_later=int((occurs & ~known).sum()),
        never=int((~occurs).sum()),
        later_share=float((~known).mean()),
    )


def report_split(split: pd.DataFrame) -> SplitReport:
    """Count a split.

    Args:
        split: ``user_id``, ``item_id``, ``position``, ``part``.

    Returns:
        The counts.
    """
    part = split["part"].to_numpy()
    in_train, in_test = split[part == "train"], split[part == "test"]
    users, test_users = split["user_id"].nunique(), in_test["user_id"].drop_duplicates()
    return SplitReport(
        users=users,
        interactions=len(split),
        train=len(in_train),
        valid=int((part == "valid").sum()),
        test=len(in_test),
        users_with_test=len(test_users),
        users_without_test=users - len(test_users),
        test_users_without_train=int((~test_users.isin(in_train["user_id"])).sum()),
        test_cold=int((~in_test["item_id"].isin(in_train["item_id"])).sum()),
    )


def _require(frame: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    """Refuse a frame without rows, columns or entries."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise PlumError(
            f"{what} lack the column {' and '.join(missing)}", f"columns {', '.join(map(str, frame.columns))}", "add it"
        )
    if frame.empty:
        raise PlumError(f"{what} have no rows", None, "check the source and its filters")
    nulls = {name: int(frame[name].isna().sum()) for name in columns}
    if any(nulls.values()):
        listed = ", ".join(f"{count:,} in {name}" for name, count in nulls.items() if count)
        raise PlumError(f"{what} have missing entries", listed, "drop or fix these rows")


def _ranks(ids: pd.Series) -> np.ndarray:
    """(rows,) int64 ranks of ids, compared as strings. Sorting by rank equals sorting by id, and is much faster."""
    return pd.factorize(ids.astype(str), sort=True)[0]


def _tie_report(user: np.ndarray, time: tuple[np.ndarray, ...], broken_by: str) -> TieReport:
    """Count ties of sorted rows; ``time`` as of ``sort_keys``."""
    same = (user[1:] == user[:-1]) & same_as_before(time)  # row i + 1 ties with row i
    tied = np.zeros(len(user), dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    # Rows are grouped by user: the last row i of a user with 3 or more has the same user at i - 2.
    ends_long = np.zeros(len(user), dtype=bool)
    ends_long[MIN_SPLIT_LENGTH - 1 :] = user[MIN_SPLIT_LENGTH - 1 :] == user[: len(user) - MIN_SPLIT_LENGTH + 1]
    ends_long[:-1] &= user[1:] != user[:-1]
    return TieReport(
        interactions=len(user),
        tied=int(tied.sum()),
        share=float(tied.mean()),
        users=len(np.unique(user[tied])),
        users_test_tied=int((ends_long[1:] & same).sum()),
        broken_by=broken_by,
    )


def _positions(ordered: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Position of each row in its user's history and the length of that history, after checking the order."""
    _require(ordered, ("user_id", "item_id", "timestamp"), "the interactions")
    user = pd.factorize(ordered["user_id"])[0]  # numbers users by first appearance
    same_user = user[1:] == user[:-1]
    if (user[1:] < user[:-1]).any() or (same_user & earlier_than_above(sort_keys(ordered))).any():
        raise PlumError(
            "the interactions are not in order of user and time",
            "a user's rows are not contiguous, or not sorted by time",
            "call order_interactions first",
        )
    lengths = np.bincount(user)
    starts = np.cumsum(lengths) - lengths
    return np.arange(len(user)) - starts[user], lengths[user]


def _split_table(ordered: pd.DataFrame, position: np.ndarray, part: np.ndarray) -> pd.DataFrame:
    """Columns of ``split.parquet``."""
    return pd.DataFrame(
        {
            "user_id": ordered["user_id"].to_numpy(),
            "item_id": ordered["item_id"].to_numpy(),
            "position": position.astype(np.int32),
            "part": part.astype(object),
        }
    )


def _date(moment: Moment) -> str:
    """Minute of a moment, in UTC; for any year, so that milliseconds mistaken for seconds show."""
    return str(np.datetime_as_string(np.datetime64(moment.second, "s"), unit="m")).replace("T", " ")
