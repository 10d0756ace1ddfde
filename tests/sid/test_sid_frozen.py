"""A frozen tokenizer: the same codes for the same items, whatever the blocks, from disk, and for new items."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from plum import runtime
from plum.errors import PlumError
from plum.sid.codebooks import CodebookRules
from plum.sid.cooccurrence import Pairs
from plum.sid.fit import LossWeights, train_rqvae
from plum.sid.frozen import SETTINGS, WEIGHTS, Frozen, Modality, Rules, Shape, load_frozen
from plum.sid.methods import Fitted, clustered, drawn, quantised_by, weights_for
from plum.sid.rqvae import RQVAE, Content
from plum.sid.standardise import fit_standardisation
from plum.training.loop import Recipe

N, WIDTHS, SIZES = 60, {"text": 6, "topics": 3}, [8, 4]
IDS = [f"item {row}" for row in range(N)]


def catalogue(gaps):
    """Features (N, D_m) as the stage reads them, and presence (N, M)."""
    rng = np.random.default_rng(0)
    features = [rng.normal(5, 3, (N, width)).astype(np.float32) for width in WIDTHS.values()]
    present = np.ones((N, len(WIDTHS)), dtype=bool)
    if gaps:
        present[::4, 1] = present[::7, 0] = False
        for x, there in zip(features, present.T, strict=True):
            x[~there] = 0
    return features, present


WEIGHTS_OF = {"text": 1.0, "topics": 2.5}


def fitted_and_frozen(method, gaps=False, folder=None, ema=False, isotropy="centre"):
    features, present = catalogue(gaps)
    masks = [there if gaps else None for there in present.T]
    standards = [fit_standardisation(x, "x", there, isotropy) for x, there in zip(features, masks, strict=True)]
    vectors = [standard.apply(x, there) for standard, x, there in zip(standards, features, masks, strict=True)]
    if method == "random":
        fitted = drawn(IDS, SIZES, 4, seed=1)
    elif method == "rqkmeans":
        fitted = clustered(vectors, present if gaps else None, SIZES, 1, list(WEIGHTS_OF.values()))
    else:
        fitted = trained(vectors, torch.from_numpy(present) if gaps else None, folder, ema)
    modalities = tuple(
        Modality(name, standard, not gaps, WEIGHTS_OF[name]) for name, standard in zip(WIDTHS, standards, strict=True)
    )
    rules = Rules(1, "suffix", 1, (*SIZES, 3))
    return fitted, Frozen(method, modalities, fitted.codebooks, rules, fitted.shape, fitted.model)


def trained(vectors, present, folder, ema) -> Fitted:
    runtime.seed_everything(1)
    shape = Shape(4, 8, ema)
    model = RQVAE(list(WIDTHS.values()), SIZES, 4, 8, ema)
    content = Content([torch.from_numpy(x) for x in vectors], present)
    recipe = Recipe(3, 3, 0.01)
    nothing = Pairs(np.zeros((0, 2), dtype=np.int64))
    train_rqvae(model, content, nothing, recipe, LossWeights(), CodebookRules(), 16, 1, folder / "checkpoint")
    return quantised_by(model, shape, content)


@pytest.mark.parametrize("isotropy", ["none", "centre", "whiten", "all-but-the-top"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("method", ["rqvae", "rqkmeans", "random"])
def test_the_items_of_the_training_get_their_codes_again_from_disk_and_memmaps(tmp_path, method, gaps, isotropy):
    fitted, frozen = fitted_and_frozen(method, gaps, tmp_path, isotropy=isotropy)
    frozen.save(tmp_path)
    loaded = load_frozen(tmp_path)
    assert (loaded.method, loaded.rules, loaded.shape) == (frozen.method, frozen.rules, frozen.shape)
    assert loaded.sizes == tuple(SIZES)
    features, present = catalogue(gaps)
    for number, x in enumerate(features):
        np.save(tmp_path / f"{number}.npy", x)
    mapped = [np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(2)]
    for block in (7, 8192):
        assert np.array_equal(loaded.assign(mapped, present, IDS, block), fitted.codes)
    if method != "random":
        np.testing.assert_allclose(loaded.vectors(mapped, present, 7), fitted.vectors, rtol=1e-4, atol=1e-5)


def test_a_tokenizer_of_version_0_8_is_refused_and_says_how_to_make_another(tmp_path):
    _, frozen = fitted_and_frozen("rqkmeans")
    frozen.save(tmp_path)
    values = json.loads((tmp_path / SETTINGS).read_text()) | {"version": 1}
    for modality in values["modalities"]:
        del modality["weight"], modality["isotropy"]
    (tmp_path / SETTINGS).write_text(json.dumps(values))
    with pytest.raises(PlumError, match=r"another format version(.|\n)*plum tokenize --force"):
        load_frozen(tmp_path)


def test_a_transform_of_another_width_is_refused(tmp_path):
    _, frozen = fitted_and_frozen("rqkmeans", isotropy="whiten")
    text = frozen.modalities[0].standardisation
    damaged = frozen.modalities[0]._replace(standardisation=text._replace(transform=text.transform[:3]))
    replace(frozen, modalities=(damaged, frozen.modalities[1])).save(tmp_path)
    with pytest.raises(PlumError, match="transform of modality text"):
        load_frozen(tmp_path)


def test_a_model_with_moving_averages_comes_back_whole(tmp_path):
    _, frozen = fitted_and_frozen("rqvae", True, tmp_path, ema=True)
    frozen.save(tmp_path)
    states = [x.model.state_dict() for x in (frozen, load_frozen(tmp_path))]
    assert states[0].keys() == states[1].keys()
    assert any(name.startswith("averages.") for name in states[0])
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_frozen(tmp_path)
    assert torch.equal(torch.rand(4), expected)  # reading draws from nobody's seed
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_weights_file_holds_the_codebooks_by_level(tmp_path):
    from safetensors.numpy import load_file

    for method in ("rqvae", "rqkmeans", "random"):
        fitted, frozen = fitted_and_frozen(method, folder=tmp_path / method)
        frozen.save(tmp_path)
        tensors = load_file(tmp_path / WEIGHTS)
        for level, book in enumerate(fitted.codebooks):
            np.testing.assert_array_equal(tensors[f"codebooks.{level}"], book)


def test_one_item_alone_and_none_at_all(tmp_path):
    fitted, frozen = fitted_and_frozen("rqvae", folder=tmp_path)
    features, _ = catalogue(False)
    assert frozen.assign([x[5:6] for x in features]).tolist() == [fitted.codes[5].tolist()]
    assert frozen.assign([x[:0] for x in features]).shape == (0, 2)
    assert frozen.vectors([x[:0] for x in features]).shape == (0, 4)


@pytest.mark.parametrize("method", ["rqvae", "rqkmeans"])
def test_a_modality_that_no_item_lacked_before_counts_as_average(tmp_path, caplog, method):
    _, frozen = fitted_and_frozen(method, folder=tmp_path)
    features, present = catalogue(False)
    present[:3, 1] = False
    average = [features[0], np.where(present[:, 1:], features[1], frozen.modalities[1].standardisation.mean)]
    with caplog.at_level(logging.WARNING, logger="plum"):
        found = frozen.assign(features, present)
    assert "3 items lack modality topics" in caplog.text
    assert np.array_equal(found, frozen.assign(average))


def test_a_modality_that_items_lacked_before_is_left_to_its_learned_vector(tmp_path, caplog):
    _, frozen = fitted_and_frozen("rqvae", True, tmp_path)
    features, present = catalogue(True)
    with torch.no_grad():
        frozen.model.absent[1].fill_(100.0)
    other = frozen.vectors(features, present)
    _, plain = fitted_and_frozen("rqvae", True, tmp_path / "again")
    moved = (other != plain.vectors(features, present)).any(1)
    assert np.array_equal(moved, ~present[:, 1])
    assert not caplog.records


@pytest.mark.parametrize("method", ["rqvae", "rqkmeans"])
def test_vectors_that_do_not_fit_are_refused(tmp_path, method):
    _, frozen = fitted_and_frozen(method, folder=tmp_path)
    features, present = catalogue(False)
    with pytest.raises(PlumError, match=r"modality 'topics' don't fit(.|\n)*width 5, trained on width 3"):
        frozen.assign([features[0], np.zeros((N, 5))])
    with pytest.raises(ValueError, match="1 modalities for a tokenizer of 2"):
        frozen.assign(features[:1])
    with pytest.raises(ValueError, match="same number of rows"):
        frozen.assign([features[0], features[1][:-1]])
    with pytest.raises(ValueError, match="same number of rows"):
        frozen.assign(features, present[:-1])
    features[1][20, 0] = np.nan
    with pytest.raises(PlumError, match=r"modality 'topics' holds NaN, infinity(.|\n)*row 20\b"):
        frozen.assign(features, block=7)


def test_random_codes_ask_for_ids(tmp_path):
    _, frozen = fitted_and_frozen("random")
    with pytest.raises(ValueError, match="item_ids"):
        frozen.assign([])
    with pytest.raises(ValueError, match="quantise nothing"):
        frozen.vectors([])


def test_damaged_files_are_refused_with_the_way_out(tmp_path):
    _, frozen = fitted_and_frozen("rqkmeans")
    frozen.save(tmp_path)
    settings, weights = tmp_path / SETTINGS, tmp_path / WEIGHTS
    whole = {path: path.read_bytes() for path in (settings, weights)}
    values = json.loads(whole[settings])
    other = {**values, "version": 99}, {**values, "sizes": [8, 4, 2]}, {**values, "method": "rqvae"}, {"version": 1}, []
    damages = [(settings, b"{"), (weights, whole[weights][:-7]), (weights, b"")]
    damages += [(settings, json.dumps(damage).encode()) for damage in other]
    for path, content in damages:
        path.write_bytes(content)
        with pytest.raises(PlumError, match="plum tokenize --force"):
            load_frozen(tmp_path)
        path.write_bytes(whole[path])
    for path in (settings, weights):
        path.unlink()
        with pytest.raises(PlumError, match=f"{path.name} is missing"):
            load_frozen(tmp_path)
        path.write_bytes(whole[path])
    assert load_frozen(tmp_path).sizes == tuple(SIZES)


def test_a_warm_start_takes_all_weights_but_averages(tmp_path):
    _, frozen = fitted_and_frozen("rqvae", True, tmp_path)
    frozen.save(tmp_path)
    model = RQVAE(list(WIDTHS.values()), SIZES, 4, 8, ema=True)
    model.load_state_dict(weights_for(tmp_path, list(WIDTHS.items()), SIZES, Shape(4, 8, True)), strict=False)
    old, new = frozen.model.state_dict(), model.state_dict()
    assert set(new) - set(old) == {f"averages.{level}.{name}" for level in range(2) for name in ("counts", "sums")}
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize(
    ("method", "modalities", "sizes", "shape", "told"),
    [
        (
            "rqvae",
            [("text", 6), ("topics", 4)],
            SIZES,
            Shape(4, 8, False),
            r"topics \(4\) here, text \(6\), topics \(3\) th",
        ),
        ("rqvae", [("text", 6), ("tags", 3)], SIZES, Shape(4, 8, False), r"tags \(3\) here"),
        ("rqvae", list(WIDTHS.items()), [8, 8], Shape(4, 8, False), r"codebook_sizes is \[8, 8\] here, \[8, 4\] there"),
        ("rqvae", list(WIDTHS.items()), SIZES, Shape(5, 8, False), "latent_dim is 5 here, 4 there"),
        ("rqvae", list(WIDTHS.items()), [4, 4], Shape(4, 9, False), "codebook_sizes .*; hidden_dim is 9 here, 8 there"),
        ("rqkmeans", list(WIDTHS.items()), SIZES, Shape(4, 8, False), "its method is rqkmeans"),
    ],
)
def test_a_warm_start_from_another_tokenizer_says_what_differs(tmp_path, method, modalities, sizes, shape, told):
    _, frozen = fitted_and_frozen(method, folder=tmp_path)
    frozen.save(tmp_path)
    with pytest.raises(PlumError, match=told):
        weights_for(tmp_path, modalities, sizes, shape)
