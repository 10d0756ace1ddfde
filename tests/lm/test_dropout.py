"""Dropout by hooks: where it drops and how much, when it does nothing, and that nothing of it stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as hf
from tiny_lms import GPT2, LAYERS, MODELS, SHAPE, VOCABULARY, model_of

from plum.errors import PlumError
from plum.lm.dropout import residual_dropout
from plum.lm.examples import pad_rows
from plum.lm.loss import next_token_loss
from plum.lm.train import train
from plum.training.loop import Recipe

TOKENS = torch.arange(2, 14)[None] % VOCABULARY


def hidden(model):
    with torch.no_grad():
        return model.base_model(input_ids=TOKENS, use_cache=False).last_hidden_state


def hooked(model):
    return [name for name, module in model.named_modules() if module._forward_hooks]


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_and_both_branches_of_every_block_are_dropped(name):
    model = model_of(name)
    before = hooked(model)
    with residual_dropout(model, 0.5):
        added = [place for place in hooked(model) if place not in before]
    blocks = [place.rpartition(".")[2] for place in added]
    assert len(blocks) == 1 + 2 * LAYERS
    assert sum(place in ("attn", "self_attn") for place in blocks) == LAYERS
    assert blocks.count("mlp") == LAYERS
    assert model.get_input_embeddings() in [model.get_submodule(place) for place in added]


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("name", MODELS)
def test_a_number_becomes_0_or_is_scaled_so_that_its_mean_stays(name, rate):
    """Seen by hooks registered before and after those of the dropout: hooks run in the order of registration."""
    model = model_of(name)
    tokens = torch.randint(0, VOCABULARY, (200, 12), generator=torch.Generator().manual_seed(1))
    branches = [module for place, module in model.named_modules() if place.rpartition(".")[2] in ("mlp", "attn")]
    for module in [model.get_input_embeddings(), branches[-1]]:
        seen = []

        def see(_, __, output, seen=seen):
            seen.append((output[0] if isinstance(output, tuple) else output).detach())

        handles = [module.register_forward_hook(see)]
        with residual_dropout(model, rate):
            handles.append(module.register_forward_hook(see))
            model.base_model(input_ids=tokens, use_cache=False)
        for handle in handles:
            handle.remove()
        whole, dropped = seen
        there = whole != 0  # the embedding of padding is 0 in any case
        gone = (dropped == 0) & there
        torch.testing.assert_close(dropped[~gone], whole[~gone] / (1 - rate))
        # A binomial share of more than 35,000 numbers: five standard deviations are below 0.014.
        assert there.sum() > 35_000
        assert abs(gone[there].float().mean().item() - rate) < 0.014


@pytest.mark.parametrize("name", MODELS)
def test_in_training_every_call_draws_anew_and_a_seed_repeats_it(name):
    model = model_of(name)
    plain = hidden(model)
    with residual_dropout(model, 0.3):
        torch.manual_seed(5)
        first, second = hidden(model), hidden(model)
        torch.manual_seed(5)
        assert torch.equal(hidden(model), first)
    assert not torch.equal(first, second)
    assert not torch.equal(first, plain)


@pytest.mark.parametrize("name", MODELS)
def test_rate_0_and_evaluation_change_nothing(name):
    model = model_of(name)
    plain = hidden(model)
    with residual_dropout(model, 0.0):
        assert torch.equal(hidden(model), plain)
    model.eval()
    with residual_dropout(model, 0.9):
        assert torch.equal(hidden(model), plain)
        model.train()
        assert not torch.equal(hidden(model), plain)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_stays_behind_also_after_an_error(name):
    model = model_of(name)
    plain, before = hidden(model), hooked(model)
    weights = list(model.state_dict())
    with residual_dropout(model, 0.5):
        assert list(model.state_dict()) == weights
    assert hooked(model) == before
    with pytest.raises(ZeroDivisionError), residual_dropout(model, 0.5):
        raise ZeroDivisionError
    assert hooked(model) == before
    assert torch.equal(hidden(model), plain)


def test_gradients_flow_through_it():
    model = model_of()
    batch = pad_rows([(np.arange(3, 11), np.arange(3, 11))], pad=2)
    with residual_dropout(model, 0.3):
        next_token_loss(model, batch).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "missing"),
    [
        (lambda: hf.MambaForCausalLM(hf.MambaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1)), "self_attn"),
        # One branch alone would be half a dropout without a word.
        (lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**SHAPE)), "self_attn"),
        (
            lambda: hf.OPTForCausalLM(
                hf.OPTConfig(
                    vocab_size=30,
                    hidden_size=16,
                    num_hidden_layers=1,
                    ffn_dim=16,
                    num_attention_heads=2,
                    pad_token_id=1,
                )
            ),
            "mlp",
        ),
    ],
    ids=["mamba", "gpt-neox", "opt"],
)
def test_a_model_without_both_branches_is_refused_unless_the_rate_is_0(model, missing):
    model = model()
    before = hooked(model)
    told = f"(?s)models of type '{model.config.model_type}'.*{missing}"
    with pytest.raises(PlumError, match=told), residual_dropout(model, 0.1):
        pass
    assert hooked(model) == before
    with residual_dropout(model, 0.0):
        pass


def test_training_uses_it_and_a_seed_repeats_the_weights(tmp_path):
    batch = pad_rows([(np.arange(3, 11), np.arange(3, 11))], pad=2)

    def weights(folder, rate):
        model = model_of()
        recipe = Recipe(epochs=1, steps_per_epoch=4, learning_rate=0.01)
        train(model, recipe, lambda epoch: [batch] * 4, checkpoint=tmp_path / folder, name="test", dropout=rate)
        assert hooked(model) == []
        return model.state_dict()

    plain, dropped, again = weights("plain", 0.0), weights("dropped", 0.4), weights("again", 0.4)
    assert all(torch.equal(dropped[key], again[key]) for key in dropped)
    assert any(not torch.equal(dropped[key], plain[key]) for key in dropped)


def test_gpt2_keeps_the_dropout_of_its_own():
    model = hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, bos_token_id=0, eos_token_id=1, resid_pdrop=0.5))
    with residual_dropout(model, 0.0):
        assert not torch.equal(hidden(model.train()), hidden(model))
