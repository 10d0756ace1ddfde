"""The training loop: rates, resuming after a kill at any place, early stopping, refusals."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn

from plum.errors import PlumError
from plum.training.loop import Progress, Recipe, fit, write_log
from plum.training.optimizer import groups

STEPS = 5


class Killed(BaseException):
    """Stands for the kill of the process."""


def recipe(epochs=3, **settings):
    return Recipe(epochs, STEPS, 0.05, **{"checkpoint_steps": 3, **settings})


class Run:
    """A small training with dropout, so that the random generator's state counts, and a noisy epoch end."""

    def __init__(self, folder, *, validated=False, kill_step=None, kill_at=None, scores=None, prepare=None, **settings):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
        self.folder, self.validated, self.recipe = folder, validated, recipe(**settings)
        self.kill_step, self.kill_at, self.scores = kill_step, kill_at, scores
        self.epochs_ended, self.prepare = [], prepare

    def batches(self, epoch):
        generator = torch.Generator().manual_seed(100 + epoch)
        for number in range(STEPS):
            yield epoch * STEPS + number, torch.randn(4, 3, generator=generator)

    def loss(self, batch):
        number, x = batch
        if number == self.kill_step:
            raise Killed
        error = (self.model(x) - x.sum(1, keepdim=True)) ** 2
        return {"loss": error.mean(), "largest": error.max()}

    def after_epoch(self, epoch):
        if self.kill_at == ("after_epoch", epoch):
            raise Killed
        self.epochs_ended.append(epoch)
        with torch.no_grad():
            self.model[0].bias += 0.01 * torch.randn(8)

    def validate(self):
        epoch = self.epochs_ended[-1]
        if self.kill_at == ("validate", epoch):
            raise Killed
        return {"score": self.scores[epoch] if self.scores else float(torch.rand(())) + self.model[0].bias[0].item()}

    def __call__(self):
        return fit(
            self.model,
            self.recipe,
            self.batches,
            self.loss,
            checkpoint=self.folder,
            name="toy",
            prepare=self.prepare,
            validate=self.validate if self.validated else None,
            monitor="score" if self.validated else None,
            after_epoch=self.after_epoch,
            log_every=2,
        )

    def weights(self):
        return {key: value.clone() for key, value in self.model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


def assert_resumes(tmp_path, validated, **kill):
    undisturbed = Run(tmp_path / "whole", validated=validated)
    expected = undisturbed()
    with pytest.raises(Killed):
        Run(tmp_path / "cut", validated=validated, **kill)()
    torch.manual_seed(987)  # another process starts with another generator
    again = Run(tmp_path / "cut", validated=validated)
    found = again()
    assert found == expected
    assert same(again.weights(), undisturbed.weights())


@pytest.mark.parametrize("step", [0, 2, 3, 5, 9, 12, 14])
@pytest.mark.parametrize("validated", [False, True])
def test_killed_in_any_step_and_resumed_equals_undisturbed(tmp_path, step, validated):
    assert_resumes(tmp_path, validated, kill_step=step)


@pytest.mark.parametrize("place", ["after_epoch", "validate"])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_killed_at_an_epoch_s_end_and_resumed_equals_undisturbed(tmp_path, place, epoch):
    assert_resumes(tmp_path, True, kill_at=(place, epoch))


class Recorder:
    """Makes the batch again that it is given, and notes which and on what thread."""

    def __init__(self, fail_at=None):
        self.numbers, self.threads, self.fail_at = [], set(), fail_at

    def __call__(self, batch):
        number, x = batch
        if number == self.fail_at:
            raise LookupError("no such teacher")
        self.numbers.append(number)
        self.threads.add(threading.get_ident())
        return number, x.clone()


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    """Of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("fails", [None, "loss", "prepare"])
def test_torch_s_threads_are_shared_while_batches_are_prepared(tmp_path, threads, fails):
    shares = {"loss": set(), "prepare": set()}

    def prepare(batch):
        shares["prepare"].add(torch.get_num_threads())
        return recorder(batch)

    def loss(batch):
        shares["loss"].add(torch.get_num_threads())
        if fails == "loss":
            raise LookupError("a step failed")
        return true(batch)

    recorder = Recorder(fail_at=0 if fails == "prepare" else None)
    run = Run(tmp_path, prepare=prepare)
    true, run.loss = run.loss, loss
    if fails:
        with pytest.raises(LookupError):
            run()
    else:
        run()
    expected = {1: (1, 1), 2: (1, 1), 5: (3, 2)}[threads]
    assert shares["prepare"] == {expected[1]}
    assert shares["loss"] <= {expected[0]}
    assert torch.get_num_threads() == threads
    later = ThreadPoolExecutor(1)
    assert later.submit(torch.get_num_threads).result() == threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]


@pytest.mark.parametrize("step", [None, 0, 4, 7, 12])
def test_batches_prepared_ahead_train_the_same(tmp_path, step):
    plain = Run(tmp_path / "plain", validated=True)
    expected = plain()
    if step is not None:
        with pytest.raises(Killed):
            Run(tmp_path / "ahead", validated=True, kill_step=step, prepare=Recorder())()
    recorder = Recorder()
    ahead = Run(tmp_path / "ahead", validated=True, prepare=recorder)
    assert ahead() == expected
    assert same(ahead.weights(), plain.weights())
    saved = {None: 0, 0: 0, 4: 3, 7: 6, 12: 12}[step]  # a checkpoint stands at every third step
    assert recorder.numbers == list(range(saved, 3 * STEPS))  # nothing is done for batches that are skipped
    assert threading.get_ident() not in recorder.threads


def test_a_batch_is_prepared_during_the_step_before(tmp_path):
    begun = threading.Event()

    def prepare(batch):
        if batch[0] == 1:
            begun.set()
        return batch

    run = Run(tmp_path, epochs=1, prepare=prepare)
    true = run.loss

    def loss(batch):
        if batch[0] == 0:
            assert begun.wait(30), "the next batch waits for this one's step"
        return true(batch)

    run.loss = loss
    run()


def test_an_error_in_preparing_is_the_training_s(tmp_path):
    with pytest.raises(LookupError, match="no such teacher"):
        Run(tmp_path, prepare=Recorder(fail_at=6))()


def test_a_finished_training_is_not_repeated(tmp_path):
    first = Run(tmp_path)
    expected = first()
    again = Run(tmp_path, kill_step=0)
    assert again() == expected
    assert again.epochs_ended == []
    assert same(again.weights(), first.weights())


def test_the_best_validation_s_weights_are_loaded(tmp_path):
    two_epochs = Run(tmp_path / "a", epochs=2, schedule="constant", warmup_share=0.0)
    two_epochs()
    three = Run(tmp_path / "b", validated=True, scores=[0.1, 0.9, 0.9], schedule="constant", warmup_share=0.0)
    state = three()
    assert (state.best_step, state.best_value) == (2 * STEPS, 0.9)  # a tie is not better
    assert same(three.weights(), two_epochs.weights())


def test_patience_stops_and_stays_stopped(tmp_path):
    run = Run(tmp_path, validated=True, epochs=9, scores=[0.5, 0.4, 0.6, 0.6, 0.1, 9.0, 9, 9, 9], patience=2)
    state = run()
    assert state.stopped
    assert state.step == 5 * STEPS
    assert state.best_step == 3 * STEPS
    again = Run(tmp_path, validated=True, epochs=9, scores=[9.0] * 9, patience=2)
    assert again() == state
    assert same(again.weights(), run.weights())


def test_the_optimizer_forgets_rows_that_were_set_anew(tmp_path):
    table = nn.Parameter(torch.zeros(3, 2))
    model = nn.ParameterList([table])
    ends = []

    def after_epoch(epoch):
        ends.append(table.detach().clone())
        return [(table, torch.tensor([1]))] if epoch == 0 else None

    fit(
        model,
        recipe(epochs=2, weight_decay=0.0),
        lambda epoch: [epoch] * STEPS,
        lambda epoch: {"loss": table.sum() * (1 - epoch)},  # no gradient in the second epoch: only moments move
        checkpoint=tmp_path,
        name="toy",
        after_epoch=after_epoch,
    )
    assert (ends[0] < 0).all()
    assert torch.equal(ends[1][1], ends[0][1])
    assert (ends[1][[0, 2]] < ends[0][[0, 2]]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_a_message(tmp_path, bad):
    run = Run(tmp_path)
    run.loss = lambda batch: {"loss": run.model(batch[1]).sum() * bad}
    with pytest.raises(PlumError, match="toy: the loss or its gradient is not finite at step 0"):
        run()


def test_a_nan_loss_with_finite_gradients_stops_too(tmp_path):
    run = Run(tmp_path)
    run.loss = lambda batch: {"loss": run.model(batch[1]).sum() + math.nan}
    with pytest.raises(PlumError, match="not finite"):
        run()


def test_a_monitored_metric_that_is_no_number_stops_with_a_message(tmp_path):
    with pytest.raises(PlumError, match="score on the validation set is nan"):
        Run(tmp_path, validated=True, scores=[math.nan] * 4)()


def test_nothing_to_train_on_is_a_message(tmp_path):
    model = nn.Linear(2, 1)
    with pytest.raises(PlumError, match="nothing to train on"):
        fit(model, Recipe(3, 0, 0.1), lambda epoch: [], lambda batch: {}, checkpoint=tmp_path / "c", name="toy")


def test_an_epoch_of_another_length_than_promised_is_an_error(tmp_path):
    run = Run(tmp_path)
    run.batches = lambda epoch: [(0, torch.zeros(4, 3))] * 3
    with pytest.raises(RuntimeError, match="an epoch gave 3 steps, not 5"):
        run()


def test_validation_without_a_metric_to_monitor_is_refused(tmp_path):
    with pytest.raises(ValueError, match="monitor"):
        fit(nn.Linear(1, 1), recipe(), lambda e: [], lambda b: {}, checkpoint=tmp_path / "c", name="x", validate=dict)


def test_the_log_holds_every_second_step_and_every_validation(tmp_path):
    state = Run(tmp_path / "run", validated=True, epochs=2, scores=[0.25, 0.5])()
    trained = [entry for entry in state.log if "loss" in entry]
    assert [(entry["step"], entry["epoch"]) for entry in trained] == [(0, 0), (2, 0), (4, 0), (6, 1), (8, 1)]
    assert all(entry["lr"] == recipe(epochs=2).rate(entry["step"]) and "largest" in entry for entry in trained)
    validated = [entry for entry in state.log if "score" in entry]
    assert validated == [{"step": 5, "epoch": 0, "score": 0.25}, {"step": 10, "epoch": 1, "score": 0.5}]
    write_log(tmp_path / "log.jsonl", state)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == state.log


def test_tied_weights_survive_a_checkpoint(tmp_path):
    def tied():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    def train(model, kill_step=None):
        def loss(number):
            if number == kill_step:
                raise Killed
            return {"loss": (model(torch.full((2, 4), float(number))) - 1).pow(2).mean()}

        return fit(
            model, Recipe(1, 4, 0.01, checkpoint_steps=2), lambda e: range(4), loss, checkpoint=tmp_path / "c", name="t"
        )

    with pytest.raises(Killed):
        train(tied(), kill_step=3)
    resumed = tied()
    train(resumed)
    torch.manual_seed(0)
    (tmp_path / "c").rename(tmp_path / "old")
    whole = tied()
    train(whole)
    assert same(resumed.state_dict(), whole.state_dict())
    assert resumed[0].weight is resumed[1].weight


def test_rates_by_hand():
    shape = Recipe(epochs=2, steps_per_epoch=10, learning_rate=1.0, warmup_share=0.2)
    assert [shape.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert shape.rate(4) == 1.0  # the cosine starts at the peak
    assert shape.rate(12) == pytest.approx(0.55)  # half-way: the mean of 1 and a tenth
    assert shape.rate(20) == pytest.approx(0.1)
    rates = [shape.rate(step) for step in range(4, 20)]
    assert rates == sorted(rates, reverse=True)
    to_zero = replace(shape, final_rate=0.0)
    assert [to_zero.rate(step) for step in (4, 12, 20)] == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_constant_schedule_warms_up_and_stays(share):
    shape = Recipe(1, 10, 0.3, warmup_share=share, schedule="constant")
    warmup = max(1, round(10 * share))
    for step in range(10):
        assert shape.rate(step) == pytest.approx(0.3 * min(1, (step + 1) / warmup))


def test_biases_and_norms_are_not_decayed():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    decayed, free = groups(model, 0.5)
    assert [p.ndim for p in decayed["params"]] == [2]
    assert [p.ndim for p in free["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)


def test_a_fresh_progress_has_seen_nothing():
    assert Progress() == Progress(0, None, -math.inf, 0, False, [], [0, 0, 0, 0], None)
