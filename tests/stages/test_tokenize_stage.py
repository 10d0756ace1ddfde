"""Stage tokenize: its methods and settings, items that lack content, a warm start, and input that is refused."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
from safetensors.numpy import load_file

from plum.config.file import load_config, validate
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.run import artifacts
from plum.run.hashes import sha256
from plum.run.manifest import read_manifest
from plum.sid.frozen import load_frozen
from plum.stages import features, inputs, prepare, tokenize

N = 60
NAMES = ("text", "topics")


@pytest.fixture(scope="module")
def with_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as far as its features. Not to be changed."""
    workdir = tmp_path_factory.mktemp("features") / "run"
    config = validate(tiny_run.pipeline(workdir), "the test")
    prepare.run(config)
    features.run(config)
    artifacts.write_config(workdir, config.model_dump(mode="json"))
    return workdir


@pytest.fixture(scope="module")
def usual_weights(with_features: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What 8 steps with the usual settings give."""
    workdir = Path(shutil.copytree(with_features, tmp_path_factory.mktemp("usual") / "run"))
    tokenized(workdir, max_steps=200)
    return dict(load_file(workdir / artifacts.RQVAE))


@pytest.fixture
def workdir(with_features: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(with_features, tmp_path / "run"))


def config_of(workdir: Path, **settings: Any) -> RunConfig:
    return load_config(workdir / "config.yaml", [f"tokenize.{k}={v}" for k, v in settings.items()], workdir=workdir)


def tokenized(workdir: Path, **settings: Any) -> dict[str, Any]:
    """Run the stage; gives its quality file."""
    return dict(artifacts.read_json(tokenize.run(config_of(workdir, **settings)) / "quality.json"))


def codes(workdir: Path) -> np.ndarray:
    return pd.read_parquet(workdir / artifacts.SEMANTIC_IDS).drop(columns="item_id").to_numpy()


def replace(workdir: Path, name: str, write: Callable[[Path], Any]) -> None:
    """Put another file in the place of one of the run's, as the stage that it is of would have."""
    write(workdir / name)
    folder, _, rest = name.partition("/")
    manifest = artifacts.read_json(workdir / folder / "manifest.json")
    manifest["outputs"][rest] = sha256(workdir / name)
    artifacts.write_json(workdir / folder / "manifest.json", manifest)


def replace_items(workdir: Path, items: pd.DataFrame) -> None:
    """Another catalogue, with features as if made of it."""
    replace(workdir, artifacts.ITEMS, lambda path: items.to_parquet(path))
    manifest = artifacts.read_json(workdir / "features/manifest.json")
    manifest["inputs"][artifacts.ITEMS] = sha256(workdir / artifacts.ITEMS)
    artifacts.write_json(workdir / "features/manifest.json", manifest)


def set_present(workdir: Path, present: np.ndarray) -> None:
    """Say which items have which modality, (N, 2); the vectors of absent ones become zero."""
    item_ids = pd.read_parquet(workdir / artifacts.ITEMS)["item_id"]
    table = pd.DataFrame({"item_id": item_ids, **dict(zip(NAMES, present.T, strict=True))})
    replace(workdir, artifacts.PRESENT, lambda path: table.to_parquet(path))
    for name, there in zip(NAMES, present.T, strict=True):
        change_vectors(workdir, name, lambda x, there=there: np.where(there[:, None], x, 0))


def change_vectors(workdir: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = f"features/{name}.npy"
    vectors = change(np.load(workdir / path)).astype(np.float32)
    replace(workdir, path, lambda to: np.save(to, vectors))


def refused(workdir: Path, match: str, **settings: Any) -> None:
    """The stage stops before it opens a folder."""
    with pytest.raises(PlumError, match=match):
        tokenize.run(config_of(workdir, **settings))
    assert not (workdir / "tokenize").exists()
    assert not (workdir / ".tokenize.partial").exists()


@pytest.mark.parametrize("method", ["rqvae", "rqkmeans", "random"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
def test_every_method_writes_the_same_files_and_a_tokenizer_that_repeats_its_codes(
    workdir: Path, method: str, gaps: bool
) -> None:
    present = np.ones((N, 2), dtype=bool)
    if gaps:
        present[::4, 0] = present[1::4, 1] = False
        set_present(workdir, present)
    quality = tokenized(workdir, method=method, collision="share")
    written = {path.name for path in (workdir / "tokenize").iterdir()} - {"manifest.json", "train_log.jsonl"}
    named = {"semantic_ids.parquet", "index.safetensors", "rqvae.safetensors", "tokenizer.json", "quality.json"}
    assert written == named
    assert [level["size"] for level in quality["levels"]] == [16, 8]
    frozen = load_frozen(workdir / "tokenize")
    vectors = [np.load(workdir / f"features/{name}.npy") for name in NAMES]
    ids = pd.read_parquet(workdir / artifacts.ITEMS)["item_id"].tolist()
    assert np.array_equal(frozen.assign(vectors, present, ids), codes(workdir))
    books = inputs.read_codebooks(workdir)
    assert [len(book) for book in books] == [16, 8]
    if method == "random":
        assert quality["reconstruction"] is quality["reconstruction_by_modality"] is None
    else:
        assert set(quality["reconstruction_by_modality"]) == set(NAMES)
        assert quality["reconstruction"] == pytest.approx(np.mean(list(quality["reconstruction_by_modality"].values())))


@pytest.mark.parametrize("method", ["rqvae", "rqkmeans"])
def test_a_heavier_modality_is_reconstructed_better(workdir: Path, method: str) -> None:
    errors = {}
    for heavy in NAMES:
        settings = [f"features.modalities.{heavy}.weight=30", f"tokenize.method={method}", "tokenize.max_steps=20"]
        config = load_config(workdir / "config.yaml", [*settings, "tokenize.contrastive_weight=0"], workdir=workdir)
        before = tiny_run.times(workdir / "features")
        quality = artifacts.read_json(tokenize.run(config) / "quality.json")
        assert tiny_run.times(workdir / "features") == before
        assert quality["modalities"][heavy]["weight"] == 30
        errors[heavy] = quality["reconstruction_by_modality"]
    for name, other in (NAMES, NAMES[::-1]):
        assert errors[name][name] < errors[other][name]


def test_quality_says_what_each_modality_brings(workdir: Path) -> None:
    change_vectors(workdir, "text", lambda x: x + 3)  # as a sentence encoder's: all point one way
    setting = "features.modalities.text.isotropy=all-but-the-top"
    config = load_config(workdir / "config.yaml", ["tokenize.method=rqkmeans", setting], workdir=workdir)
    told = artifacts.read_json(tokenize.run(config) / "quality.json")["modalities"]
    assert list(told) == list(NAMES)
    assert (told["text"]["dimensions"], told["text"]["weight"], told["text"]["present"]) == (16, 1, 1)
    assert (told["text"]["isotropy"], told["topics"]["isotropy"]) == ("all-but-the-top", "centre")
    assert abs(told["text"]["mean_cosine_after"]) < 0.1
    assert told["topics"]["mean_cosine"] > told["topics"]["mean_cosine_after"]
    frozen = load_frozen(workdir / "tokenize")
    vectors = [np.load(workdir / f"features/{name}.npy") for name in NAMES]
    assert np.array_equal(frozen.assign(vectors), codes(workdir)[:, :2])


def test_vectors_that_all_point_one_way_are_told(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_vectors(workdir, "text", lambda x: x + 3)
    for isotropy, warns in (("none", True), ("centre", False)):
        caplog.clear()
        setting = f"features.modalities.text.isotropy={isotropy}"
        tokenize.run(load_config(workdir / "config.yaml", ["tokenize.method=rqkmeans", setting], workdir=workdir))
        assert ("mean cosine of two items' vectors of text is 1.00" in caplog.text) == warns
        assert ("features.modalities.text.isotropy to centre" in caplog.text) == warns


def test_quality_holds_what_is_measured_on_validation_pairs_and_content(workdir: Path) -> None:
    quality = tokenized(workdir)
    assert quality["cooccurrence_agreement"]["pairs"] > 100
    assert len(quality["neighbour_overlap"]["recall"]) == 2
    assert quality["buckets"]["max"] == quality["max_items_per_sid"]
    assert quality["items_without_content"] == 0


def test_quality_holds_errors_beside_their_reference_and_how_the_training_went(workdir: Path) -> None:
    quality = tokenized(workdir)
    means = {
        key: np.mean(list(quality[f"{key}_by_modality"].values()))
        for key in ("unquantised", "reconstruction", "reference")
    }
    assert means["unquantised"] < means["reconstruction"]
    assert quality["reconstruction_ratio"] == pytest.approx(means["reconstruction"] / means["reference"])
    training = quality["training"]
    assert (training["steps"], training["held_out_items"], training["stopped"]) == (3, 0, "max_steps")
    assert training["smallest_loss"] == pytest.approx(means["reconstruction"], abs=1e-6)  # of all 60 items
    assert set(quality["gradient_norms"]) == {"reconstruction", "quantization", "contrastive"}
    untrained = tokenized(workdir, method="rqkmeans")
    assert untrained["reconstruction_ratio"] is untrained["training"] is untrained["gradient_norms"] is None


def test_training_makes_the_error_smaller_than_that_of_its_start(workdir: Path) -> None:
    usual = {"latent_dim": 64, "hidden_dim": 64}
    start, trained = (tokenized(workdir, **usual, max_steps=steps) for steps in (1, 300))
    assert trained["reconstruction_ratio"] < 0.9 * start["reconstruction_ratio"]


def test_a_tokenizer_that_reconstructs_far_worse_than_residual_kmeans_is_refused(workdir: Path) -> None:
    ruined = {"latent_dim": 1, "max_steps": 1}
    with pytest.raises(PlumError, match=r"has not learnt(.|\n)*tokenize\.max_reconstruction_ratio \(1\.5\)"):
        tokenize.run(config_of(workdir, **ruined, max_reconstruction_ratio=1.5))
    assert not (workdir / "tokenize").exists()
    assert tokenized(workdir, **ruined)["reconstruction_ratio"] > 1.5


def test_fewer_different_vectors_than_codes_are_warned_of(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in NAMES:
        change_vectors(workdir, name, lambda x: x[np.arange(N) % 10])
    with caplog.at_level(logging.WARNING, logger="plum"):
        quality = tokenized(workdir, collision="share", min_usage=0)
    assert "60 items have 10 different vectors, fewer than the 16 codes of a level: at least 6" in caplog.text
    assert quality["levels"][0]["dead"] >= 6
    assert quality["uniqueness"] == 0


def test_epochs_of_the_tokenizer_are_told_to_be_steps(workdir: Path) -> None:
    with pytest.raises(PlumError, match=r"tokenize: epochs is no setting(.|\n)*max_steps"):
        config_of(workdir, epochs=3)


def test_random_codes_say_less_of_content_than_learned_ones(workdir: Path) -> None:
    learned = tokenized(workdir, method="rqkmeans")
    drawn = tokenized(workdir, method="random")
    recalls = [quality["neighbour_overlap"]["recall"][0] for quality in (learned, drawn)]
    assert recalls[0] > 2 * recalls[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"codebook_updates": "ema"},
        {"codebook_updates": "ema", "ema_decay": 0.5},
        {"kmeans_init": "false"},
        {"reset_dead_codes": "false", "kmeans_init": "false"},
        {"pairs": "session", "session_minutes": 1},
        {"pair_sampling": "pmi"},
        {"progressive_masking": "false"},
        {"contrastive_weight": 0},
        {"loss_scale": "sum"},
    ],
)
def test_every_setting_gives_other_weights(
    workdir: Path, usual_weights: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    tokenized(workdir, **settings, max_steps=200)
    after = load_file(workdir / artifacts.RQVAE)
    assert (usual_weights["codebooks.0"] != after["codebooks.0"]).any()
    assert all(np.isfinite(x).all() for x in after.values())
    assert ("averages.0.counts" in after) == (settings.get("codebook_updates") == "ema")


def test_sizes_are_given_with_their_reason(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert tokenized(workdir)["sizes_reason"] == "as tokenize.codebook_sizes says"
    with caplog.at_level(logging.INFO, logger="plum"):
        quality = tokenized(workdir, codebook_sizes="null", method="random")
    assert [level["size"] for level in quality["levels"]][:3] == [16, 8, 4]
    assert quality["sizes_reason"].startswith("for 60 items: ")
    assert f"codebook sizes 16x8x4 {quality['sizes_reason']}" in caplog.text


def test_items_without_any_content_are_counted_warned_of_and_share_their_codes(
    workdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    present = np.ones((N, 2), dtype=bool)
    present[[3, 30, 31]] = False
    present[7, 1] = False
    set_present(workdir, present)
    quality = tokenized(workdir, collision="share")
    assert quality["items_without_content"] == 3
    assert "3 items have no content" in caplog.text
    assert len(np.unique(codes(workdir)[[3, 30, 31]], axis=0)) == 1


@pytest.mark.parametrize(("method", "stand_in"), [("rqvae", "a learned vector"), ("rqkmeans", "the mean")])
def test_it_is_said_what_stands_in_for_an_absent_modality(
    workdir: Path, caplog: pytest.LogCaptureFixture, method: str, stand_in: str
) -> None:
    present = np.ones((N, 2), dtype=bool)
    present[5:9, 1] = False
    set_present(workdir, present)
    with caplog.at_level(logging.INFO, logger="plum"):
        tokenized(workdir, method=method)
    assert f"4 items lack topics; {stand_in} replaces it" in caplog.text
    assert "lack text" not in caplog.text


def test_presence_that_changes_nothing_else_changes_the_weights(workdir: Path) -> None:
    tokenized(workdir)
    whole = load_file(workdir / artifacts.RQVAE)
    assert not whole["absent.1"].any()
    set_present(workdir, np.stack([np.ones(N, dtype=bool), np.arange(N) % 3 != 1], axis=1))
    tokenized(workdir)
    gaps = load_file(workdir / artifacts.RQVAE)
    assert gaps["absent.1"].any()
    assert not gaps["absent.0"].any()


def test_sessions_need_times(workdir: Path) -> None:
    summary = artifacts.read_json(workdir / artifacts.DATA_SUMMARY) | {"timestamps_are_positions": True}
    replace(workdir, artifacts.DATA_SUMMARY, lambda path: artifacts.write_json(path, summary))
    refused(workdir, r"pairs is session(.|\n)*set tokenize.pairs to window", pairs="session")


def warm(workdir: Path, name: str, **settings: Any) -> Path:
    """Another run, tokenized."""
    other = Path(shutil.copytree(workdir, workdir.with_name(name)))
    tokenized(other, **settings)
    return other


def test_a_warm_start_goes_on_from_the_weights_of_another_run(workdir: Path) -> None:
    other = warm(workdir, "other", collision="share", max_steps=20)
    end = load_file(other / artifacts.RQVAE)
    frozen = {"learning_rate": 1e-9, "weight_decay": 0, "reset_dead_codes": "false", "collision": "share"}
    tokenized(workdir, warm_start=other, max_steps=1, **frozen)
    found = load_file(workdir / artifacts.RQVAE)
    for name, weights in end.items():
        np.testing.assert_allclose(found[name], weights, atol=1e-6)
    assert np.array_equal(codes(workdir), codes(other))


def test_what_survives_of_another_run_is_told(workdir: Path) -> None:
    assert tokenized(workdir, max_steps=1)["stability"] is None
    other = warm(workdir, "other", max_steps=1)
    same = tokenized(workdir, max_steps=1, compare_with=other)["stability"]
    assert same["compared_with"] == str(other)
    assert (same["items"], same["same"], same["matched"]) == (N, [1.0, 1.0], [1.0, 1.0])
    moved = warm(workdir, "moved", max_steps=1, collision="reassign")
    assert tokenized(workdir, max_steps=1, collision="reassign", compare_with=moved)["stability"]["same"] == [1.0, 1.0]
    drawn = tokenized(workdir, method="random", collision="share", compare_with=other)["stability"]
    expected = (codes(workdir) == codes(other)[:, :2]).cumprod(axis=1).mean(axis=0)
    assert drawn["same"] == pytest.approx(expected)
    assert drawn["same"][0] < 0.5
    warmed = tokenized(workdir, max_steps=1, learning_rate=1e-9, warm_start=other)["stability"]
    assert warmed["same"][0] > 0.9  # the weights of the other run, hardly moved


def test_a_run_that_can_not_be_compared_is_refused(workdir: Path) -> None:
    other = warm(workdir, "other", codebook_sizes="[8]")
    refused(workdir, r"1 levels there, 2 here", compare_with=other)
    refused(workdir, "compare_with is this run itself", compare_with=workdir)
    items = artifacts.read_table(other / artifacts.SEMANTIC_IDS)
    replace(other, artifacts.SEMANTIC_IDS, lambda path: items.assign(item_id="x" + items["item_id"]).to_parquet(path))
    refused(workdir, "no item in common", compare_with=other, codebook_sizes="[8]")


def test_a_changed_warm_start_is_noticed(workdir: Path) -> None:
    other = warm(workdir, "other")
    tokenized(workdir, warm_start=other)
    before = tiny_run.times(workdir)
    tokenized(workdir, warm_start=other)
    assert tiny_run.times(workdir) == before
    inputs = read_manifest(workdir / "tokenize").inputs
    assert {"source/rqvae.safetensors", "source/tokenizer.json"} <= set(inputs)
    tokenized(other, kmeans_init="false")
    tokenized(workdir, warm_start=other)
    assert tiny_run.rerun(before, tiny_run.times(workdir)) == {"tokenize"}


def test_a_warm_start_that_does_not_fit_is_refused(workdir: Path) -> None:
    other = warm(workdir, "other", codebook_sizes="[8, 8]")
    refused(workdir, r"codebook_sizes is \[16, 8\] here, \[8, 8\] there", warm_start=other)
    refused(workdir, "is this run itself", warm_start=workdir)
    refused(workdir, "rqvae.safetensors, which is not there", warm_start=workdir / "nowhere")
    with pytest.raises(PlumError, match="random has no weights"):
        config_of(workdir, warm_start=other, method="random")


@pytest.mark.parametrize("method", ["rqvae", "rqkmeans", "random"])
def test_features_that_can_not_be_used_are_refused_and_nothing_is_written(workdir: Path, method: str) -> None:
    whole = np.load(workdir / "features/text.npy")

    def spoilt(change: Callable[[np.ndarray], np.ndarray], match: str) -> None:
        replace(workdir, "features/text.npy", lambda path: np.save(path, whole))
        change_vectors(workdir, "text", change)
        refused(workdir, match, method=method)

    spoilt(lambda x: np.ones_like(x), "'text' is the same for all items\n.*all 60 items")
    spoilt(lambda x: np.where(np.arange(N)[:, None] == 9, np.nan, x), "NaN, infinity.*\n.*1 row: row 9")
    spoilt(lambda x: np.where(np.arange(N)[:, None] == 9, np.inf, x), "NaN, infinity")
    spoilt(lambda x: x[:-1], r"does not fit the catalogue\n.*\(59, 16\), 60 items")
    spoilt(lambda x: x[:, 0], r"does not fit the catalogue\n.*\(60,\), 60 items")


def test_a_modality_that_no_item_has_is_refused(workdir: Path) -> None:
    set_present(workdir, np.tile([True, False], (N, 1)))
    refused(workdir, "no item has modality 'topics'")


def test_the_same_vector_wherever_there_is_one_is_refused(workdir: Path) -> None:
    set_present(workdir, np.stack([np.arange(N) % 2 == 0, np.ones(N, dtype=bool)], axis=1))
    change_vectors(workdir, "text", lambda x: np.where(x.any(axis=1)[:, None], 1, 0) * np.ones_like(x))
    refused(workdir, "'text' is the same for all items\n.*all 30 items that have it")


def test_presence_of_another_catalogue_is_refused(workdir: Path) -> None:
    set_present(workdir, np.ones((N, 2), dtype=bool))
    table = pd.read_parquet(workdir / artifacts.PRESENT).iloc[::-1].reset_index(drop=True)
    replace(workdir, artifacts.PRESENT, lambda path: table.to_parquet(path))
    refused(workdir, "not of this catalogue")


def test_fewer_items_than_codes_of_a_level_are_refused(workdir: Path) -> None:
    refused(workdir, r"60 items are too few for 64 codes(.|\n)*codebook_sizes", codebook_sizes="[16, 64]")
    assert tokenized(workdir, codebook_sizes="[60, 2]", method="random")["levels"][0]["size"] == 60


def test_an_item_that_stands_twice_in_the_catalogue_is_refused(workdir: Path) -> None:
    items = pd.read_parquet(workdir / artifacts.ITEMS)
    items.loc[7, "item_id"] = items.loc[3, "item_id"]
    replace_items(workdir, items)
    refused(workdir, f"item ids more than once\n.*1 id: '{items.loc[3, 'item_id']}'")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"min_usage": 1, "method": "random"}, "tokenize.min_usage"),
        ({"min_perplexity_share": 1}, "tokenize.min_perplexity_share"),
        ({"max_bucket": 1, "codebook_sizes": "[2, 2]"}, "tokenize.max_bucket"),
        ({"min_uniqueness": 1, "codebook_sizes": "[2, 2]"}, "tokenize.min_uniqueness"),
    ],
)
def test_thresholds_stop_the_stage_with_what_to_turn(workdir: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(PlumError, match=told):
        tokenize.run(config_of(workdir, **settings))
    assert not (workdir / "tokenize").exists()


def test_a_refusal_leaves_the_earlier_semantic_ids_and_its_own_checkpoint(workdir: Path) -> None:
    tokenized(workdir)
    before = tiny_run.times(workdir)
    for _ in range(2):
        with pytest.raises(PlumError, match="min_uniqueness"):
            tokenize.run(config_of(workdir, codebook_sizes="[2, 2]", min_uniqueness=1))
        assert tiny_run.times(workdir) == before
        assert (workdir / ".tokenize.partial/checkpoint").is_dir()


def test_items_that_are_nearly_all_the_same_are_refused_by_the_usual_thresholds(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    vectors = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    vectors[:540] = vectors[0]
    np.save(tmp_path / "image.npy", vectors)
    source = {**tiny_run.SYNTHETIC, "n_items": 600}
    pipeline = tiny_run.pipeline(tmp_path / "run", source, protocol="leave-one-out")
    pipeline["features"] = {"modalities": {"image": {"encoder": "file", "path": str(tmp_path / "image.npy")}}}
    pipeline["tokenize"] = {"max_steps": 5, "codebook_sizes": [64, 32, 16]}
    config = tiny_run.write(tmp_path / "tiny.yaml", pipeline)
    assert cli("data", "prepare", "--config", config)[0] == 0
    code, _, told = cli("tokenize", "--config", config)
    assert code == 2
    assert "540 of 600 items have the same content" in told
    assert "add fields in which these items differ" in told
    assert "tokenize.min_perplexity_share is the threshold" in told


def test_the_tokenizer_file_says_what_the_semantic_ids_are_of(workdir: Path) -> None:
    tokenized(workdir)
    told = json.loads((workdir / "tokenize/tokenizer.json").read_text())
    assert told["sizes"] == [16, 8]
    assert [entry["name"] for entry in told["modalities"]] == list(NAMES)
    frozen = load_frozen(workdir / "tokenize")
    assert frozen.rules.table_sizes == inputs.read_sid_table(workdir, inputs.read_prepared(workdir).items).sizes
