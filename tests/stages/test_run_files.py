"""What a finished run holds: the file contracts of every stage, and figures that can be had from the files alone."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
from safetensors.numpy import load_file

from plum.run import artifacts
from plum.run.hashes import sha256

RETRIEVERS = ["popularity", "recencypop", "textknn", "itemknn", "counting", "dense", "plum", "blend", "optimum"]
SEEN = ("train", "valid")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def items(finished_run: Path) -> pd.DataFrame:
    return pd.read_parquet(finished_run / "data" / "items.parquet")


@pytest.fixture(scope="module")
def split(finished_run: Path) -> pd.DataFrame:
    return pd.read_parquet(finished_run / "data" / "split.parquet")


@pytest.fixture(scope="module")
def lists(finished_run: Path) -> pd.DataFrame:
    return pd.read_parquet(finished_run / "eval" / "recommendations.parquet")


@pytest.fixture(scope="module")
def metrics(finished_run: Path) -> dict[str, Any]:
    return read(finished_run / "eval" / "metrics.json")


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("data", {"interactions.parquet", "items.parquet", "split.parquet", "summary.json", "truth.safetensors"}),
        ("features", {"text.npy", "topics.npy", "features.json", "present.parquet", "encoders"}),
        (
            "tokenize",
            {
                "semantic_ids.parquet",
                "index.safetensors",
                "rqvae.safetensors",
                "tokenizer.json",
                "quality.json",
                "train_log.jsonl",
            },
        ),
        ("cpt", {"corpus", "model", "train_log.jsonl", "metrics.json", "samples.md"}),
        ("finetune", {"model", "train_log.jsonl", "metrics.json"}),
        ("dense", {"dense.safetensors", "train_log.jsonl", "metrics.json", "trials.json"}),
        (
            "eval",
            {
                "metrics.json",
                "recommendations.parquet",
                "examples.json",
                "dense_search.json",
                "report.html",
                "report.md",
            },
        ),
    ],
)
def test_a_folder_holds_its_files_and_nothing_else(finished_run: Path, folder: str, files: set[str]) -> None:
    assert {path.name for path in (finished_run / folder).iterdir()} == files | {"manifest.json"}


def test_a_finished_run_leaves_no_work_in_progress(finished_run: Path) -> None:
    assert {path.name for path in finished_run.iterdir()} == {*tiny_run.STAGES, "config.yaml", ".lock"}


@pytest.mark.parametrize("stage", tiny_run.STAGES)
def test_a_manifest_tells_what_made_the_folder(finished_run: Path, stage: str) -> None:
    manifest = read(finished_run / stage / "manifest.json")
    assert manifest["stage"] == stage
    assert manifest["seed"] == 0
    assert manifest["config"]
    assert {"plum", "python", "processor", "torch", "transformers", "numpy", "pandas"} <= manifest["versions"].keys()
    assert datetime.fromisoformat(manifest["started"]).tzinfo is not None
    assert 0 < manifest["duration_s"] < 120
    assert 50 < manifest["peak_memory_mib"] < 20_000
    files = {str(p.relative_to(finished_run / stage)) for p in (finished_run / stage).rglob("*") if p.is_file()}
    assert manifest["outputs"].keys() == files - {"manifest.json"}
    for name, digest in manifest["outputs"].items():
        assert sha256(finished_run / stage / name) == digest
    for name, digest in manifest["inputs"].items():
        assert sha256(finished_run / name) == digest


def test_every_stage_records_what_it_reads(finished_run: Path) -> None:
    inputs = {stage: set(read(finished_run / stage / "manifest.json")["inputs"]) for stage in tiny_run.STAGES}
    assert inputs["features"] == {"data/items.parquet"}
    assert {"data/split.parquet", "features/text.npy", "features/topics.npy"} <= inputs["tokenize"]
    assert "tokenize/semantic_ids.parquet" in inputs["cpt"]
    assert {"tokenize/semantic_ids.parquet", "cpt/model/model.safetensors"} <= inputs["finetune"]
    assert inputs["dense"] == {"data/items.parquet", "data/split.parquet"}
    assert {"dense/dense.safetensors", "finetune/model/model.safetensors", "data/split.parquet"} <= inputs["eval"]


def test_the_tables_have_the_stated_columns(finished_run: Path, items: pd.DataFrame, split: pd.DataFrame) -> None:
    interactions = pd.read_parquet(finished_run / "data" / "interactions.parquet")
    assert list(interactions)[:5] == ["user_id", "item_id", "timestamp", "rating", "reward"]
    assert interactions["timestamp"].dtype == np.int64
    assert interactions["rating"].dtype == interactions["reward"].dtype == np.float32
    assert interactions["user_id"].map(type).eq(str).all()
    assert interactions["item_id"].map(type).eq(str).all()
    assert list(items)[:5] == ["item_id", "title", "topics", "creator", "description"]
    assert items["item_id"].is_unique
    assert list(split) == ["user_id", "item_id", "position", "part"]
    assert set(split["part"]) == {"train", "valid", "test"}
    pd.testing.assert_frame_equal(split[["user_id", "item_id"]], interactions[["user_id", "item_id"]])


def test_features_have_a_row_for_every_item(finished_run: Path, items: pd.DataFrame) -> None:
    summary = read(finished_run / "features" / "features.json")["modalities"]
    for name in ("text", "topics"):
        vectors = np.load(finished_run / "features" / f"{name}.npy", allow_pickle=False)
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(items), summary[name]["shape"][1])
        assert np.isfinite(vectors).all()


def test_semantic_ids_cover_the_catalogue_and_agree_with_the_quality_file(
    finished_run: Path, items: pd.DataFrame
) -> None:
    table = pd.read_parquet(finished_run / "tokenize" / "semantic_ids.parquet")
    quality = read(finished_run / "tokenize" / "quality.json")
    levels = quality["levels"]
    assert list(table) == ["item_id", *(f"code_{level}" for level in range(len(levels)))]
    assert table["item_id"].equals(items["item_id"])
    codes = table.drop(columns="item_id")
    assert not codes.duplicated().any()
    assert (codes >= 0).all(axis=None)
    assert (codes < [level["size"] for level in levels]).all(axis=None)
    assert [level["size"] for level in levels][:2] == [16, 8]
    assert [level["usage"] for level in levels] == pytest.approx(
        [codes[name].nunique() / level["size"] for name, level in zip(codes, levels, strict=True)]
    )
    buckets = codes[["code_0", "code_1"]].value_counts()
    assert quality["max_items_per_sid"] == buckets.max()
    assert quality["collision_rate"] == pytest.approx(1 - quality["uniqueness"])
    assert quality["reconstruction"] > 0
    assert all(1 <= level["perplexity"] <= level["size"] for level in levels)


@pytest.mark.parametrize("stage", ["tokenize", "cpt", "finetune", "dense"])
def test_training_logs_hold_finite_losses_of_rising_steps(finished_run: Path, stage: str) -> None:
    log = artifacts.read_log(finished_run / stage / "train_log.jsonl")
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses
    assert np.isfinite(losses).all()
    steps = [entry["step"] for entry in log]
    assert steps == sorted(steps)
    validated = [entry for entry in log if "recall@10" in entry and stage != "cpt"]
    assert all(0 < entry["valid_loss"] < 10 for entry in validated)
    assert bool(validated) == (stage in ("finetune", "dense"))


def test_the_models_lie_in_hugging_face_folders(finished_run: Path) -> None:
    for stage in ("cpt", "finetune"):
        there = {path.name for path in (finished_run / stage / "model").iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= there
    before = load_file(finished_run / "cpt/model/model.safetensors")
    after = load_file(finished_run / "finetune/model/model.safetensors")
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)


def test_every_recommendation_is_of_the_catalogue_unseen_distinct_and_ranked(
    items: pd.DataFrame, split: pd.DataFrame, lists: pd.DataFrame
) -> None:
    assert list(lists) == ["retriever", "user_id", "rank", "item_id", "score"]
    assert lists["item_id"].isin(items["item_id"]).all()
    assert not lists.duplicated(["retriever", "user_id", "item_id"]).any()
    seen = split[split["part"].isin(SEEN)][["user_id", "item_id"]].drop_duplicates()
    assert lists.merge(seen, on=["user_id", "item_id"]).empty
    assert np.isfinite(lists["score"]).all()
    for _, one in lists.groupby(["retriever", "user_id"]):
        assert one["rank"].tolist() == list(range(1, len(one) + 1))
        assert one["score"].is_monotonic_decreasing


def test_all_retrievers_serve_the_same_users(split: pd.DataFrame, lists: pd.DataFrame, metrics: dict[str, Any]) -> None:
    asked = set(split.loc[split["part"] == "test", "user_id"])
    assert metrics["n_users"] == len(asked)
    assert list(lists["retriever"].unique()) == RETRIEVERS
    for _, one in lists.groupby("retriever"):
        assert set(one["user_id"]) == asked


def test_plum_gives_full_lists_where_enough_items_are_left(lists: pd.DataFrame) -> None:
    assert (lists[lists["retriever"] == "plum"].groupby("user_id").size() == 10).all()


def test_the_metrics_file_has_its_fixed_keys(metrics: dict[str, Any]) -> None:
    assert list(metrics["retrievers"]) == RETRIEVERS
    assert metrics["protocol"]["split"] == "leave-one-out"
    assert metrics["protocol"]["candidates"] == 60
    assert {c["b"] for c in metrics["comparisons"]} == set(RETRIEVERS) - {"plum", "optimum"}
    for comparison in metrics["comparisons"]:
        assert comparison.keys() == {"metric", "a", "b", "difference", "ci95", "p_value", "p_holm"}
        assert comparison["ci95"][0] <= comparison["difference"] <= comparison["ci95"][1]
        assert 0 < comparison["p_value"] <= 1


def test_metrics_are_those_of_the_stored_recommendations(
    split: pd.DataFrame, items: pd.DataFrame, lists: pd.DataFrame, metrics: dict[str, Any]
) -> None:
    target = split[split["part"] == "test"].set_index("user_id")["item_id"]
    train = split[split["part"] == "train"]["item_id"].value_counts().reindex(items["item_id"], fill_value=0)
    bits = -np.log2((train + 1) / (train.sum() + len(items)))
    for name, found in lists.groupby("retriever"):
        hit = found[found["item_id"] == found["user_id"].map(target)]
        place = hit.set_index("user_id")["rank"].reindex(target.index)
        stored = metrics["retrievers"][name]
        for k in (1, 5, 10):
            within = place.le(k)
            assert stored[f"recall@{k}"] == pytest.approx(within.mean())
            assert stored[f"hit@{k}"] == pytest.approx(within.mean())
            assert stored[f"mrr@{k}"] == pytest.approx((1 / place).where(within, 0).mean())
            assert stored[f"ndcg@{k}"] == pytest.approx((1 / np.log2(1 + place)).where(within, 0).mean())
            low, high = metrics["intervals"][name][f"recall@{k}"]
            assert low <= stored[f"recall@{k}"] <= high
        top = found[found["rank"] <= 10]["item_id"]
        assert stored["coverage@10"] == pytest.approx(top.nunique() / len(items))
        assert stored["novelty@10"] == pytest.approx(top.map(bits).mean())
        reached = top.value_counts().cumsum() >= 0.95 * len(top) - 1e-6
        assert stored["effective_vocabulary@10"] == (~reached).sum() + 1


def test_invalid_semantic_ids_are_reported_of_plum_alone(metrics: dict[str, Any]) -> None:
    assert 0 <= metrics["retrievers"]["plum"]["invalid_sid_rate@10"] <= 1
    assert [name for name, values in metrics["retrievers"].items() if "invalid_sid_rate@10" in values] == ["plum"]


def test_comparisons_are_differences_of_the_means(metrics: dict[str, Any]) -> None:
    for one in metrics["comparisons"]:
        means = [metrics["retrievers"][one[side]][one["metric"]] for side in ("a", "b")]
        assert one["difference"] == pytest.approx(means[0] - means[1], abs=1e-12)


def test_the_report_shows_the_figures_of_the_metrics_file(finished_run: Path, metrics: dict[str, Any]) -> None:
    for name in ("report.html", "report.md"):
        text = (finished_run / "eval" / name).read_text(encoding="utf-8")
        for retriever in ("popularity", "dense", "plum"):
            assert f"{metrics['retrievers'][retriever]['recall@10']:.4f}" in text
        assert "eval, until this page" in text


def test_no_file_is_a_pickle(finished_run: Path) -> None:
    kinds = {path.suffix for path in finished_run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert kinds <= {".parquet", ".arrow", ".json", ".jsonl", ".npy", ".safetensors", ".html", ".md", ".yaml", ".jinja"}
