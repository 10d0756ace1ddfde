"""Batches taken apart: shares by hand, gradients equal to those of the whole batch, less memory when it runs out."""

from __future__ import annotations

import logging
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from plum.errors import PlumError
from plum.training.loop import Recipe, fit
from plum.training.micro import Part, Parts, divide, smaller

STEPS = 4


class Rows(NamedTuple):
    x: Tensor
    weights: Tensor
    ids: tuple[str, ...] = ()


def of_weights(*weights):
    return Rows(torch.arange(float(len(weights)))[:, None], torch.tensor([float(w) for w in weights]))


PARTS = Parts(
    lambda batch: len(batch.x),
    lambda batch, start, stop: Rows(batch.x[start:stop], batch.weights[start:stop]),
    lambda batch: float(batch.weights.sum()),
)


def told(parts):
    return [(part.batch.x[:, 0].int().tolist(), round(part.share, 6)) for part in parts]


def test_a_batch_that_fits_is_left_as_it_is():
    batch = of_weights(1, 2, 3)
    for micro in (None, 3, 8):
        assert divide(batch, PARTS, micro) == [Part(batch, 1.0)]
    assert divide("anything", None, 2) == [Part("anything", 1.0)]


def test_shares_are_those_of_the_labels():
    assert told(divide(of_weights(1, 2, 3, 2), PARTS, 3)) == [([0, 1, 2], 0.75), ([3], 0.25)]


def test_each_process_has_its_rows_and_the_mean_over_processes_is_that_of_the_batch():
    batch = of_weights(*[1] * 10)
    assert told(divide(batch, PARTS, 3, 0, 2)) == [([0, 1, 2], 0.6), ([3, 4], 0.4)]
    assert told(divide(batch, PARTS, 3, 1, 2)) == [([5, 6, 7], 0.6), ([8, 9], 0.4)]


def test_processes_without_rows_or_labels_keep_step_with_the_others():
    """DDP and FSDP2 need as many passes in each; what they read again must have a finite loss."""
    batch = of_weights(0, 4, 0)
    assert told(divide(batch, PARTS, 1, 0, 2)) == [([1], 2.0), ([1], 0.0)]
    assert told(divide(batch, PARTS, 1, 1, 2)) == [([1], 0.0), ([1], 0.0)]
    assert told(divide(of_weights(1, 1), PARTS, None, 2, 3)) == [([0], 0.0)]


def test_parts_without_labels_are_left_out_in_one_process():
    assert told(divide(of_weights(0, 4, 0), PARTS, 1)) == [([1], 1.0)]


@given(
    weights=st.lists(st.integers(0, 3), min_size=1, max_size=12).filter(any),
    micro=st.integers(1, 13) | st.none(),
    size=st.integers(1, 5),
)
def test_every_label_counts_once_whatever_the_processes_and_parts(weights, micro, size):
    batch = of_weights(*weights)
    each = [divide(batch, PARTS, micro, rank, size) for rank in range(size)]
    if size > 1:
        assert len({len(parts) for parts in each}) == 1
    counted = torch.zeros(len(weights))
    for part in (part for parts in each for part in parts):
        assert micro is None or len(part.batch.x) <= micro
        mean = part.batch.weights / part.batch.weights.sum()
        counted[part.batch.x[:, 0].long()] += part.share / size * mean
    assert counted.tolist() == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-6)


class Run:
    """A regression whose rows count by their weights."""

    def __init__(self, folder, micro=None, most=None, dropout=0.0, kill_at=None, **settings):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(dropout), nn.Linear(4, 1))
        self.folder, self.most, self.kill_at, self.largest = folder, most, kill_at, []
        self.recipe = Recipe(2, STEPS, 0.05, micro_batch=micro, checkpoint_steps=3, **settings)
        self.calls = 0

    def batches(self, epoch):
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(STEPS):
            yield Rows(torch.randn(8, 3, generator=generator), torch.randint(0, 4, (8,), generator=generator).float())

    def loss(self, batch):
        self.calls += 1
        if self.calls == self.kill_at:
            raise KeyboardInterrupt
        if self.most is not None and len(batch.x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.largest.append(len(batch.x))
        error = (self.model(batch.x) - batch.x.sum(1, keepdim=True))[:, 0] ** 2
        return {"loss": (error * batch.weights).sum() / batch.weights.sum()}

    def __call__(self):
        self.state = fit(
            self.model,
            self.recipe,
            self.batches,
            self.loss,
            checkpoint=self.folder,
            name="toy",
            parts=PARTS,
            log_every=1,
        )
        return self

    def losses(self):
        return [entry["loss"] for entry in self.state.log]

    def weights(self):
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("whole"))()


@pytest.mark.parametrize("micro", [1, 3, 4, 7, 8])
def test_micro_batches_train_as_the_whole_batch_does(tmp_path, whole, micro):
    """To a relative tolerance of 1e-5 after all steps: only the order of additions differs."""
    parts = Run(tmp_path, micro)()
    assert parts.losses() == pytest.approx(whole.losses(), rel=1e-5)
    assert torch.allclose(parts.weights(), whole.weights(), rtol=1e-5, atol=1e-6)
    assert max(parts.largest) == micro


def test_the_gradient_is_that_of_the_whole_batch_by_hand(tmp_path):
    """Two rows with weights 1 and 3, one parameter: the gradient of (1 (w - 1)^2 + 3 (w - 5)^2) / 4 at 0 is -8."""
    weight = nn.Parameter(torch.zeros(1))
    seen = []

    def loss(batch):
        target = 1 + 4 * batch.x[:, 0]
        return {"loss": (batch.weights * (weight - target) ** 2).sum() / batch.weights.sum()}

    class Spy(Recipe):
        def rate(self, step):
            seen.append(None if weight.grad is None else weight.grad.item())
            return 0.0

    recipe = Spy(1, 2, 1.0, micro_batch=1, max_grad_norm=1e9)
    model = nn.ParameterList([weight])
    fit(model, recipe, lambda e: [of_weights(1, 3)] * 2, loss, checkpoint=tmp_path, name="toy", parts=PARTS)
    assert next(value for value in seen if value is not None) == pytest.approx(-8)


@pytest.mark.parametrize("kill_at", [2, 5, 8, 11, 14, 21])
def test_killed_in_the_middle_of_a_step_and_resumed_equals_undisturbed(tmp_path, kill_at):
    undisturbed = Run(tmp_path / "whole", micro=3, dropout=0.5)()
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path / "cut", micro=3, dropout=0.5, kill_at=kill_at)()
    torch.manual_seed(99)
    again = Run(tmp_path / "cut", micro=3, dropout=0.5)()
    assert again.state == undisturbed.state
    assert torch.equal(again.weights(), undisturbed.weights())


def test_out_of_memory_halves_the_micro_batch_and_trains_the_same(tmp_path, caplog):
    expected = Run(tmp_path / "two", micro=2, dropout=0.5)()
    with caplog.at_level(logging.WARNING, "plum"):
        found = Run(tmp_path / "halved", most=3, dropout=0.5)()
    assert found.losses() == expected.losses()
    assert torch.equal(found.weights(), expected.weights())
    assert found.state.micro == 2
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split("; ")[0] for message in messages] == [
        "toy: memory has run out with 8 rows of a batch at a time",
        "toy: memory has run out with 4 rows of a batch at a time",
    ]
    assert messages[-1].endswith("Set micro_batch_size to 2 to begin with it")


def test_a_resumed_training_begins_with_what_fits(tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path, most=3, kill_at=24)()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "plum"):
        again = Run(tmp_path, most=3)()
    assert not caplog.records
    assert again.state.micro == 2


def test_batches_prepared_ahead_are_taken_apart_again(tmp_path):
    run = Run(tmp_path, most=3)
    state = fit(
        run.model, run.recipe, run.batches, run.loss, checkpoint=tmp_path, name="t", parts=PARTS, prepare=lambda b: b
    )
    assert state.micro == 2  # not 1: the batch that was prepared meanwhile has still been of 8 rows


def test_memory_that_is_too_small_for_a_row_is_a_message(tmp_path):
    with pytest.raises(PlumError, match=r"(?s)toy: memory has run out with a single row.*gradient_checkpointing"):
        Run(tmp_path, most=0)()


def test_memory_that_runs_out_on_a_batch_that_can_t_be_divided_is_a_message(tmp_path):
    def loss(batch):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    with pytest.raises(PlumError, match=r"(?s)memory has run out in a training step.*lower batch_size"):
        fit(nn.Linear(1, 1), Recipe(1, 1, 0.1), lambda e: [1], loss, checkpoint=tmp_path, name="toy")


def test_other_errors_stay_what_they_are(tmp_path):
    def loss(batch):
        raise RuntimeError("shapes don't match")

    with pytest.raises(RuntimeError, match="shapes don't match"):
        fit(nn.Linear(1, 1), Recipe(1, 1, 0.1), lambda e: [1], loss, checkpoint=tmp_path, name="toy")


def test_a_loss_that_is_no_number_names_what_the_batch_was_made_of(tmp_path):
    run = Run(tmp_path)
    run.batches = lambda epoch: [Rows(torch.ones(2, 3), torch.zeros(2), ("user 7", "user 12"))] * STEPS
    with pytest.raises(PlumError, match=r"(?s)not finite at step 0.*the batch is of user 7, user 12"):
        run()


def test_processes_that_would_have_to_agree_are_told_what_to_set():
    """Halving in one of them alone would leave the others waiting for its part of the gradients."""
    with pytest.raises(PlumError, match=r"(?s)memory has run out.*set micro_batch_size to 4 and run the same command"):
        smaller("toy", 8, divisible=True, size=2)
    assert smaller("toy", 8, divisible=True, size=1) == 4
