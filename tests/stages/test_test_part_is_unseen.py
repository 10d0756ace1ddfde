"""The test part decides nothing: with other test items, all that is trained and chosen comes out the same.

Two runs from logs that differ in their test items alone. Every file of every stage before eval must be the same to the
byte, and so must the chosen settings with all their trials and the lists recommended; only what is measured may differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.data import synthetic
from plum.stages import dense, pipeline, prepare

CHOOSING = ("features", "tokenize", "cpt", "finetune", "dense", "lem")
PROTOCOLS: dict[str, dict[str, Any]] = {
    "leave-one-out": {},
    "temporal": {"protocol": "temporal", "valid_share": 0.2, "test_share": 0.2},
}
Change = Callable[[pd.DataFrame, np.ndarray], pd.DataFrame]
"""The log, and which of its rows (E,) are of a part -> another log."""


def usual_log() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Log in order of user and time, and items; times are of all users in turn, and no two are the same."""
    tables = synthetic.generate(60, 50, 0)
    log = tables.interactions.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True)
    place = log.groupby("user_id").cumcount()
    order = np.random.default_rng(0).permutation(log["user_id"].nunique())
    turn = place * len(order) + order[pd.factorize(log["user_id"])[0]]
    ratings = 1 + np.arange(len(log)) % 5
    items = tables.items[["item_id", "title"]].assign(topics=tables.items["topics"].map("|".join))
    return log[["user_id", "item_id"]].assign(timestamp=1_000_000_000 + 60 * turn, rating=ratings), items


def config_of(folder: Path, log: pd.DataFrame, protocol: str) -> RunConfig:
    folder.mkdir(parents=True)
    _, items = usual_log()
    log.to_csv(folder / "log.csv", index=False)
    items.to_csv(folder / "items.csv", index=False)
    users = pd.DataFrame({"user_id": log["user_id"].unique()})
    users.assign(town=np.where(np.arange(len(users)) % 3, "Ulm", "Bonn")).to_csv(folder / "users.csv", index=False)
    source = {"kind": "logs"} | {
        key: str(folder / f"{name}.csv")
        for key, name in (("interactions", "log"), ("items", "items"), ("users", "users"))
    }
    values = tiny_run.pipeline(folder / "run", source, ties="keep", **PROTOCOLS[protocol])
    values["features"]["modalities"]["taken"] = {"encoder": "cooccurrence", "dimensions": 8}
    values["finetune"] |= {"epochs": 3, "validate_every": 2, "validation_users": 30}
    values["eval"]["dense"] |= {"search": {"dropout": [0.1, 0.5], "learning_rate": [1e-3, 1e-2]}}
    values["features"]["modalities"]["learnt"] = {"encoder": "dense"}
    values["finetune"]["teacher_weight"] = 0.5
    values["eval"]["lem"] = {"epochs": 2, "hidden_size": 16, "layers": 1, "heads": 2, "embedding_size": 32}
    return validate(values, "the test")


def split_of(config: RunConfig) -> pd.DataFrame:
    return pd.read_parquet(config.workdir / "data/split.parquet")


def other_items(log: pd.DataFrame, part: np.ndarray) -> pd.DataFrame:
    """A few items in place of all of a part's, so that items come another number of times in the whole log.

    The catalogue has a file of its own, so it stays. Nobody gets an item twice; who has all of the few keeps the item.
    """
    items = log["item_id"].to_numpy(dtype=object).copy()
    few = np.unique(items)[::5]
    taken = {user: set(rows) for user, rows in log.groupby("user_id")["item_id"]}
    for turn, row in enumerate(np.flatnonzero(part)):
        seen = taken[log["user_id"].iloc[row]]
        free = [item for item in np.roll(few, turn) if item not in seen]
        if free:
            items[row] = free[0]
            seen.add(free[0])
    return log.assign(item_id=items)


def other_items_later(log: pd.DataFrame, part: np.ndarray) -> pd.DataFrame:
    """Such items, with all of the part but its first moment a month later, and other ratings."""
    log = other_items(log, part)
    later = part & (log["timestamp"] > log["timestamp"][part].min())
    return log.assign(timestamp=log["timestamp"] + 2_592_000 * later, rating=np.where(part, 3, log["rating"]))


CHANGES: dict[str, Change] = {"leave-one-out": other_items, "temporal": other_items_later}


@pytest.fixture(scope="module", params=["leave-one-out", pytest.param("temporal", marks=pytest.mark.slow)])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of two finished runs whose logs differ in the test part alone."""
    home = tmp_path_factory.mktemp(request.param)
    log, _ = usual_log()
    usual = config_of(home / "usual", log, request.param)
    pipeline.run_all(usual)
    split = split_of(usual)
    assert split[["user_id", "item_id"]].equals(log[["user_id", "item_id"]])  # rows as in the log
    changed = CHANGES[request.param](log, (split["part"] == "test").to_numpy())
    other = config_of(home / "changed", changed, request.param)
    pipeline.run_all(other)
    return usual.workdir, other.workdir


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def test_the_runs_differ_in_their_test_items_alone(runs: tuple[Path, Path]) -> None:
    one, other = (pd.read_parquet(run / "data/split.parquet") for run in runs)
    columns = ["user_id", "position", "part"]
    assert one[columns].equals(other[columns])
    differs = (one["item_id"] != other["item_id"]).to_numpy()
    assert set(one["part"][differs]) == {"test"}
    tests = [split["item_id"][split["part"] == "test"] for split in (one, other)]
    assert differs.sum() > 0.8 * len(tests[0])
    # Other counts in all: a popularity that counts the test part would differ.
    catalogue = pd.Index(pd.read_parquet(runs[0] / "data/items.parquet")["item_id"])
    counts = [np.bincount(catalogue.get_indexer(items), minlength=len(catalogue)) for items in tests]
    assert counts[0].sum() == counts[1].sum()
    assert np.abs(counts[0] - counts[1]).sum() > len(tests[0])  # more than half of them moved to another item
    assert np.argmax(counts[0]) != np.argmax(counts[1])
    assert (runs[0] / "data/items.parquet").read_bytes() == (runs[1] / "data/items.parquet").read_bytes()


@pytest.mark.parametrize("stage", CHOOSING)
def test_every_file_of_a_stage_is_the_same(runs: tuple[Path, Path], stage: str) -> None:
    contents = [
        {
            str(path.relative_to(run / stage)): path.read_bytes()
            for path in (run / stage).rglob("*")
            if path.is_file() and path.name != "manifest.json"  # it holds times, and the hash of the whole split
        }
        for run in runs
    ]
    assert contents[0].keys() == contents[1].keys()
    assert [name for name, content in contents[0].items() if content != contents[1][name]] == []


def test_all_settings_are_chosen_alike(runs: tuple[Path, Path]) -> None:
    one, other = (read(run, "eval/metrics.json") for run in runs)
    assert set(one["tuning"]) == {"recencypop", "textknn", "itemknn", "counting", "lem", "dense", "plum", "blend"}
    assert one["tuning"] == other["tuning"]
    assert len(one["tuning"]["dense"]["trials"]) == 4
    assert one["blends"] == other["blends"]
    assert len(one["blends"]["blend"]["parts"]) == 7
    assert one["efficiency"] == other["efficiency"]
    assert one["left_out"] == other["left_out"] == {}


def test_the_same_is_recommended(runs: tuple[Path, Path]) -> None:
    one, other = (pd.read_parquet(run / "eval/recommendations.parquet") for run in runs)
    pd.testing.assert_frame_equal(one, other)


def test_only_what_is_measured_on_the_test_part_differs(runs: tuple[Path, Path]) -> None:
    one, other = (read(run, "eval/metrics.json") for run in runs)
    for retriever in ("dense", "plum", "itemknn"):
        recalls = [metrics["retrievers"][retriever] for metrics in (one, other)]
        assert {name for name in recalls[0] if recalls[0][name] != recalls[1].get(name)} & {"recall@10", "ndcg@10"}
        for name in ("effective_vocabulary@10", "coverage@10", "gini@10", "novelty@10", "diversity@10"):
            assert recalls[0][name] == recalls[1][name]


def test_users_features_and_ratings_come_into_the_metrics(runs: tuple[Path, Path]) -> None:
    metrics = read(runs[0], "eval/metrics.json")
    towns = next(group for group in metrics["slices"] if group["group"] == "town")
    assert {part["name"] for part in towns["slices"]} == {"Ulm", "Bonn"}
    assert sum(part["users"] for part in towns["slices"]) == metrics["n_users"]
    rated = [values for values in metrics["retrievers"].values() if "hit_rating@10" in values]
    assert rated
    assert all(1 <= values["hit_rating@10"] <= 5 and values["rated_hits@10"] >= 1 for values in rated)


def test_fine_tuning_is_validated_as_often_as_it_was_set(runs: tuple[Path, Path]) -> None:
    lines = (runs[0] / "finetune/train_log.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["epoch"] for entry in entries if "recall@10" in entry] == [1, 2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_validation_part_does_decide(tmp_path: Path, protocol: str) -> None:
    """The comparison above can fail: other validation items give another choice."""
    log, _ = usual_log()
    usual = config_of(tmp_path / "usual", log, protocol)
    prepare.run(usual)
    changed = config_of(
        tmp_path / "changed", other_items(log, (split_of(usual)["part"] == "valid").to_numpy()), protocol
    )
    prepare.run(changed)
    for config in (usual, changed):
        dense.run(config)
    trials = [read(config.workdir, "dense/trials.json") for config in (usual, changed)]
    assert [one["valid_recall@10"] for one in trials[0]] != [one["valid_recall@10"] for one in trials[1]]
