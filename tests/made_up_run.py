"""Run folders made up by hand, with the files that `plum compare` reads and lists of which the metrics are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from plum.evaluation.metrics import per_user_metrics
from plum.run import artifacts
from plum.run.stage import StageRun

ITEMS = [f"i{number}" for number in range(12)]
USERS = [f"u{number}" for number in range(8)]
TARGETS = {user: f"i{number + 2}" for number, user in enumerate(USERS)}  # i2 to i9; histories hold i0, i1 and i10
Lists = Mapping[str, Mapping[str, Sequence[str]]]


def lists_with(hits: str, filler: str = "i11") -> dict[str, list[str]]:
    """Lists of two items, the target in the place that a digit a user says: 1, 2, or 0 for none."""
    shown = {"0": lambda target: [filler], "1": lambda target: [target, filler], "2": lambda target: [filler, target]}
    return {user: shown[hit](TARGETS[user]) for user, hit in zip(USERS, hits, strict=True)}


POPULARITY = lists_with("00000001")
BASIC: Lists = {"popularity": POPULARITY, "dense": lists_with("10200000"), "plum": lists_with("11220000")}


def make_run(
    folder: Path,
    lists: Lists = BASIC,
    seed: int = 0,
    items: Sequence[str] = ITEMS,
    targets: Mapping[str, str] = TARGETS,
    learning_rate: float = 0.1,
    protocol: Mapping[str, str] | None = None,
    cutoffs: Sequence[int] = (1, 5, 10),
    split_seed: int | None = 0,
    first_items: Sequence[str] = ("i0", "i1"),
) -> Path:
    """A run folder with the files that are compared, their manifests written as by the stages.

    Without a ``split_seed`` the split has none, as in runs of earlier versions; ``first_items`` begin u0's history.
    """
    train = {user: ("i0", "i1") for user in USERS} | {"u0": first_items}
    split = [(user, item, place, "train") for user, items_of in train.items() for place, item in enumerate(items_of)]
    split += [(user, "i10", 2, "valid") for user in USERS]
    split += [(user, target, 3, "test") for user, target in targets.items()]
    own_seed = {} if split_seed is None else {"seed": split_seed}
    data = {"split": {"protocol": "leave-one-out", "ties": "shuffle"} | own_seed}
    with StageRun(folder, artifacts.DATA, data, seed, []).writing() as path:
        artifacts.write_table(path / "items.parquet", pd.DataFrame({"item_id": list(items)}))
        frame = pd.DataFrame(split, columns=["user_id", "item_id", "position", "part"])
        artifacts.write_table(path / "split.parquet", frame)
        artifacts.write_json(path / "summary.json", {"synthetic": False})
    with StageRun(folder, artifacts.FINETUNE, {"learning_rate": learning_rate}, seed, []).writing() as path:
        artifacts.write_json(path / "metrics.json", {"valid_recall@10": 0.25 + seed / 4})
    settings = {"beams": 10, "cutoffs": list(cutoffs), "resamples": 100 + seed}
    stage = StageRun(folder, artifacts.EVAL, settings, seed, [artifacts.ITEMS, artifacts.SPLIT])
    with stage.writing() as path:
        rows = [
            (name, user, rank, item, -float(rank))
            for name, by_user in lists.items()
            for user, shown in by_user.items()
            for rank, item in enumerate(shown, 1)
        ]
        frame = pd.DataFrame(rows, columns=["retriever", "user_id", "rank", "item_id", "score"])
        artifacts.write_table(path / "recommendations.parquet", frame)
        stated = {"split": "leave-one-out", "seen": "filtered", "candidates": len(items)} | dict(protocol or {})
        means = {
            name: {m: x.mean() for m, x in scored(found, targets, cutoffs).items()} for name, found in lists.items()
        }
        artifacts.write_json(path / "metrics.json", {"protocol": stated, "n_users": len(USERS), "retrievers": means})
    return folder


def scored(
    lists: Mapping[str, Sequence[str]], targets: Mapping[str, str] = TARGETS, cutoffs: Sequence[int] = (10,)
) -> dict[str, np.ndarray]:
    """Metrics (U,) of one retriever's lists."""
    rows = np.full((len(USERS), 4), -1)
    for row, user in enumerate(USERS):
        shown = [int(item[1:]) for item in lists.get(user, ())]
        rows[row, : len(shown)] = shown
    return per_user_metrics(rows, [np.array([int(targets[user][1:])]) for user in USERS], cutoffs)
