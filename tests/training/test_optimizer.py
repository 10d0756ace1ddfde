"""The optimizers: AdamW with moments of 8 bits, by which names states are kept, and refusals."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from plum.errors import PlumError
from plum.training.loop import Recipe, fit
from plum.training.optimizer import load_state, make_optimizer, state_tensors


def train(folder, optimizer, kill_at=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 64), nn.Dropout(0.2), nn.Linear(64, 1))
    data = torch.randn(16, 128)

    def loss(number):
        if number == kill_at:
            raise KeyboardInterrupt
        return {"loss": (model(data) - data.sum(1, keepdim=True)).pow(2).mean()}

    recipe = Recipe(2, 10, 0.02, checkpoint_steps=4, optimizer=optimizer)
    state = fit(
        model,
        recipe,
        lambda epoch: range(10 * epoch, 10 * epoch + 10),
        loss,
        checkpoint=folder,
        name="toy",
        log_every=1,
    )
    return state, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_moments_of_eight_bits_train_alike_and_resume_exactly(tmp_path):
    pytest.importorskip("bitsandbytes")
    state, expected = train(tmp_path / "whole", "adamw-8bit")
    full, _ = train(tmp_path / "full", "adamw")
    losses = [[entry["loss"] for entry in run.log] for run in (state, full)]
    assert losses[0][-1] == pytest.approx(losses[1][-1], rel=0.1)
    assert losses[0] != losses[1]
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", "adamw-8bit", kill_at=14)
    again, found = train(tmp_path / "cut", "adamw-8bit")
    assert again == state
    assert torch.equal(found, expected)


def test_without_the_package_there_is_a_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(PlumError, match=r"(?s)adamw-8bit needs the package bitsandbytes.*set optimizer to adamw"):
        make_optimizer(nn.Linear(2, 2), Recipe(1, 1, 0.1, optimizer="adamw-8bit"))


def test_moments_of_eight_bits_can_t_be_sharded():
    model = nn.Linear(2, 2)
    model.weight.full_tensor = lambda: model.weight  # as a shard's parameter has
    with pytest.raises(PlumError, match=r"(?s)can't train a sharded model.*parallel to ddp"):
        make_optimizer(model, Recipe(1, 1, 0.1, optimizer="adamw-8bit"))


def test_states_go_by_the_names_of_parameters():
    model = nn.Linear(2, 1)
    optimizer = make_optimizer(model, Recipe(1, 1, 0.1))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    kept = {name: value.clone() for name, value in state_tensors(model, optimizer)}
    keys = ("step", "exp_avg", "exp_avg_sq")
    assert set(kept) == {f"{parameter}:{key}" for parameter in ("weight", "bias") for key in keys}
    other = nn.Linear(2, 1)
    fresh = make_optimizer(other, Recipe(1, 1, 0.1))
    load_state(other, fresh, kept)
    assert torch.equal(fresh.state[other.weight]["exp_avg"], kept["weight:exp_avg"])
    assert torch.equal(fresh.state[other.bias]["exp_avg_sq"], kept["bias:exp_avg_sq"])
    with pytest.raises(KeyError):
        load_state(nn.Sequential(other), fresh, kept)
