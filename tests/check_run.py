"""Check what a finished run left behind: ``python -m tests.check_run runs/smoke``. Exits with 1 at the first fault."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from plum.data.histories import Histories
from plum.run import artifacts
from plum.run.hashes import sha256
from plum.run.manifest import read_manifest

FOLDERS = ("data", "features", "tokenize", "cpt", "finetune", "dense", "eval")
RETRIEVERS = ("popularity", "recencypop", "textknn", "itemknn", "counting", "dense", "plum", "blend")


def check(workdir: Path) -> list[str]:
    """What was checked, a line each.

    Raises:
        AssertionError: naming what is wrong.
    """
    for folder in FOLDERS:
        manifest = read_manifest(workdir / folder)
        for name, recorded in manifest.outputs.items():
            assert sha256(workdir / folder / name) == recorded, f"{folder}/{name} is not what was recorded"
    items = pd.read_parquet(workdir / artifacts.ITEMS)
    histories = Histories.from_split(pd.read_parquet(workdir / artifacts.SPLIT), items["item_id"])
    return [
        f"{len(FOLDERS)} folders are as their manifests say",
        _check_sids(workdir, items),
        _check_losses(workdir),
        _check_lists(workdir, items, histories),
        _check_metrics(workdir),
    ]


def _check_sids(workdir: Path, items: pd.DataFrame) -> str:
    table = pd.read_parquet(workdir / artifacts.SEMANTIC_IDS)
    assert table["item_id"].equals(items["item_id"]), "semantic_ids.parquet is not of the catalogue"
    codes = table.drop(columns="item_id")
    assert not codes.duplicated().any(), "two items share a Semantic ID in spite of the disambiguation code"
    levels = json.loads((workdir / artifacts.QUALITY).read_text())["levels"]
    assert (codes.to_numpy() < [level["size"] for level in levels]).all(), "a code is outside its codebook"
    return f"{len(codes):,} items have a Semantic ID of their own, {len(levels)} levels"


def _check_losses(workdir: Path) -> str:
    told = []
    # The tokenizer's codewords start as k-means of its latents, where the quantiser's loss is at its smallest: the
    # reconstruction error, by which its weights are chosen, is what must fall.
    for stage, key in (("tokenize", "valid_loss"), ("cpt", "loss"), ("finetune", "loss"), ("dense", "loss")):
        log = artifacts.read_log(workdir / stage / "train_log.jsonl")
        assert np.isfinite([entry["loss"] for entry in log if "loss" in entry]).all(), f"{stage}: a loss is not finite"
        losses = [entry[key] for entry in log if key in entry]
        last = losses[-1:] if key == "valid_loss" else losses[-3:]
        assert np.mean(last) < losses[0], f"{stage}: the loss did not fall: {losses[0]} .. {losses[-1]}"
        told.append(f"{stage} {losses[0]:.2f} -> {losses[-1]:.2f}")
    return "losses fell: " + ", ".join(told)


def _check_lists(workdir: Path, items: pd.DataFrame, histories: Histories) -> str:
    lists = pd.read_parquet(workdir / artifacts.RECOMMENDATIONS)
    assert lists["item_id"].isin(items["item_id"]).all(), "an item is recommended that is not in the catalogue"
    assert not lists.duplicated(["retriever", "user_id", "item_id"]).any(), "an item stands twice in a list"
    in_turn = lists.groupby(["retriever", "user_id"]).cumcount() + 1
    assert (lists["rank"] == in_turn).all(), "the ranks of a list are not 1, 2, ..."
    rising = lists.groupby(["retriever", "user_id"])["score"].diff() > 0
    assert not rising.any(), "a score rises along a list"
    served = lists.groupby("retriever")["user_id"].nunique()
    assert served.nunique() == 1, f"retrievers served different numbers of users: {served.to_dict()}"
    users, past, _ = histories.questions("test")
    seen = pd.DataFrame(
        {
            "user_id": np.repeat(histories.user_ids[users], [len(rows) for rows in past]),
            "item_id": items["item_id"].to_numpy()[np.concatenate(past)],
        }
    ).drop_duplicates()
    assert lists.merge(seen, on=["user_id", "item_id"]).empty, "a seen item is recommended"
    full = lists[lists["retriever"] == "plum"].groupby("user_id").size()
    assert (full == 50).all(), "plum gave fewer than 50 items although there are enough"
    assert len(full) == len(users), "plum left users out"
    distinct = lists[(lists["retriever"] == "plum") & (lists["rank"] == 1)]["item_id"].nunique()
    assert distinct > 20, f"plum's first item is one of only {distinct} for all users: it ignores the history"
    return f"{len(lists):,} recommendations are of the catalogue, unseen and distinct"


def _check_metrics(workdir: Path) -> str:
    metrics = json.loads((workdir / artifacts.EVAL_METRICS).read_text())
    assert list(metrics["retrievers"]) == list(RETRIEVERS), f"retrievers are {list(metrics['retrievers'])}"
    recall = {name: metrics["retrievers"][name]["recall@10"] for name in RETRIEVERS}
    pair = next(c for c in metrics["comparisons"] if c["b"] == "popularity" and c["metric"] == "recall@10")
    assert abs(pair["difference"] - (recall["plum"] - recall["popularity"])) < 1e-9, "the difference is none of the two"
    assert pair["ci95"][0] > 0, f"plum does not beat popularity: {pair}"
    report = (workdir / artifacts.REPORT).read_text()
    assert f"{recall['plum']:.4f}" in report, "the report does not show plum's recall"
    return "Recall@10: " + ", ".join(f"{name} {value:.4f}" for name, value in recall.items())


if __name__ == "__main__":
    for line in check(Path(sys.argv[1])):
        sys.stdout.write(f"ok: {line}\n")
