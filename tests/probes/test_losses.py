import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES, tiny

from plum.probes import losses
from plum.probes.losses import TEXT, by_level, cut_to, stream, token_losses
from plum.sid.codec import Codec

CODEC = Codec((np.array([5, 6]), np.array([7, 8, 9])))


def test_every_token_is_a_code_of_a_level_or_text():
    tokens = stream([np.array([1, 5, 8]), np.array([79])], CODEC)
    assert tokens.levels.tolist() == [TEXT, 0, 1, TEXT]
    assert tokens.documents.tolist() == [0, 0, 0, 1]
    assert tokens.predicted.tolist() == [False, True, True, False]
    assert len(stream([], CODEC).predicted) == 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2, soft-capped"])
def test_losses_are_those_of_each_document_alone(name, monkeypatch):
    monkeypatch.setattr(losses, "POSITIONS", 7)
    assert name in ARCHITECTURES
    model, rng = tiny(name), np.random.default_rng(0)
    documents = [rng.integers(0, 80, length) for length in (9, 1, 4, 12, 4)]
    found = token_losses(model.train(), documents, 2, 0)
    assert model.training
    expected = []
    for ids in documents:
        row = torch.from_numpy(ids)[None]
        with torch.no_grad():
            logits = model.eval()(input_ids=row, use_cache=False).logits.float()
        expected.append(torch.nn.functional.cross_entropy(logits[0, :-1], row[0, 1:], reduction="none"))
    assert np.allclose(found, torch.cat(expected).numpy(), atol=1e-4)


def test_no_documents_have_no_losses():
    assert token_losses(tiny("llama"), [], 2, 0).shape == (0,)


def test_means_by_level_by_hand():
    tokens = stream([np.array([1, 5, 8, 3]), np.array([1, 6, 9])], CODEC)
    found = by_level(np.array([1.0, 2.0, 6.0, 3.0, 4.0]), tokens, 2)
    assert found == {"tokens": 5, "loss": 3.2, "levels": [2.0, 3.0], "item": 5.0, "text": 6.0}


def test_what_does_not_occur_has_no_mean():
    found = by_level(np.array([1.0]), stream([np.array([1, 5])], CODEC), 2)
    assert found == {"tokens": 1, "loss": 1.0, "levels": [1.0, None], "item": None, "text": None}


def test_documents_are_cut_to_what_the_model_takes():
    assert [len(ids) for ids in cut_to(tiny("llama"), [np.zeros(50, dtype=np.int64), np.zeros(3, dtype=np.int64)])] == [
        40,
        3,
    ]
