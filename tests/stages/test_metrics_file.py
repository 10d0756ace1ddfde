"""What eval/metrics.json says beyond means: slices, levels of the Semantic ID, cost, and how settings were chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plum.evaluation.significance import holm
from plum.stages import inputs
from plum.stages.eval.field import ABOUT

THERE = ["popularity", "recencypop", "textknn", "itemknn", "counting", "dense", "plum", "blend", "optimum"]
"""All but LEM, which the tiny configuration leaves out, the mean of teachers, which plum lacks here, and the hybrid."""
TUNED = {"recencypop", "textknn", "itemknn", "counting", "dense", "plum", "blend"}


@pytest.fixture(scope="module")
def metrics(finished_run: Path) -> dict[str, Any]:
    return json.loads((finished_run / "eval/metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lists(finished_run: Path) -> pd.DataFrame:
    return pd.read_parquet(finished_run / "eval/recommendations.parquet")


@pytest.fixture(scope="module")
def target(finished_run: Path) -> pd.Series:
    """User -> item of the test part."""
    split = pd.read_parquet(finished_run / "data/split.parquet")
    return split[split["part"] == "test"].set_index("user_id")["item_id"]


def test_every_retriever_that_applies_is_there_the_weakest_kind_first(metrics: dict[str, Any]) -> None:
    assert list(metrics["retrievers"]) == THERE
    assert [name for name in ABOUT if name not in ("lem", "dense-mean", "hybrid")] == THERE
    assert metrics["left_out"] == {"lem": "not asked for (eval.lem)"}
    assert list(metrics["intervals"]) == THERE
    assert list(metrics["lists"]) == THERE
    assert list(metrics["seen_kept"]) == [name for name in THERE if name != "optimum"]


def test_all_retrievers_recommend_to_the_same_users(lists: pd.DataFrame, target: pd.Series) -> None:
    assert list(lists["retriever"].unique()) == THERE
    for name, found in lists.groupby("retriever"):
        assert set(found["user_id"]) == set(target.index), name


def test_lists_are_counted_as_they_stand_in_the_table(lists: pd.DataFrame, metrics: dict[str, Any]) -> None:
    n_users = metrics["n_users"]
    for name, found in lists.groupby("retriever"):
        length = found.groupby("user_id").size()
        assert metrics["lists"][name] == {
            "users with fewer than 10 items": n_users - int((length == 10).sum()),
            "users without any item": n_users - len(length),
        }


def test_every_retriever_has_the_same_figures_beyond_accuracy(metrics: dict[str, Any]) -> None:
    names = ("effective_vocabulary@10", "coverage@10", "gini@10", "novelty@10", "diversity@10", "cold_users")
    n_items = metrics["protocol"]["candidates"]
    for retriever, values in metrics["retrievers"].items():
        assert set(names) <= set(values), retriever
        assert 0 <= values["gini@10"] <= 1 - 1 / n_items
        assert 0 <= values["diversity@10"] <= 2


def test_gini_and_diversity_are_those_of_the_stored_lists(
    finished_run: Path, lists: pd.DataFrame, metrics: dict[str, Any]
) -> None:
    """Both by their definitions over pairs: of items' counts, and of a list's items."""
    ids = pd.Index(pd.read_parquet(finished_run / "data/items.parquet")["item_id"])
    vectors = inputs.content_vectors(finished_run)
    assert vectors is not None
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for name, found in lists.groupby("retriever"):
        rows = ids.get_indexer(found["item_id"])
        counts = np.bincount(rows, minlength=len(ids))
        gini = np.abs(counts[:, None] - counts[None]).sum() / (2 * len(ids) * counts.sum())
        assert metrics["retrievers"][name]["gini@10"] == pytest.approx(gini)
        unlike = []
        for _, places in found.assign(row=rows).groupby("user_id")["row"]:
            cosines = vectors[places] @ vectors[places].T
            unlike.append(1 - cosines[np.triu_indices(len(places), 1)].mean())
        assert metrics["retrievers"][name]["diversity@10"] == pytest.approx(np.mean(unlike), abs=1e-5)


def test_p_values_are_corrected_over_all_comparisons(metrics: dict[str, Any]) -> None:
    comparisons = metrics["comparisons"]
    rivals = [name for name in THERE if name not in ("plum", "optimum")]
    assert [(one["metric"], one["a"], one["b"]) for one in comparisons] == [
        (metric, "plum", rival) for metric in ("recall@10", "ndcg@10") for rival in rivals
    ]
    corrected = holm([one["p_value"] for one in comparisons])
    assert [one["p_holm"] for one in comparisons] == pytest.approx(list(corrected))
    smallest = min(one["p_value"] for one in comparisons)
    assert min(one["p_holm"] for one in comparisons) == pytest.approx(min(1.0, smallest * len(comparisons)))
    assert all(one["p_holm"] >= one["p_value"] for one in comparisons)


def test_slices_divide_the_users_and_their_means_add_up(metrics: dict[str, Any]) -> None:
    groups = {group["group"]: group["slices"] for group in metrics["slices"]}
    assert list(groups) == ["popularity of the target", "length of the history", "order of the test item"]
    for name, slices in groups.items():
        assert sum(part["users"] for part in slices) == metrics["n_users"], name
        assert sum(part["targets"] for part in slices) == metrics["n_users"]  # leave-one-out: one each
        for retriever in THERE:
            weighted = sum(part["users"] * part["retrievers"][retriever]["recall@10"] for part in slices)
            assert weighted / metrics["n_users"] == pytest.approx(metrics["retrievers"][retriever]["recall@10"])
        for part in slices:
            assert list(part["retrievers"]) == THERE
            for values in part["retrievers"].values():
                assert values["ci95"][0] <= values["recall@10"] <= values["ci95"][1]


def test_prefix_recall_falls_to_recall_from_level_to_level(
    finished_run: Path, lists: pd.DataFrame, target: pd.Series, metrics: dict[str, Any]
) -> None:
    codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet").set_index("item_id")["code_0"]
    assert list(metrics["prefix_recall"]) == THERE
    for name, found in lists.groupby("retriever"):
        levels = metrics["prefix_recall"][name]
        assert len(levels) == 3
        assert levels == sorted(levels, reverse=True)
        assert levels[-1] == pytest.approx(metrics["retrievers"][name]["recall@10"])  # Semantic IDs are unique
        same = found["item_id"].map(codes) == found["user_id"].map(target).map(codes)
        assert levels[0] == pytest.approx(same.groupby(found["user_id"]).any().mean())


def test_the_cost_of_what_was_trained_is_told(finished_run: Path, metrics: dict[str, Any]) -> None:
    cost = metrics["efficiency"]
    assert list(cost) == ["dense", "plum", "blend"]

    def stored(stage: str) -> dict[str, int]:
        return json.loads((finished_run / stage / "metrics.json").read_text())["cost"]

    assert cost["dense"] == stored("dense")
    before, after = stored("cpt"), stored("finetune")
    assert cost["plum"]["examples"] == after["examples"]
    for name in ("tokens", "flops"):
        assert cost["plum"][name] == before[name] + after[name]
        assert cost["blend"][name] == cost["plum"][name] + cost["dense"][name]


def test_what_has_settings_tells_all_trials_and_the_first_best_of_them(metrics: dict[str, Any]) -> None:
    assert set(metrics["tuning"]) == TUNED
    for name, told in metrics["tuning"].items():
        recalls = [trial["valid_recall@10"] for trial in told["trials"]]
        best = told["trials"][recalls.index(max(recalls))]
        assert told["chosen"] == best["settings"], name
        lengths = [len(values) for values in told["searched"].values()]
        if name in ("textknn", "itemknn"):  # one setting after another
            assert len(recalls) == 1 + sum(length - 1 for length in lengths)
        elif name != "dense":
            assert len(recalls) == np.prod(lengths, dtype=int)
    assert metrics["tuning"]["dense"]["searched"] == {}
    assert "learning_rate" in metrics["tuning"]["dense"]["note"]
