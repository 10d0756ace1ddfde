"""Training curves in TensorBoard's files, and what is said where a tracker is missing or fails."""

from __future__ import annotations

import importlib.util
import logging

import pytest
import torch
from torch import nn

from plum.errors import PlumError
from plum.training import trackers
from plum.training.loop import Recipe, fit
from plum.training.trackers import Report, Trackers


def train(folder, report):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    scores = iter([0.25, 0.5])
    return fit(
        model,
        Recipe(2, 3, 0.1),
        lambda epoch: range(3),
        lambda number: {"loss": model(torch.ones(1, 2)).sum() ** 2},
        checkpoint=folder / "checkpoint",
        name="toy",
        validate=lambda: {"score": next(scores)},
        monitor="score",
        log_every=2,
        report=report,
    )


def test_tensorboard_gets_the_curve(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"epochs": 2, "scratch": {"layers": 4}, "base": None}
    state = train(tmp_path, Report(["tensorboard"], tmp_path / "tracking", settings))
    events = EventAccumulator(str(tmp_path / "tracking/plum-toy"))
    events.Reload()
    told = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in ("loss", "lr", "score")}
    logged = [(entry["step"], entry["loss"]) for entry in state.log if "loss" in entry]
    assert told["loss"] == [(step, pytest.approx(value)) for step, value in logged]
    assert told["score"] == [(3, 0.25), (6, 0.5)]
    assert len(told["lr"]) == len(logged)


def test_a_tracker_changes_nothing_of_the_training(tmp_path):
    pytest.importorskip("tensorboard")
    assert train(tmp_path / "a", None) == train(tmp_path / "b", Report(["tensorboard"], tmp_path / "tracking"))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PlumError, match=r"(?s)not installed: wandb, mlflow.*plum-recommender\[track\]"):
        Report(["wandb", "mlflow"]).check()
    Report().check()


class Broken:
    """A tracker whose server goes away."""

    def __init__(self, name, **places):
        self.finished = False

    def start(self):
        pass

    def store_init_configuration(self, values):
        self.values = values

    def log(self, values, step):
        raise ConnectionError("no route to host")

    def finish(self):
        self.finished = True


def test_a_tracker_that_fails_does_not_end_the_training(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(trackers, "_started", lambda kind, folder, name: Broken(name))
    monkeypatch.setattr(Report, "check", lambda self: None)
    with caplog.at_level(logging.WARNING, "plum"):
        state = train(tmp_path, Report(["wandb"], tmp_path))
    assert state.step == 6
    assert caplog.text.count("wandb takes no more values: no route to host") == 1


def test_a_tracker_that_does_not_start_is_a_message(tmp_path, monkeypatch):
    def fails(kind, folder, name):
        raise ValueError("no API key")

    monkeypatch.setattr(trackers, "_started", fails)
    monkeypatch.setattr(Report, "check", lambda self: None)
    with pytest.raises(PlumError, match=r"(?s)wandb can't be started.*no API key.*out of report_to"):
        Trackers(Report(["wandb"], tmp_path), "toy")


def test_settings_are_told_flat():
    assert trackers._flat({"a": {"b": 1, "c": {"d": True}}, "e": [1, 2], "f": None}) == {
        "a.b": 1,
        "a.c.d": True,
        "e": "[1, 2]",
        "f": "None",
    }
