"""How steps are computed changes memory, speed and rounding, not what is learnt."""

from __future__ import annotations

import shutil

import pytest
import tiny_lms
import torch
from torch import nn

from plum.errors import PlumError
from plum.lm.compute import Compute, cast_weights, checkpointed, compiled
from plum.lm.examples import Batch
from plum.lm.train import train
from plum.training.loop import Recipe


def trained(folder, name="llama", dropout=0.0, **options):
    """A model after a few steps, with its losses and its weights as one vector."""
    model = tiny_lms.model_of(name)
    generator = torch.Generator().manual_seed(1)
    blocks = [torch.randint(0, tiny_lms.VOCABULARY, (4, 8), generator=generator) for _ in range(4)]

    def batches(epoch):
        return (Batch(tokens, tokens) for tokens in blocks)

    torch.manual_seed(5)
    state = train(
        model,
        Recipe(1, 4, 0.01),
        batches,
        checkpoint=folder,
        name="toy",
        dropout=dropout,
        compute=Compute(**options),
    )
    return model, [entry["loss"] for entry in state.log], torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", tiny_lms.MODELS)
def test_activations_that_are_computed_again_are_the_same(tmp_path, name):
    """Dropout included: its draws are repeated."""
    _, plain_losses, plain = trained(tmp_path / "plain", name, dropout=0.3)
    _, losses, found = trained(tmp_path / "again", name, dropout=0.3, checkpoints=True)
    assert losses == plain_losses
    assert torch.allclose(found, plain, atol=1e-6)


def test_blocks_are_computed_twice_only_while_that_is_wanted():
    model, calls = tiny_lms.model_of(), []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    for wanted in (False, True, False):
        calls.clear()
        with checkpointed(model, wanted):
            model(input_ids=torch.arange(6)[None], use_cache=False).logits.sum().backward()
        assert len(calls) == (2 if wanted else 1)


def test_a_model_that_can_t_compute_again_is_a_message():
    class Other(nn.Module):
        class config:
            model_type = "odd"

        def gradient_checkpointing_enable(self, _):
            raise ValueError("Odd does not support gradient checkpointing.")

        def gradient_checkpointing_disable(self):
            raise AssertionError("it was never enabled")

    with (
        pytest.raises(PlumError, match=r"(?s)not supported for models of type 'odd'.*to false"),
        checkpointed(Other(), True),
    ):
        pass


def test_weights_of_half_the_size_train_too(tmp_path):
    model, losses, _ = trained(tmp_path / "half", weights="bfloat16")
    _, full, _ = trained(tmp_path / "full")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32  # angles of far positions need its digits
    assert losses == pytest.approx(full, rel=0.03)
    cast_weights(model, "float32")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPUs")
def test_a_compiled_model_trains_the_same(tmp_path):
    _, plain_losses, plain = trained(tmp_path / "plain")
    model, losses, found = trained(tmp_path / "compiled", compile=True)
    assert losses == pytest.approx(plain_losses, rel=1e-4)
    assert torch.allclose(found, plain, atol=1e-3)
    assert set(model.state_dict()) == set(tiny_lms.model_of().state_dict())
    assert model.base_model._compiled_call_impl is None


def test_a_compiler_that_fails_is_a_message():
    from torch._dynamo.exc import BackendCompilerFailed

    def fails():
        raise BackendCompilerFailed(lambda: None, RuntimeError("no C++ compiler"), None)

    with (
        pytest.raises(PlumError, match=r"(?s)torch.compile can't compile models of type 'llama'.*set compile to false"),
        compiled(tiny_lms.model_of(), True),
    ):
        fails()
