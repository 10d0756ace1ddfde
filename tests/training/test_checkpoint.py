"""Checkpoints: any damage to any file, and any instant at which the machine can stop."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch
from crash_points import Stopped, stops_everywhere
from torch import nn

from plum.training import checkpoint
from plum.training.loop import Recipe, fit

STEPS = 4


class Training:
    """A small one with dropout and validation; killed before a step if asked for."""

    def __init__(self, folder, kill_step=None, epochs=3):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1))
        self.folder, self.kill_step = folder, kill_step
        self.recipe = Recipe(epochs, STEPS, 0.05, checkpoint_steps=3)
        self.first = None  # the first step that was made

    def loss(self, number):
        if number == self.kill_step:
            raise Stopped
        self.first = number if self.first is None else self.first
        x = torch.full((2, 3), number / 10)
        return {"loss": (self.model(x) - 1).pow(2).mean()}

    def __call__(self):
        self.state = fit(
            self.model,
            self.recipe,
            lambda epoch: range(epoch * STEPS, (epoch + 1) * STEPS),
            self.loss,
            checkpoint=self.folder,
            name="toy",
            validate=lambda: {"score": 1.0 + float(torch.rand(()))},
            monitor="score",
        )
        return self

    def end(self):
        return self.state, {name: value.tolist() for name, value in self.model.state_dict().items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return Training(tmp_path_factory.mktemp("whole") / "c")().end()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The checkpoints of a training killed at step 10: of steps 9 and 8, and the best weights. Not to be changed."""
    folder = tmp_path_factory.mktemp("killed") / "c"
    with pytest.raises(Stopped):
        Training(folder, kill_step=10)()
    return folder


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(place):
    def act(path):
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 4
        path.write_bytes(content)

    return act


DAMAGE = {
    "half": half,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "first byte": flip(0),
    "a third": flip(0.33),
    "last third": flip(0.67),
    "last byte but one": flip(0.99),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "no text": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "other JSON": lambda path: path.write_text('{"sha256": [], "files": 1}'),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
}


def test_a_killed_training_has_two_checkpoints_and_the_weights_they_name(killed):
    names = sorted(path.name for path in killed.iterdir())
    named = [name for name in names if not name.startswith("best-")]
    assert named == ["previous.json", "state.json", "step-8", "step-9"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["state.json", "step-9/model.safetensors", "step-9/optimizer.safetensors"])
def test_the_checkpoint_before_a_damaged_one_is_gone_on_from(tmp_path, killed, expected, caplog, file, damage):
    folder = shutil.copytree(killed, tmp_path / "c")
    DAMAGE[damage](folder / file)
    with caplog.at_level(logging.WARNING, "plum"):
        again = Training(folder)()
    assert again.end() == expected
    assert again.first == 8
    message = caplog.text
    assert "the last checkpoint is damaged" in message
    assert file in message
    assert "of step 8" in message


@pytest.mark.parametrize("damage", DAMAGE)
def test_without_a_whole_checkpoint_the_training_begins_anew(tmp_path, killed, expected, caplog, damage):
    folder = shutil.copytree(killed, tmp_path / "c")
    for path in [*folder.glob("*.json"), *folder.glob("step-8/*")]:
        DAMAGE[damage](path)
    with caplog.at_level(logging.WARNING, "plum"):
        again = Training(folder)()
    assert again.end() == expected
    assert again.first == 0
    assert damage == "gone" or "no checkpoint is whole" in caplog.text  # without a state nothing says there was one


@pytest.mark.parametrize("damage", ["half", "gone", "a third"])
def test_damaged_best_weights_are_trained_again(tmp_path, killed, expected, caplog, damage):
    folder = shutil.copytree(killed, tmp_path / "c")
    for path in folder.glob("best-*"):
        DAMAGE[damage](path)
    with caplog.at_level(logging.WARNING, "plum"):
        assert Training(folder)().end() == expected
    assert "best-" in caplog.text


def test_best_weights_damaged_at_the_end_are_refused_and_trained_again(tmp_path, monkeypatch, expected):
    from plum.errors import PlumError

    true = checkpoint.Checkpoints.load_best

    def damaged(self, model):
        half(self.folder / next(iter(self._best)))
        true(self, model)

    monkeypatch.setattr(checkpoint.Checkpoints, "load_best", damaged)
    with pytest.raises(PlumError, match=r"(?s)best weights.*are damaged.*run the same command again"):
        Training(tmp_path / "c")()
    monkeypatch.undo()
    assert Training(tmp_path / "c")().end() == expected  # the advice works


def test_what_is_no_folder_of_checkpoints_is_replaced(tmp_path, expected):
    (tmp_path / "c").write_text("a file")
    assert Training(tmp_path / "c")().end() == expected


@pytest.mark.slow
def test_a_stop_of_the_machine_at_any_instant_loses_nothing(tmp_path, monkeypatch):
    ends, numbers = [], iter(range(10**6))

    def fresh():
        root = tmp_path / str(next(numbers))
        root.mkdir()
        return root

    def work(root):
        ends.append(Training(root / "c", epochs=2)().end())

    expected = Training(tmp_path / "whole", epochs=2)().end()
    assert stops_everywhere(monkeypatch, fresh, work) > 100
    assert all(end == expected for end in ends)


@pytest.mark.parametrize("at", ["model", "optimizer"])
def test_a_full_disk_is_a_message_and_the_checkpoint_before_survives(tmp_path, monkeypatch, expected, at):
    import errno

    from plum.errors import PlumError
    from plum.training import weights

    place = weights if at == "model" else checkpoint
    true, calls = place.write_tensors, []

    def full(path, tensors, **options):
        calls.append(path)
        if path.parent.name == "step-6":
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"half")
            raise PlumError(f"can't write {path}: the disk is full", errno.errorcode[errno.ENOSPC])
        return true(path, tensors, **options)

    monkeypatch.setattr(place, "write_tensors", full)
    with pytest.raises(PlumError, match="the disk is full"):
        Training(tmp_path / "c")()
    assert not (tmp_path / "c/step-6").exists()  # what it had written would take the room of others
    monkeypatch.undo()
    again = Training(tmp_path / "c")()
    assert again.end() == expected
    assert again.first == 4
