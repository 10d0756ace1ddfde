"""Weights in one file or several."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from plum.training import checkpoint, weights
from plum.training.loop import Recipe, fit


def tied(width=4):
    model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, width), nn.Linear(width, width))
    model[3].weight = model[2].weight
    return model


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(("largest", "files"), [(None, 1), (100, 3), (1, 10)])
def test_a_round_trip_in_files_of_at_most_some_bytes(tmp_path, largest, files):
    model, other = tied(), tied()
    names = weights.write(tmp_path, "model", model, largest)
    assert len(names) == files
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert names[0] == ("model.safetensors" if files == 1 else f"model-00001-of-{files:05}.safetensors")
    weights.load(other, [tmp_path / name for name in names])
    assert same(model, other)
    assert other[3].weight is other[2].weight


def test_weights_of_another_shape_or_with_gaps_are_refused(tmp_path):
    names = weights.write(tmp_path, "model", tied(), 100)
    with pytest.raises(weights.Unfit, match=r"0.bias is \(4,\) in the file, \(5,\) here"):
        weights.load(tied(5), [tmp_path / name for name in names])
    with pytest.raises(weights.Unfit, match="is missing"):
        weights.load(tied(), [tmp_path / name for name in names[1:]])
    with pytest.raises(weights.Unfit, match=r"not in the model here"):
        weights.load(nn.Linear(3, 4), [tmp_path / names[0]])


def test_a_training_resumes_from_checkpoints_in_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "LARGEST_FILE", 1)

    def train(folder, kill_at=None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 1))

        def loss(number):
            if number == kill_at:
                raise KeyboardInterrupt
            return {"loss": (model(torch.full((2, 2), float(number))) - 1).pow(2).mean()}

        fit(
            model,
            Recipe(3, 4, 0.05, checkpoint_steps=3),
            lambda epoch: range(4 * epoch, 4 * epoch + 4),
            loss,
            checkpoint=folder,
            name="toy",
            validate=lambda: {"score": float(torch.rand(()))},
            monitor="score",
        )
        return model

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", kill_at=7)
    assert len(list((tmp_path / "cut").glob(f"step-6/{checkpoint._MODEL}-*"))) == 4
    assert same(whole, train(tmp_path / "cut"))
