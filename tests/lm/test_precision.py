"""Training in bfloat16: near float32, repeatable, and without a trace in the model afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_lms import MODELS, VOCABULARY, model_of

from plum.lm.examples import IGNORED, pad_rows
from plum.lm.loss import next_token_loss
from plum.lm.train import train
from plum.runtime import autocast, is_half
from plum.training.loop import Recipe

CPU = torch.device("cpu")
STEPS = 4


def batch():
    rng = np.random.default_rng(1)
    tokens = [rng.integers(0, VOCABULARY, length) for length in (12, 7, 9, 12)]
    return pad_rows([(row, np.where(rng.random(len(row)) < 0.8, row, IGNORED)) for row in tokens], pad=2)


def trained(folder, precision, name="llama", look=None, **more):
    """Weights and losses of a short training; ``look`` is called with the model in each step."""
    model = model_of(name)

    def batches(epoch):
        for _ in range(STEPS):
            yield batch()

    def see(module, *_):
        if look:
            look(model)

    handle = model.base_model.register_forward_hook(see)
    recipe = Recipe(epochs=1, steps_per_epoch=STEPS, learning_rate=0.01)
    try:
        state = train(model, recipe, batches, checkpoint=folder, name="test", precision=precision, **more)
    finally:
        handle.remove()
    return model, [entry["loss"] for entry in state.log if "loss" in entry]


def same(one, other):
    return all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("device", "precision", "half"),
    [
        ("cpu", "auto", False),
        ("cuda", "auto", True),
        ("mps", "auto", False),
        ("cpu", "float32", False),
        ("cuda", "float32", False),
        ("cpu", "bfloat16", True),
        ("cuda", "bfloat16", True),
    ],
)
def test_what_runs_in_half_precision(device, precision, half):
    assert is_half(torch.device(device), precision) is half


@pytest.mark.parametrize(("precision", "expected"), [("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_matrix_products_alone_are_cast(precision, expected):
    weight = torch.ones(2, 2)
    with autocast(CPU, precision):
        assert (weight @ weight).dtype == expected
        assert weight.dtype == torch.float32
    assert (weight @ weight).dtype == torch.float32


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_near_that_of_float32_and_its_gradients_are_finite(name):
    model = model_of(name)
    exact = next_token_loss(model, batch())
    exact.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    with autocast(CPU, "bfloat16"):
        found = next_token_loss(model, batch())
    found.backward()
    half = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert found.dtype == half.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=0.02)
    assert found.item() != exact.item()
    assert half.isfinite().all()
    assert torch.nn.functional.cosine_similarity(half, gradient, dim=0) > 0.98


@pytest.mark.parametrize("name", MODELS)
def test_training_in_bfloat16_learns_and_keeps_float32_weights(name, tmp_path):
    model, losses = trained(tmp_path / "half", "bfloat16", name)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert np.isfinite(losses).all()
    assert next_token_loss(model, batch()).item() < next_token_loss(model_of(name), batch()).item()


def test_a_seed_repeats_the_weights_and_precision_changes_them(tmp_path):
    half, losses = trained(tmp_path / "half", "bfloat16")
    again, again_losses = trained(tmp_path / "again", "bfloat16")
    assert same(half, again)
    assert losses == again_losses
    assert not same(half, trained(tmp_path / "whole", "float32")[0])


def test_auto_on_a_cpu_is_float32_to_the_last_bit(tmp_path):
    assert same(trained(tmp_path / "auto", "auto")[0], trained(tmp_path / "whole", "float32")[0])


@pytest.mark.parametrize("name", MODELS)
def test_attention_is_plain_in_bfloat16_steps_alone(name, tmp_path):
    seen = []
    usual = model_of(name).config._attn_implementation
    assert name == "gemma2" or usual == "sdpa"  # gemma2's attention is plain in any case
    model, _ = trained(tmp_path / "half", "bfloat16", name, look=lambda m: seen.append(m.config._attn_implementation))
    assert seen == ["eager"] * STEPS
    assert model.config._attn_implementation == usual
    seen.clear()
    trained(tmp_path / "whole", "auto", name, look=lambda m: seen.append(m.config._attn_implementation))
    assert seen == [usual] * STEPS


def test_validation_has_the_attention_and_the_precision_of_the_model(tmp_path):
    seen = []
    usual = model_of().config._attn_implementation

    def validate():
        model = seen[0]
        logits = model(input_ids=batch().tokens).logits
        seen.append((model.config._attn_implementation, logits.dtype))
        return {"score": 0.0}

    def look(model):
        if not seen:
            seen.append(model)

    trained(tmp_path / "half", "bfloat16", look=look, validate=validate, monitor="score")
    assert seen[1:] == [(usual, torch.float32)]


def test_attention_is_put_back_after_an_error(tmp_path):
    models = []

    def fail(model):
        models.append(model)
        assert model.config._attn_implementation == "eager"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trained(tmp_path / "half", "bfloat16", look=fail)
    (model,) = models
    assert model.config._attn_implementation == model_of().config._attn_implementation


@pytest.mark.parametrize("name", MODELS)
def test_plain_attention_is_causal_like_the_fused_one(name, tmp_path):
    """In float32 both give one loss: what is left between bfloat16 and float32 is rounding."""
    model = model_of(name)
    fused = next_token_loss(model, batch())
    model.set_attn_implementation("eager")
    torch.testing.assert_close(next_token_loss(model, batch()), fused, rtol=1e-4, atol=1e-5)
