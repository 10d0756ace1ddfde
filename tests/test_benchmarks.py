"""Benchmarks of Semantic IDs at tiny sizes: they run as they stand, and what they print can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import later_worlds
import numpy as np
import pandas as pd
import pytest
import tiny_run
import yaml

from plum.run import artifacts
from plum.stages import features, prepare

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: str | Path) -> dict[str, object]:
    """What a benchmark prints with ``--json``."""
    command = [sys.executable, str(BENCHMARKS / name), "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | tiny_run.ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_semantic_ids() -> None:
    sizes = ("--items", "6000", "--train-items", "300", "--steps", "3", "--threads", "1")
    found = run("semantic_ids.py", *sizes)
    assert set(found) == {"assign_items_per_s", "assign_peak_mib", "train_s"}
    assert all(isinstance(value, float) and value > 0 for value in found.values())


def test_what_semantic_ids_keep_of_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUM_DATA_HOME", str(tmp_path))
    folder = tmp_path / "amazon-2014"
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = ["red", "blue", "night", "day", "soap", "cream", "brush", "oil", "dry", "soft"]
    titles = [f"{item}\tA{item}\t{' '.join(rng.choice(words, 3))}\n" for item in range(1, 121)]
    (folder / "Beauty_titles.tsv").write_text("".join(titles))
    attributes = {item: [int(n) for n in rng.choice(range(1, 9), 2, replace=False)] for item in range(1, 121)}
    (folder / "Beauty_item2attributes.json").write_text(json.dumps(attributes))
    lines = [" ".join(map(str, [user, *(rng.permutation(120)[:12] + 1)])) + "\n" for user in range(1, 61)]
    (folder / "Beauty.txt").write_text("".join(lines))
    data = ("--data", "Sports_and_Outdoors", "Beauty", "--threads", "1", "--set", "tokenize.max_steps=60")
    found = run("semantic_ids.py", *data)
    assert set(found) == {"Beauty"}
    figures = found["Beauty"]
    assert isinstance(figures, dict)
    assert figures["reconstruction_ratio"] == pytest.approx(figures["with_quantiser"] / figures["residual_kmeans"])
    assert 0 < figures["faiss"] < 1
    assert figures["steps"] == 60
    assert len(figures["usage"]) == len(figures["lift"]) == 3


def test_a_data_set_that_is_not_there_is_left_out_with_a_message(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "semantic_ids.py"), "--json", "--data", "Beauty"]
    environment = os.environ | tiny_run.ENVIRONMENT | {"PLUM_DATA_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, {}), done.stderr
    assert "Beauty is left out" in done.stderr
    assert str(tmp_path) in done.stderr


def test_residual_kmeans(tmp_path: Path) -> None:
    for folder in ("data", "features"):
        (tmp_path / folder).mkdir()
    pd.DataFrame({"item_id": [str(number) for number in range(40)]}).to_parquet(tmp_path / artifacts.ITEMS)
    np.save(tmp_path / "features/text.npy", np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    artifacts.write_json(
        tmp_path / artifacts.FEATURES_SUMMARY, {"modalities": {"text": {"encoder": "tfidf", "shape": [40, 3]}}}
    )
    found = run("residual_kmeans.py", tmp_path, "--sizes", "4", "2", "--seeds", "1")
    assert len(found) == 3
    for figures in found.values():
        assert isinstance(figures, dict)
        # Standardised vectors have a mean square of 1 per dimension: codewords leave less.
        assert 0 < figures["error"] < 1
        assert figures["seconds"] > 0


def test_later_items(tmp_path: Path) -> None:
    config = later_worlds.config_of(tmp_path / "world", later_worlds.usual(), {"text": {"dimensions": 8}})
    artifacts.write_config(config.workdir, config.model_dump(mode="json"))
    prepare.run(config)
    features.run(config)
    tiny_run.write(artifacts.config_path(config.workdir), config.model_dump(mode="json"))
    found = run("later_items.py", config.workdir)
    assert set(found) == {"popularity", "recencypop", "itemknn", "textknn"}
    assert found["popularity"]["later_recall@10"] == 0  # type: ignore[index]
    assert found["textknn"]["later_share_of_lists"] > 0  # type: ignore[index]


def test_warm_start(tmp_path: Path) -> None:
    genres = ["Drama", "War", "Comedy|War", "Drama|Comedy", "Western"]
    films = pd.DataFrame({"movieId": range(40), "title": "a film", "genres": [genres[n % 5] for n in range(40)]})
    ratings = [(user, film, 5.0, 1000 * user + film) for user in range(8) for film in range(user, 40, 3)]
    films.to_csv(tmp_path / "movies.csv", index=False)
    pd.DataFrame(ratings, columns=["userId", "movieId", "rating", "timestamp"]).to_csv(
        tmp_path / "ratings.csv", index=False
    )
    found = run("warm_start.py", tmp_path, "--encoder", "topics", "--steps", "2", "--again", "1")
    assert set(found) == {"cold", "warm, steps: 1"}
    for figures in found.values():
        assert isinstance(figures, dict)
        assert all(0 <= share <= 1 for key in ("same", "matched") for share in figures[key])
        assert figures["reconstruction"] > 0


def test_dense_in_codes(finished_run: Path) -> None:
    found = run("dense_in_codes.py", finished_run)
    (first, of_dense), (codes, of_codes) = found.items()
    assert first == "dense"
    assert codes.startswith(f"{finished_run}: 16 + 8")
    assert isinstance(of_dense, dict)
    assert isinstance(of_codes, dict)
    valid = artifacts.read_json(finished_run / "dense/metrics.json")["valid_recall@10"]
    assert abs(of_dense["recall@10"] - valid) < 1e-6
    assert 0 < of_codes["explained"] < 1
    assert 0 <= of_codes["recall@10"] <= 1


def test_dense_training() -> None:
    found = run("dense_training.py", "--items", "50", "--batch", "8", "--steps", "1")
    assert set(found) == {"64", "128"}
    for times in found.values():
        assert isinstance(times, dict)
        assert len(times) == 4
        assert all(value > 0 for value in times.values())


def test_dense_recipe(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    kept = ("--set", "eval.dense.search={block: [post-norm, ligr]}", "--set", "eval.dense.keep_trials=true")
    found = run("dense_recipe.py", path, *kept)
    trials, test = found["trials"], found["test"]
    assert isinstance(trials, list)
    assert isinstance(test, dict)
    assert [trial["settings"] for trial in trials] == [{"block": "post-norm"}, {"block": "ligr"}]
    assert set(test) == {"dense", "dense-mean"}
    assert all(0 < figures["recall@10, all"] <= 1 for figures in test.values())


def test_finetune_training(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, "finetune.teacher_weight=0.5")
    (run_copy / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    before = tiny_run.times(run_copy)
    found = run("finetune_training.py", run_copy, "--steps", "3", "--last", "2")
    assert len(found) == 4
    for figures in found.values():
        assert isinstance(figures, dict)
        assert list(figures) == ["first_s", "last_s", "peak_mib"]
        assert all(value > 0 for value in figures.values())
    assert tiny_run.times(run_copy) == before


def test_training() -> None:
    sizes = ("--hidden", "64", "--layers", "1", "--vocabulary", "100", "--batch", "2", "--length", "16")
    found = run("training.py", *sizes, "--steps", "1", "--rounds", "1", "--micro", "1")
    assert list(found) == ["throughput_ratio", "tokens_per_second", "peak_mib"]
    assert all(isinstance(value, float) and value > 0 for value in found.values())


def test_isotropy(finished_run: Path) -> None:
    found = run("isotropy.py", finished_run, "--sizes", "8", "4", "--seeds", "1")
    assert list(found) == ["none", "centre", "whiten", "all-but-the-top"]
    for way, figures in found.items():
        assert isinstance(figures, dict)
        assert 0 < figures["error"] < 1
        assert 0 <= figures["unique"] <= 1
        assert len(figures["near"]) == len(figures["lift"]) == 2
        assert way == "none" or abs(figures["cosine"]) < 0.1


def test_packing() -> None:
    found = run("packing.py", "--steps", "2", "--context", "64")
    assert set(found) == {"packed", "no mask", "apart", "packing_efficiency", "cuts_per_block"}
    assert all(isinstance(found[name], float) and found[name] > 0 for name in ("packed", "no mask", "apart"))
    assert isinstance(found["packing_efficiency"], float)
    assert 0.95 < found["packing_efficiency"] <= 1
