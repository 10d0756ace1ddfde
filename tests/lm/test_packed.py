"""Documents that share a row: the same states, losses and gradients as each has alone, whatever the architecture."""

import numpy as np
import pytest
import tiny_models
import torch
import transformers as hf

from plum.corpus.mixture import apart
from plum.lm.examples import IGNORED, Batch
from plum.lm.loss import next_token_loss
from plum.lm.packed import sees_documents_apart

LENGTHS = ((5, 9, 2, 8), (17, 1, 3), (4, 4, 4, 4, 4, 4))
"""Of the documents in each row; longer ones than the sliding windows among them."""
WIDTH = 24


def packed():
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(3, tiny_models.VOCABULARY, (len(LENGTHS), WIDTH)))
    labels, positions = tokens.clone(), torch.zeros_like(tokens)
    for row, lengths in enumerate(LENGTHS):
        start = 0
        for length in [*lengths, WIDTH - sum(lengths)]:
            positions[row, start : start + length] = torch.arange(length)
            labels[row, start : start + 1] = IGNORED
            start += length
        labels[row, sum(lengths) :] = IGNORED
    return Batch(tokens, labels, positions=positions)


def gradients(model, batch):
    model.zero_grad()
    loss = next_token_loss(model, batch)
    loss.backward()
    return loss.item(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("name", [*tiny_models.ARCHITECTURES, *tiny_models.OTHER_HEADS])
def test_packed_documents_have_the_loss_and_the_gradients_of_each_alone(name):
    model = tiny_models.tiny(name)
    assert sees_documents_apart(model, WIDTH)
    batch = packed()
    together, of_together = gradients(model, batch)
    alone, of_alone = gradients(model, apart(batch))
    assert together == pytest.approx(alone, rel=1e-5)
    for weight, gradient in of_alone.items():
        torch.testing.assert_close(of_together[weight], gradient, rtol=1e-3, atol=1e-5)
    contiguous = next_token_loss(model, batch._replace(positions=None)).item()
    assert abs(contiguous - alone) > 1e-4  # so the documents would matter to each other


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_kind_of_attention_keeps_them_apart(attention):
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**tiny_models.SHAPE, num_key_value_heads=4)).eval()
    model.set_attn_implementation(attention)
    assert sees_documents_apart(model, WIDTH)
    batch = packed()
    with torch.no_grad():
        assert next_token_loss(model, batch).item() == pytest.approx(
            next_token_loss(model, apart(batch)).item(), rel=1e-5
        )


def test_a_model_that_counts_positions_itself_is_found_out():
    class Deaf(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, position_ids=None, use_cache=False):
            return self.inner(input_ids=input_ids, use_cache=use_cache)

    model = hf.LlamaForCausalLM(hf.LlamaConfig(**tiny_models.SHAPE, num_key_value_heads=4)).eval()
    model.model = Deaf(model.model)
    assert not sees_documents_apart(model, WIDTH)


def test_rows_beyond_a_border_of_long_sequences_hold_one_document():
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.3], "long_factor": [3.0, 5.0]}
    shape = {**tiny_models.SHAPE, "original_max_position_embeddings": 16, "rope_parameters": rope}
    model = hf.Phi3ForCausalLM(hf.Phi3Config(**shape, sliding_window=None)).eval()
    assert not sees_documents_apart(model, WIDTH)
    assert sees_documents_apart(model, 16)
