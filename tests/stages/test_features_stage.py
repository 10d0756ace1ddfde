"""Stage features: what it writes, given vectors and numbers, and what becomes of a file that doesn't fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
from sealed import seal

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.features.registry import load_encoder
from plum.retrievers.content import TextKNN
from plum.run import artifacts
from plum.stages import features, inputs, pipeline, prepare, tokenize, trained


def with_file(run: Path, path: Path) -> RunConfig:
    return tiny_run.config_of(run, f"features.modalities.image={{encoder: file, path: {path}}}")


def given(seed: int = 0, n_items: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_items, 7))


def assert_nothing_written(run: Path, before: dict[str, int]) -> None:
    assert tiny_run.times(run) == before
    assert not list(run.glob(".*.partial"))


def test_given_vectors_join_the_others(run_copy: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", given())
    pipeline.run_tokenize(with_file(run_copy, tmp_path / "image.npy"))
    stored = np.load(run_copy / "features/image.npy")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, given().astype(np.float32))
    assert (run_copy / "features/text.npy").is_file()


@pytest.mark.parametrize("end", ["npy", "parquet"])
def test_a_changed_file_of_vectors_is_read_again(run_copy: Path, tmp_path: Path, end: str) -> None:
    path = tmp_path / f"image.{end}"
    ids = pd.read_parquet(run_copy / artifacts.ITEMS)["item_id"]
    for seed in (0, 1):
        if end == "npy":
            np.save(path, given(seed))
        else:
            pd.DataFrame({"item_id": ids, "image": list(given(seed))})[::-1].to_parquet(path)
        features.run(with_file(run_copy, path))
        np.testing.assert_array_equal(np.load(run_copy / "features/image.npy"), given(seed).astype(np.float32))


def test_every_modality_says_who_has_it_and_can_be_made_of_later_items(run_copy: Path, tmp_path: Path) -> None:
    items = pd.read_parquet(run_copy / artifacts.ITEMS)
    half = pd.DataFrame({"item_id": items["item_id"], "image": list(given())})[::2]
    half.to_parquet(tmp_path / "image.parquet")
    config = with_file(run_copy, tmp_path / "image.parquet")
    pipeline.run_tokenize(config)
    folder = run_copy / "features"
    summary = json.loads((folder / "features.json").read_text())["modalities"]
    assert list(summary) == ["text", "topics", "image"]
    image = summary["image"]
    assert {key: image[key] for key in ("encoder", "shape", "present")} == {
        "encoder": "file",
        "shape": [60, 7],
        "present": 0.5,
    }
    assert abs(image["mean_cosine"]) < 0.1
    assert image["constant_columns"] == image["items_sharing_vectors"] == 0
    present = pd.read_parquet(run_copy / artifacts.PRESENT)
    assert list(present) == ["item_id", *summary]
    assert present["item_id"].equals(items["item_id"])
    assert present["image"].tolist() == [True, False] * 30
    files = {f"{name}{end}" for name in summary for end in (".json", ".safetensors")}
    assert {path.name for path in (run_copy / artifacts.ENCODERS).iterdir()} == files
    for name in summary:
        vectors = np.load(folder / f"{name}.npy")
        assert not vectors[~present[name].to_numpy()].any()
        found = load_encoder(run_copy / artifacts.ENCODERS, name).transform(items)
        assert found.vectors.tobytes() == vectors.tobytes()
        assert found.present.tolist() == present[name].tolist()
    later = items.iloc[:1].assign(item_id="new")
    assert load_encoder(run_copy / artifacts.ENCODERS, "text").transform(later).present.all()
    assert not load_encoder(run_copy / artifacts.ENCODERS, "image").transform(later).present.any()


def warnings_of_vectors(run: Path, path: Path, vectors: np.ndarray, caplog: pytest.LogCaptureFixture) -> list[str]:
    np.save(path, vectors)
    modalities = {"image": {"encoder": "file", "path": str(path)}}
    caplog.clear()
    values = {**tiny_run.config_of(run).model_dump(), "features": {"modalities": modalities}}
    features.run(validate(values, where="the test"))
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_vectors_that_tell_items_badly_apart_are_counted_and_named(
    run_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "image.npy"
    assert warnings_of_vectors(run_copy, path, given(), caplog) == []
    shared = given()
    shared[:12] = shared[0]
    (told,) = warnings_of_vectors(run_copy, path, shared, caplog)
    assert "12 items (20.0%) share all their vectors with another item" in told
    summary = json.loads((run_copy / artifacts.FEATURES_SUMMARY).read_text())
    assert summary["items_sharing_vectors"] == summary["modalities"]["image"]["items_sharing_vectors"] == 12
    constant, directed, alike = given(), given() + 9, given()
    constant[:, [2, 5]] = 7
    alike[4] = 3
    told = warnings_of_vectors(run_copy, path, constant, caplog)
    assert "features: 2 of the 7 columns of image are the same for all items" in told
    (told,) = warnings_of_vectors(run_copy, path, directed, caplog)
    assert "mean cosine of two items' vectors of image is 0.9" in told
    assert "features.modalities.image.isotropy" in told
    (told,) = warnings_of_vectors(run_copy, path, alike, caplog)
    assert "image.npy: 1 vectors hold one number in all places" in told


def test_items_without_content_are_never_nearest(run_copy: Path, tmp_path: Path) -> None:
    items = pd.read_parquet(run_copy / artifacts.ITEMS)
    pd.DataFrame({"item_id": items["item_id"], "image": list(given())})[:40].to_parquet(tmp_path / "image.parquet")
    modalities = {"image": {"encoder": "file", "path": str(tmp_path / "image.parquet")}}
    config = tiny_run.config_of(run_copy)
    features.run(validate({**config.model_dump(), "features": {"modalities": modalities}}, where="the test"))
    vectors = inputs.content_vectors(run_copy)
    assert vectors is not None
    found = TextKNN([vectors], 1.0).recommend([np.array([0, 50])], 60, None)
    assert sorted(found.items[0].tolist()) == [-1] * 20 + list(range(40))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (np.ones((59, 7)), r"shape \(59, 7\), 60 items"),
        (np.ones(60), r"shape \(60,\), 60 items"),
        (np.array([["a", "b"]] * 60), "not a .npy file of numbers"),
        (b"", "not a .npy file of numbers"),
        (b"not an array", "not a .npy file of numbers"),
        (None, "image.npy, which is not there"),
        (np.ones((60, 7)), "(?s)'image' is the same for all items.*all 60 items"),
        (5 + 1e-6 * given(), "(?s)'image' is the same for all items.*differ by less than a millionth of its length"),
        (np.vstack([given()[1:], [[np.inf] * 7]]), "(?s)image.npy holds NaN, infinity.*1 row: row 59"),
        (np.vstack([[[np.nan] * 7], given()[1:]]), "(?s)image.npy holds NaN, infinity.*1 row: row 0 .item 'i0000'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    run_copy: Path, tmp_path: Path, content: np.ndarray | bytes | None, complaint: str
) -> None:
    path = tmp_path / "image.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    before = tiny_run.times(run_copy)
    with pytest.raises(PlumError, match=complaint):
        features.run(with_file(run_copy, path))
    assert_nothing_written(run_copy, before)


def test_a_table_of_other_items_is_refused(run_copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.parquet"
    pd.DataFrame({"item_id": ["no", "such"], "image": [[1.0], [2.0]]}).to_parquet(path)
    before = tiny_run.times(run_copy)
    with pytest.raises(PlumError, match=r"(?s)vector for no item of the catalogue.*'no', 'such'"):
        features.run(with_file(run_copy, path))
    assert_nothing_written(run_copy, before)


def test_a_catalogue_with_an_item_twice_is_refused(run_copy: Path) -> None:
    items = pd.read_parquet(run_copy / artifacts.ITEMS)
    pd.concat([items, items[:1]]).to_parquet(run_copy / artifacts.ITEMS)
    with pytest.raises(PlumError, match=r"(?s)items.parquet holds item ids more than once.*`plum data prepare"):
        features.run(tiny_run.config_of(seal(run_copy)), force=True)
    assert not list(run_copy.glob(".*.partial"))


def from_logs(folder: Path, modalities: dict[str, Any], header: str, row: Callable[[int], str]) -> RunConfig:
    """A prepared run on 15 items, whose table has the header's columns; ``row`` makes one of an item's number."""
    rows = [f"u{user},i{(user * step) % 15},{100 * step}" for user in range(1, 30) for step in range(1, 7)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    lines = [f"i{item},{row(item)}" for item in range(15)]
    (folder / "items.csv").write_text(f"item_id,{header}\n" + "\n".join(lines) + "\n")
    source = {"kind": "logs", "interactions": str(folder / "events.csv"), "items": str(folder / "items.csv")}
    values: dict[str, Any] = {
        "workdir": str(folder / "run"),
        "data": {"source": source},
        "features": {"modalities": modalities},
        "tokenize": {"method": "rqkmeans", "codebook_sizes": [4, 2], "min_usage": 0.01},
    }
    config = validate(values, where="the test")
    prepare.run(config)
    return config


def test_numbers_of_items_make_semantic_ids(tmp_path: Path) -> None:
    modalities = {"facts": {"encoder": "numeric", "fields": ["price", "in_stock"]}}
    config = from_logs(tmp_path, modalities, "price,in_stock", lambda item: f"{item}.5,true")
    with pytest.raises(PlumError, match=r"(?s)in_stock is the same for all items.*leave in_stock out"):
        features.run(config)
    modalities["facts"]["fields"] = ["price"]
    config = validate({**config.model_dump(), "features": {"modalities": modalities}}, where="the test")
    features.run(config)
    items = pd.read_parquet(config.workdir / artifacts.ITEMS)
    price = items["price"].to_numpy()
    np.testing.assert_allclose(
        np.load(config.workdir / "features/facts.npy")[:, 0], (price - price.mean()) / price.std(), rtol=1e-6
    )
    tokenize.run(config)
    assert (config.workdir / artifacts.SEMANTIC_IDS).is_file()


def test_only_default_modalities_may_be_missing_from_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = from_logs(
        tmp_path, {"topics": {"encoder": "topics"}, "text": {}}, "title", lambda item: f"word{item % 4} film"
    )
    with pytest.raises(PlumError, match=r"(?s)no item has modality 'topics'.*drop features.modalities.topics"):
        features.run(config)
    assert not (config.workdir / "features").exists()
    default = validate({**config.model_dump(), "features": {}}, where="the test")
    features.run(validate(default.model_dump(mode="json"), where="the run's record"))  # written out, it is the same
    assert "modality topics is left out" in caplog.text
    assert {path.name for path in (config.workdir / "features").glob("*.npy")} == {"text.npy"}


@pytest.mark.parametrize(
    ("modality", "complaint"),
    [
        ({"encoder": "numeric"}, "features.modalities.m.fields: encoder numeric needs numeric columns"),
        ({"encoder": "numeric", "fields": ["price", "title"]}, "encoder numeric needs numeric columns"),
        ({"encoder": "numeric", "fields": ["price", "price"]}, "a field is listed twice"),
        ({"fields": ["titel"]}, "features.modalities.m.fields: there is no field 'titel'.*did you mean title?"),
        ({"fields": ["price"]}, "there is no field 'price' for this encoder; known here: title, topics"),
        ({"encoder": "numerc", "fields": ["price"]}, r"1 mistake in[^|]*features.modalities.m.encoder"),
        ({"encoder": "file"}, "needs `path`, a .npy or .parquet file"),
    ],
)
def test_mistakes_in_a_modality_are_named(modality: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PlumError, match=complaint):
        validate(
            {"workdir": "x", "data": {"source": {"kind": "synthetic"}}, "features": {"modalities": {"m": modality}}},
            "t",
        )


def test_no_modality_takes_the_name_of_the_ids() -> None:
    values = {"workdir": "x", "data": {"source": {"kind": "synthetic"}}, "features": {"modalities": {"item_id": {}}}}
    with pytest.raises(PlumError, match=r"features.modalities: item_id cannot name a modality"):
        validate(values, "t")


DENSE = "features.modalities.learnt={encoder: dense}"


def test_vectors_of_the_dense_baseline_are_those_it_scores_by(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, DENSE, "eval.dense.epochs=1")
    before = tiny_run.times(run_copy)
    pipeline.run_tokenize(config)  # trains it first
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"dense", "features", "tokenize"}
    vectors = np.load(run_copy / "features/learnt.npy")
    data = inputs.read_prepared(run_copy)
    known = data.popularity > 0
    expected = trained.dense_retriever(config, "dense", data.items).item_vectors()
    np.testing.assert_array_equal(vectors[known], expected[known])
    assert not vectors[~known].any()
    assert pd.read_parquet(run_copy / artifacts.PRESENT)["learnt"].tolist() == known.tolist()
    content = inputs.content_vectors(run_copy)
    assert content is not None
    assert content.shape[1] == sum(np.load(run_copy / f"features/{name}.npy").shape[1] for name in ("text", "topics"))
    before = tiny_run.times(run_copy)
    pipeline.run_tokenize(config)
    assert tiny_run.times(run_copy) == before
    pipeline.run_tokenize(tiny_run.config_of(run_copy, DENSE, "eval.dense.epochs=2"))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"dense", "features", "tokenize"}
    new = pd.DataFrame({"item_id": ["later"], "title": ["Some title"], "topics": [["Topic"]]})
    encoder = load_encoder(run_copy / artifacts.ENCODERS, "learnt")
    assert not encoder.transform(new).present.any()


def test_vectors_of_a_baseline_that_is_left_out_are_refused(run_copy: Path) -> None:
    with pytest.raises(PlumError, match="a modality with encoder dense needs the dense baseline"):
        tiny_run.config_of(run_copy, DENSE, "eval.retrievers=[plum, textknn]")
