"""The search over settings: the best trial wins, ties go to the earlier, a kill at any place changes nothing."""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from plum.config.dense import combinations
from plum.errors import PlumError
from plum.training import search
from plum.training.search import Outcome, search_best, told


class Killed(BaseException):
    """Stands for the kill of the process."""


class Trainer:
    """Stands for a training: its value and weights follow from the settings alone."""

    def __init__(self, values, kill_at=None):
        self.values, self.kill_at, self.trained = values, kill_at, []

    def __call__(self, settings, checkpoint):
        number = settings["x"]
        if self.kill_at == ("before", number):
            raise Killed
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "state.json").write_text("{}")
        if self.kill_at == ("within", number):
            raise Killed
        self.trained.append(number)
        weights = {"w": torch.arange(3.0) + number, "b": torch.tensor([0.1 * number])}
        return Outcome(self.values[number], {"step": number, "log": [{"loss": 0.1 * number}]}, weights)


def settings_of(values):
    return [{"x": number} for number in range(len(values))]


def same(one, other):
    weights = one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )
    return weights and (one.trials, one.best) == (other.trials, other.best)


def test_combinations_are_all_choices_the_last_field_fastest():
    assert combinations({"a": [1, 2], "b": ["x", "y", "z"]}) == [
        {"a": a, "b": b} for a, b in [(1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z")]
    ]
    assert combinations({}) == [{}]


@pytest.mark.parametrize(
    ("values", "best"), [([0.1, 0.3, 0.2], 1), ([0.3, 0.3, 0.1], 0), ([0.1, 0.2, 0.2], 1), ([0.0, 0.0], 0), ([0.5], 0)]
)
def test_the_largest_value_wins_and_ties_go_to_the_earlier(tmp_path, values, best):
    found = search_best(settings_of(values), Trainer(values), tmp_path / "c")
    assert found.best == best
    assert [trial.value for trial in found.trials] == values
    assert [trial.settings for trial in found.trials] == settings_of(values)
    assert found.trials[best].result == {"step": best, "log": [{"loss": 0.1 * best}]}
    assert found.weights["w"].tolist() == [best, best + 1, best + 2]


VALUES = [0.2, 0.5, 0.5, 0.1, 0.7]


@pytest.mark.parametrize("place", ["before", "within"])
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_killed_in_any_trial_and_started_again_equals_undisturbed(tmp_path, place, number):
    undisturbed = search_best(settings_of(VALUES), Trainer(VALUES), tmp_path / "whole")
    with pytest.raises(Killed):
        search_best(settings_of(VALUES), Trainer(VALUES, (place, number)), tmp_path / "cut")
    again = Trainer(VALUES)
    assert same(search_best(settings_of(VALUES), again, tmp_path / "cut"), undisturbed)
    assert again.trained == list(range(number, len(VALUES)))  # finished trials are not trained again


@pytest.mark.parametrize("call", range(1, 13))
def test_killed_while_a_result_is_written_and_started_again_equals_undisturbed(tmp_path, monkeypatch, call):
    undisturbed = search_best(settings_of(VALUES), Trainer(VALUES), tmp_path / "whole")
    calls = []

    def dying(name):
        true = getattr(search, name)

        def instead(*arguments):
            calls.append(name)
            if len(calls) == call:
                raise Killed
            return true(*arguments)

        return instead

    with monkeypatch.context() as patched:
        for name in ("_weights", "_tidy", "_record"):  # the names of the files, asked for before each is written
            patched.setattr(search, name, dying(name))
        with pytest.raises(Killed):
            search_best(settings_of(VALUES), Trainer(VALUES), tmp_path / "cut")
    assert same(search_best(settings_of(VALUES), Trainer(VALUES), tmp_path / "cut"), undisturbed)


def test_finished_trials_keep_a_result_each_and_the_best_weights_alone(tmp_path):
    search_best(settings_of(VALUES), Trainer(VALUES), tmp_path)
    results = {f"trial-{number}.json" for number in range(len(VALUES))}
    assert {path.name for path in tmp_path.iterdir()} == results | {"trial-4.safetensors"}


@pytest.mark.parametrize("kill_at", [None, ("before", 3), ("within", 2), ("within", 4)])
def test_the_weights_of_all_trials_are_kept_where_wanted(tmp_path, kill_at):
    if kill_at:
        with pytest.raises(Killed):
            search_best(settings_of(VALUES), Trainer(VALUES, kill_at), tmp_path, keep_all=True)
    found = search_best(settings_of(VALUES), Trainer(VALUES), tmp_path, keep_all=True)
    assert [load_file(path)["w"].tolist() for path in found.kept] == [[n, n + 1, n + 2] for n in range(len(VALUES))]
    assert (found.best, found.weights["w"].tolist()) == (4, [4, 5, 6])
    assert search_best(settings_of(VALUES), Trainer(VALUES), tmp_path / "usual").kept == []


@pytest.mark.parametrize("kill_at", [pytest.param(None, marks=pytest.mark.slow), ("within", 1)])
def test_trials_side_by_side_end_as_one_after_the_other(tmp_path, kill_at):
    values = VALUES[:3]
    undisturbed = search_best(settings_of(values), Trainer(values), tmp_path / "whole")
    if kill_at:
        with pytest.raises(Killed):
            search_best(settings_of(values), Trainer(values, kill_at), tmp_path / "beside")
    here = Trainer(values)
    assert same(search_best(settings_of(values), here, tmp_path / "beside", at_once=2), undisturbed)
    assert here.trained == []  # all was done in other processes
    assert {path.name for path in (tmp_path / "beside").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


class TellsThreads:
    """Its result is the number of threads; ends its process once, in the trial wanted, when the other is done."""

    def __init__(self, folder, dies_in):
        self.folder, self.dies_in = folder, dies_in

    def __call__(self, settings, checkpoint):
        number, mark = settings["x"], self.folder / "died"
        checkpoint.mkdir(parents=True, exist_ok=True)
        if number == self.dies_in and not mark.exists():
            for _ in range(1200):
                if (self.folder / "search" / f"trial-{1 - number}.json").exists():
                    break
                time.sleep(0.05)
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(0.1 * number, {"threads": torch.get_num_threads()}, {"w": torch.tensor([1.0 + number])})


@pytest.mark.slow
@pytest.mark.parametrize("dies_in", [0, 1])
def test_a_search_side_by_side_whose_process_was_killed_goes_on_as_undisturbed(tmp_path, dies_in):
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        search = functools.partial(
            search_best, settings_of([0, 0]), TellsThreads(tmp_path, dies_in), tmp_path / "search", at_once=2
        )
        with pytest.raises(PlumError, match=r"was killed\n  found: signal 9"):
            search()
        found = search()
    finally:
        torch.set_num_threads(threads)
    assert [trial.result["threads"] for trial in found.trials] == [2, 2]  # also of the one that was left alone
    assert (found.best, found.weights["w"].tolist()) == (1, [2.0])


@pytest.mark.slow
def test_trials_side_by_side_keep_all_weights_where_wanted(tmp_path):
    found = search_best(settings_of([0.5, 0.2]), Trainer([0.5, 0.2]), tmp_path, keep_all=True, at_once=8)
    assert [load_file(path)["w"].tolist() for path in found.kept] == [[0, 1, 2], [1, 2, 3]]
    assert found.best == 0


def test_a_single_trial_has_its_checkpoint_in_the_folder_itself(tmp_path):
    search_best([{"x": 0}], Trainer([0.3]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_a_folder_of_another_search_is_refused(tmp_path):
    search_best(settings_of(VALUES), Trainer(VALUES), tmp_path)
    with pytest.raises(ValueError, match="belongs to another search"):
        search_best([{"x": 1}, {"x": 0}], Trainer(VALUES), tmp_path)
    with pytest.raises(ValueError, match="at least one trial"):
        search_best([], Trainer(VALUES), tmp_path)


def test_the_weights_are_copies_on_the_cpu(tmp_path):
    weights = {"w": torch.zeros(2)}
    found = search_best([{"x": 0}], lambda *_: Outcome(0.1, {}, weights), tmp_path)
    weights["w"] += 1
    assert found.weights["w"].tolist() == [0, 0]


def test_settings_in_words():
    assert told({"dropout": 0.3, "layers": 2}) == "dropout 0.3, layers 2"


def damage_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_half, damage_bit, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize("keep_all", [False, True])
def test_a_damaged_trial_is_trained_again(tmp_path, caplog, damage, ending, keep_all):
    def train_one(values, folder):
        trained.append(values["x"])
        if values["x"] == 3 and len(trained) == 3:
            raise KeyboardInterrupt
        return Outcome(-abs(values["x"] - 1), {}, {"w": torch.full((3,), float(values["x"]))})

    trained = []
    settings = [{"x": 2}, {"x": 1}, {"x": 3}]
    with pytest.raises(KeyboardInterrupt):
        search_best(settings, train_one, tmp_path, keep_all)
    damage(tmp_path / f"trial-1.{ending}")
    found = search_best(settings, train_one, tmp_path, keep_all)
    assert sorted(trained[3:]) == [1, 3]
    assert (found.best, found.weights["w"].tolist()) == (1, [1.0] * 3)
    assert [trial.value for trial in found.trials] == [-1, 0, -2]
    if damage is not Path.unlink or ending == "safetensors":
        assert "trial 2 is damaged" in caplog.text
