"""A warm start: which modalities are of the space that the weights know, and how their vectors are standardised."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.config.file import load_config, validate
from plum.errors import PlumError
from plum.features.by_id import VectorsById
from plum.features.encoding import Encoder
from plum.features.given import FileEncoder
from plum.features.numeric import fit_numeric
from plum.features.text import fit_tfidf
from plum.run import artifacts
from plum.run.hashes import sha256
from plum.run.manifest import Manifest
from plum.sid.frozen import Frozen, Modality, Rules, Shape, load_frozen
from plum.sid.rqvae import RQVAE
from plum.sid.standardise import fit_standardisation
from plum.stages import features, prepare, tokenize
from plum.stages.tokenize import warm

N = 60


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as far as its Semantic IDs, whose second modality are given vectors. Not to be changed."""
    home = tmp_path_factory.mktemp("earlier")
    np.save(home / "image.npy", np.random.default_rng(0).normal(3, 2, (N, 6)).astype(np.float32))
    pipeline = tiny_run.pipeline(home / "run")
    modalities = {"text": {"dimensions": 16}, "image": {"encoder": "file", "path": str(home / "image.npy")}}
    config = validate({**pipeline, "features": {"modalities": modalities}}, "the test")
    artifacts.write_config(home / "run", config.model_dump(mode="json"))
    for stage in (prepare, features, tokenize):
        stage.run(config)
    return home / "run"


def later(earlier: Path, workdir: Path, image: np.ndarray, *settings: str) -> dict[str, Any]:
    """Its copy with other given vectors, tokenized from its weights; gives the standardisation of each modality."""
    shutil.copytree(earlier, workdir)
    np.save(workdir.with_suffix(".npy"), image)
    modalities = {"text": {"dimensions": 16}, "image": {"encoder": "file", "path": str(workdir.with_suffix(".npy"))}}
    values = load_config(workdir / "config.yaml", [f"tokenize.warm_start={earlier}", *settings], workdir=workdir)
    config = validate({**values.model_dump(mode="json"), "features": {"modalities": modalities}}, "the test")
    features.run(config)
    tokenize.run(config)
    return {modality.name: modality.standardisation for modality in load_frozen(workdir / "tokenize").modalities}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if record.levelno == logging.WARNING]
    return [record.getMessage() for record in found if "warm start" in record.getMessage()]


def test_vectors_of_the_same_space_are_standardised_as_the_weights_know_them(
    earlier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = {modality.name: modality.standardisation for modality in load_frozen(earlier / "tokenize").modalities}
    image = np.load(earlier / "features/image.npy")
    image[:20] += 50  # a third of the items are of other content now: the mean of all would be elsewhere
    found = later(earlier, tmp_path / "run", image)
    for name in ("text", "image"):
        np.testing.assert_array_equal(found[name].mean, old[name].mean)
        assert found[name].scale == old[name].scale
    assert warnings_of(caplog) == []


def test_a_space_made_anew_is_named_and_standardised_anew(
    earlier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0].astype(np.float32)
    image = np.load(earlier / "features/image.npy") @ turn
    found = later(earlier, tmp_path / "run", image)
    np.testing.assert_array_equal(found["image"].mean, image.mean(axis=0, dtype=np.float64))
    (told,) = warnings_of(caplog)
    assert "space of modality image (" in told
    assert "text" not in told.partition("modality")[2].partition(",")[0]
    assert str(earlier) in told
    assert "sentence-transformers" in told
    assert "encoder file" in told


def test_vectors_prepared_in_another_way_are_refused(earlier: Path, tmp_path: Path) -> None:
    changed = "features.modalities.image.isotropy"
    config = load_config(
        earlier / "config.yaml", [f"tokenize.warm_start={earlier}", f"{changed}=whiten"], workdir=tmp_path / "run"
    )
    shutil.copytree(earlier, tmp_path / "run")
    with pytest.raises(PlumError, match=rf"isotropy whiten here, centre there(.|\n)*set {changed} to centre"):
        tokenize.run(config)


def test_a_tokenizer_without_its_features_is_started_from_with_a_warning(
    earlier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(earlier / "tokenize", tmp_path / "old/tokenize")
    image = np.load(earlier / "features/image.npy") + 1
    found = later(earlier, tmp_path / "run", image, f"tokenize.warm_start={tmp_path / 'old'}")
    old = load_frozen(earlier / "tokenize").modalities[1].standardisation
    np.testing.assert_array_equal(found["image"].mean, old.mean)
    (told,) = warnings_of(caplog)
    assert "no item has a vector of modality text, image" in told


@pytest.mark.parametrize("name", ["image.npy", "present.parquet"])
def test_vectors_that_the_earlier_tokenizer_does_not_know_are_refused(earlier: Path, tmp_path: Path, name: str) -> None:
    old = Path(shutil.copytree(earlier, tmp_path / "old"))
    (old / "features" / name).write_bytes((old / "features" / name).read_bytes()[:-8])  # damaged, or made again
    with pytest.raises(PlumError, match=rf"features/{name} has changed since that run's tokenizer(.|\n)*plum tokenize"):
        later(earlier, tmp_path / "run", np.load(earlier / "features/image.npy"), f"tokenize.warm_start={old}")


def test_an_earlier_run_made_anew_is_noticed(earlier: Path, tmp_path: Path) -> None:
    old, image = Path(shutil.copytree(earlier, tmp_path / "old")), np.load(earlier / "features/image.npy")
    later(old, tmp_path / "run", image)
    before = tiny_run.times(tmp_path / "run")
    values = load_config(old / "config.yaml", workdir=old).model_dump(mode="json")
    np.save(tmp_path / "turned.npy", image[::-1])
    values["features"]["modalities"]["image"]["path"] = str(tmp_path / "turned.npy")
    for stage in (features, tokenize):
        stage.run(validate(values, "the test"))
    shutil.move(tmp_path / "run", tmp_path / "kept")
    config = load_config(tmp_path / "kept/config.yaml", [f"tokenize.warm_start={old}"], workdir=tmp_path / "kept")
    assert before == tiny_run.times(tmp_path / "kept")
    tokenize.run(config)
    assert "tokenize" in tiny_run.rerun(before, tiny_run.times(tmp_path / "kept"))


def items() -> pd.DataFrame:
    """400 items with titles of four of 40 words, and prices."""
    rng = np.random.default_rng(0)
    titles = [" ".join(f"w{number}" for number in rng.integers(0, 40, 4)) for _ in range(400)]
    ids = [f"i{number}" for number in range(400)]
    return pd.DataFrame({"item_id": ids, "title": titles, "price": rng.normal(size=400)})


def fitted(catalogue: pd.DataFrame, image: VectorsById) -> dict[str, Encoder]:
    text = fit_tfidf(catalogue, ["title"], 16, seed=0)
    return {"text": text, "price": fit_numeric(catalogue, ["price"]), "image": FileEncoder("vectors_image", image)}


def test_refitted_axes_are_told_from_spaces_that_stay_whatever_the_order_of_the_catalogue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = items()[:360], items()[::-1].reset_index(drop=True)
    image = VectorsById(new["item_id"][::2].tolist(), np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32))
    encoded = {name: encoder.transform(old) for name, encoder in fitted(old, image).items()}
    (tmp_path / "features").mkdir()
    for name, (vectors, _) in encoded.items():
        np.save(tmp_path / f"features/{name}.npy", vectors)
    present = {name: there for name, (_, there) in encoded.items()}
    pd.DataFrame({"item_id": old["item_id"], **present}).to_parquet(tmp_path / artifacts.PRESENT)
    modalities = [Modality(name, fit_standardisation(x, name, there), False) for name, (x, there) in encoded.items()]
    model = RQVAE([modality.width for modality in modalities], [4, 4], 4, 8)
    books = [book.detach().numpy() for book in model.codebooks]
    (tmp_path / "tokenize").mkdir()
    rules = Rules(0, "share", 1, (4, 4))
    Frozen("rqvae", tuple(modalities), books, rules, Shape(4, 8, False), model).save(tmp_path / "tokenize")
    inputs = {str(path.relative_to(tmp_path)): sha256(path) for path in (tmp_path / "features").iterdir()}
    outputs = {path.name: sha256(path) for path in (tmp_path / "tokenize").iterdir()}
    manifest = Manifest("tokenize", {}, 0, {}, inputs, outputs)
    artifacts.write_json(tmp_path / "tokenize" / artifacts.MANIFEST, asdict(manifest))

    origin = warm.Origin.read(tmp_path, new["item_id"])
    encoders = fitted(new, image)
    found = {name: origin.standardisation(name, *encoder.transform(new)) for name, encoder in encoders.items()}
    assert found["text"] is None
    for modality in modalities[1:]:
        assert found[modality.name] is not None, modality.name
        assert found[modality.name].scale == modality.standardisation.scale
    origin.warn_of_other_spaces()
    (told,) = warnings_of(caplog)
    assert "space of modality text (" in told
