"""What the number of users says about the figures: stated beside every interval, with a warning where it is small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plum.report.wording import BOUND, as_number, label_of, plain

FEW_USERS = 500
"""Users below which results say that there are few."""
FEW_HITS = 5
"""Hits below which a retriever's figure says little, however many users there are."""


def over_users(n_users: Any) -> str:
    """The users that a mean is over: ``"943 users"``, or ``"users"`` if their number is unknown."""
    return f"{plain(n_users)} users" if as_number(n_users) else "users"


def few_users(n_users: Any, kind: str = "users") -> tuple[str, str] | None:
    """That there are few users, and what that means; None if there are enough or their number is unknown."""
    number = as_number(n_users)
    if number is None or number >= FEW_USERS:
        return None
    return f"Only {number:,.0f} {kind}.", "The intervals are wide, and small differences cannot be seen."


def few_hits(n_users: Any, values: Mapping[str, Mapping[str, Any]], metric: str = "hit@10") -> tuple[str, str] | None:
    """Which retrievers hit fewer than :data:`FEW_HITS` users, and what that means; None if there are none.

    Args:
        n_users: that were scored.
        values: retriever -> metric -> mean.
        metric: ``hit@k``, or ``recall@k``, which is never more.
    """
    users, family = as_number(n_users), metric.partition("@")[0]
    if users is None or family not in ("hit", "recall"):
        return None
    means = {name: as_number(figures.get(metric)) for name, figures in values.items() if name != BOUND}
    counts = {name: mean * users for name, mean in means.items() if mean is not None}
    few = [f"{name} {count:.0f}" for name, count in counts.items() if count < FEW_HITS]
    if not few:
        return None
    return (
        f"Fewer than {FEW_HITS} hits ({label_of(metric)}):",
        f"{', '.join(few)}. Of so few hits, the order of these retrievers says little.",
    )
