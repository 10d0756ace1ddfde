"""Validation after every n-th epoch: when, what patience counts, and resuming between two validations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training import STEPS, Killed, Run, same

from plum.training.loop import Recipe, fit


def validated(state):
    return [entry["epoch"] for entry in state.log if "score" in entry]


@pytest.mark.parametrize(
    ("epochs", "every", "expected"),
    [(4, 1, [0, 1, 2, 3]), (6, 2, [1, 3, 5]), (7, 3, [2, 5, 6]), (5, 4, [3, 4]), (3, 9, [2]), (1, 1, [0]), (1, 5, [0])],
)
def test_which_epochs_are_validated(tmp_path, epochs, every, expected):
    run = Run(tmp_path, validated=True, epochs=epochs, validate_every=every)
    state = run()
    assert validated(state) == expected
    assert [epoch for epoch in range(epochs) if run.recipe.is_validated((epoch + 1) * STEPS)] == expected
    assert run.epochs_ended == list(range(epochs))  # what else ends an epoch is done after each of them
    assert state.step == epochs * STEPS


@given(epochs=st.integers(1, 40), every=st.integers(1, 50))
def test_there_are_as_many_validations_as_full_intervals_and_one_for_the_rest(epochs, every):
    recipe = Recipe(epochs, STEPS, 0.1, validate_every=every)
    due = [epoch + 1 for epoch in range(epochs) if recipe.is_validated((epoch + 1) * STEPS)]
    assert len(due) == -(-epochs // every)
    assert due[-1] == epochs
    assert all(later - earlier <= every for earlier, later in zip([0, *due], due, strict=False))


def test_the_best_of_the_validated_epochs_weights_are_loaded(tmp_path):
    scores = [9.0, 0.2, 9.0, 0.7, 9.0, 0.3, 9.0, 0.6]
    settings = {"schedule": "constant", "warmup_share": 0.0}
    run = Run(tmp_path / "run", validated=True, epochs=8, scores=scores, validate_every=2, **settings)
    state = run()
    assert (state.best_step, state.best_value) == (4 * STEPS, 0.7)
    four = Run(tmp_path / "four", epochs=4, **settings)
    four()
    assert same(run.weights(), four.weights())


def test_patience_counts_validations_not_epochs(tmp_path):
    scores = [0.0, 0.5, 9.0, 0.4, 9.0, 0.6, 9.0, 0.6, 9.0, 0.1, 9.0, 9.0]
    state = Run(tmp_path, validated=True, epochs=12, scores=scores, patience=2, validate_every=2)()
    assert validated(state) == [1, 3, 5, 7, 9]  # 0.4 is the first without improvement, 0.6 improves, then two don't
    assert state.stopped
    assert state.step == 10 * STEPS
    assert state.best_step == 6 * STEPS


def test_without_validation_it_changes_nothing(tmp_path):
    usual = Run(tmp_path / "usual")
    expected = usual()
    sparse = Run(tmp_path / "sparse", validate_every=2)
    assert sparse() == expected
    assert same(usual.weights(), sparse.weights())


def test_how_often_a_model_is_looked_at_does_not_change_its_training(tmp_path):
    """Of the log only; a validation that draws no random numbers leaves the losses as they are."""

    def losses(every):
        run = Run(tmp_path / f"every-{every}", validated=True, epochs=6, scores=[0.1] * 6, validate_every=every)
        return [entry for entry in run().log if "loss" in entry]

    assert losses(1) == losses(2) == losses(4)


@pytest.mark.parametrize("checkpoint_steps", [3, 7, 1000])
@pytest.mark.parametrize(
    "kill",
    [
        {"kill_step": 2},
        {"kill_step": 7},  # in the second epoch, before any validation
        {"kill_step": 14},
        {"kill_step": 16},  # just behind the first validation
        {"kill_step": 24},
        {"kill_step": 33},  # in the epoch that is validated only for being the last
        {"kill_at": ("after_epoch", 1)},  # at the end of an epoch without validation
        {"kill_at": ("after_epoch", 2)},
        {"kill_at": ("validate", 2)},
        {"kill_at": ("validate", 6)},
    ],
)
def test_killed_between_validations_and_resumed_equals_undisturbed(tmp_path, kill, checkpoint_steps):
    settings = {"validated": True, "epochs": 7, "validate_every": 3, "checkpoint_steps": checkpoint_steps}
    undisturbed = Run(tmp_path / "whole", **settings)
    expected = undisturbed()
    assert validated(expected) == [2, 5, 6]
    with pytest.raises(Killed):
        Run(tmp_path / "cut", **settings, **kill)()
    torch.manual_seed(987)  # another process starts with another generator
    again = Run(tmp_path / "cut", **settings)
    assert again() == expected
    assert same(again.weights(), undisturbed.weights())


def test_a_validation_is_a_checkpoint_whatever_the_steps_between_checkpoints(tmp_path):
    settings = {"validated": True, "epochs": 7, "validate_every": 3, "checkpoint_steps": 1000}
    with pytest.raises(Killed):
        Run(tmp_path, **settings, kill_step=3 * STEPS)()
    again = Run(tmp_path, **settings)
    again()
    assert again.epochs_ended == [3, 4, 5, 6]  # the first three were not trained again


@pytest.mark.parametrize("kill_step", [1, 4, 6, 9, 11])
def test_by_steps_within_and_across_epochs_and_resumed(tmp_path, kill_step):
    settings = {"validated": True, "scores": None, "max_steps": 13, "validate_steps": 4, "checkpoint_steps": 100}

    def run(folder, **kill):
        made = Run(folder, **settings, **kill)
        made.validate = lambda: {"score": float(torch.rand(()))}
        return made

    whole = run(tmp_path / "whole")
    expected = whole()
    assert [entry["step"] for entry in expected.log if "score" in entry] == [4, 8, 12, 13]
    assert [entry["epoch"] for entry in expected.log if "score" in entry] == [0, 1, 2, 2]
    assert (expected.step, whole.epochs_ended) == (13, [0, 1])  # the third epoch is a part of one
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill_step=kill_step)()
    again = run(tmp_path / "cut")
    assert again() == expected
    assert same(again.weights(), whole.weights())


def test_patience_ends_a_training_within_an_epoch(tmp_path):
    run = Run(tmp_path, validated=True, epochs=4, validate_steps=2, patience=2)
    run.validate = lambda: {"score": 1.0}
    state = run()
    assert state.stopped
    assert (state.step, state.best_step) == (6, 2)
    again = Run(tmp_path, validated=True, epochs=4, validate_steps=2, patience=2)
    assert again() == state


def test_looks_between_validations_choose_nothing_and_are_in_the_log(tmp_path):
    def run(folder, kill_step=None):
        made = Run(folder, epochs=2, kill_step=kill_step)
        state = fit(
            made.model,
            made.recipe,
            made.batches,
            made.loss,
            checkpoint=folder,
            name="toy",
            look=(4, lambda: {"seen": round(made.model[0].bias[0].item(), 3)}),
        )
        return made, state

    whole, state = run(tmp_path / "whole")
    assert [(entry["step"], entry["epoch"]) for entry in state.log if "seen" in entry] == [(4, 0), (8, 1)]
    assert state.best_step is None
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill_step=8)
    again, found = run(tmp_path / "cut")
    assert found == state
    assert same(again.weights(), whole.weights())
