"""Recommendations for one user, or for a history given by hand, from a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd

from plum import artifacts
from plum.config import RunConfig
from plum.errors import PlumError
from plum.retrieval.interface import NO_ITEM
from plum.stages import common
from plum.stages.retrieving import plum_retriever


@dataclass(frozen=True)
class Recommended:
    """One recommended item; ``score`` is the log-probability of its Semantic ID."""

    rank: int
    item_id: str
    title: str | None
    score: float


def for_user(config: RunConfig, user_id: str, k: int) -> tuple[list[str], list[Recommended]]:
    """The top K for a user of the logs, from all their interactions.

    Returns:
        titles of the history, oldest first, and the recommendations.

    Raises:
        PlumError: for an unknown user.
    """
    data = _read(config)
    histories = data.histories
    place = np.flatnonzero(histories.user_ids == user_id)
    if not len(place):
        near = get_close_matches(user_id, histories.user_ids.tolist(), n=3) or histories.user_ids[:3].tolist()
        raise PlumError(f"no user {user_id!r} in this run", f"there are for example {', '.join(near)}", "name one")
    parts = (histories.train, histories.valid, histories.test)
    history = np.concatenate([part[place[0]] for part in parts])
    return _recommend(config, data, history, k)


def for_history(config: RunConfig, names: Sequence[str], k: int) -> tuple[list[str], list[Recommended]]:
    """The top K for a history of item ids or titles, oldest first.

    Raises:
        PlumError: if a name is no item id and no title, or a title of several items.
    """
    data = _read(config)
    history = np.array([_row_of(name, data.items) for name in names], dtype=np.int64)
    return _recommend(config, data, history, k)


def _read(config: RunConfig) -> common.Prepared:
    """The run's data, after checking that model, Semantic IDs and data are there and belong together."""
    inputs = [artifacts.ITEMS, artifacts.SPLIT, artifacts.SEMANTIC_IDS, artifacts.QUALITY, artifacts.FINETUNE_MODEL]
    artifacts.StageRun(config.workdir, "recommend", {}, config.seed, inputs)
    return common.read_prepared(config.workdir)


def _recommend(
    config: RunConfig, data: common.Prepared, history: np.ndarray, k: int
) -> tuple[list[str], list[Recommended]]:
    if k > len(data.items):
        raise PlumError(f"--k {k} is more than the catalogue holds", f"{len(data.items):,} items", "ask for fewer")
    found = plum_retriever(config, data).recommend([history], k, [history])
    titles = [title if isinstance(title, str) else None for title in data.items["title"]]
    listed = [
        Recommended(rank, str(data.items["item_id"][item]), titles[item], float(score))
        for rank, (item, score) in enumerate(zip(found.items[0], found.scores[0], strict=True), start=1)
        if item != NO_ITEM
    ]
    return [titles[row] or str(data.items["item_id"][row]) for row in history], listed


def _row_of(name: str, items: pd.DataFrame) -> int:
    rows = np.flatnonzero((items["item_id"] == name).to_numpy())
    if not len(rows):
        rows = np.flatnonzero([isinstance(t, str) and t.casefold() == name.casefold() for t in items["title"]])
    if len(rows) == 1:
        return int(rows[0])
    if len(rows) > 1:
        ids = ", ".join(items["item_id"].iloc[rows[:5]])
        raise PlumError(f"{len(rows)} items have the title {name!r}", f"item ids {ids}", "give the item id")
    known = {str(title).casefold(): str(title) for title in items["title"].dropna()}
    near = [known[match] for match in get_close_matches(name.casefold(), list(known), n=3)]
    raise PlumError(
        f"no item has the id or title {name!r}",
        f"near titles: {', '.join(near)}" if near else f"ids look like {items['item_id'].iloc[0]!r}",
        "give an item_id or the exact title",
    )
