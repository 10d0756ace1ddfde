"""The sampled softmax: numbers by hand, an unbiased denominator, and the full softmax as its limit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.retrievers import softmax
from plum.retrievers.softmax import (
    FULL_SOFTMAX_ITEMS,
    SAMPLED_NEGATIVES,
    Negatives,
    full_softmax_loss,
    n_negatives,
    sampled_softmax_loss,
)

SCORES = torch.tensor([0.4, -1.0, 2.0, 0.1], dtype=torch.float64)
Q = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)


@pytest.mark.parametrize("scores", [1, 9, 20, 27, 1 << 20])
def test_the_full_softmax_is_the_same_in_blocks_of_any_size(monkeypatch, scores):
    monkeypatch.setattr(softmax, "CACHED_SCORES", scores)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 4, generator=generator, dtype=torch.float64).requires_grad_()
    vectors = torch.randn(9, 4, generator=generator, dtype=torch.float64).requires_grad_()
    targets = torch.tensor([0, 8, 3, 3, 1, 5, 8])
    found = full_softmax_loss(hidden, vectors, targets)
    expected = torch.nn.functional.cross_entropy(hidden @ vectors.T, targets)
    torch.testing.assert_close(found, expected)
    inputs = hidden, vectors
    torch.testing.assert_close(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs))


def loss_of(scores, target, negatives, q=Q):
    """The sampled loss of one position, by the scores of all items."""
    drawn = torch.tensor(negatives)
    return sampled_softmax_loss(
        scores[[target]], scores[drawn][None], torch.tensor([target]), drawn, torch.log(q)[drawn]
    )


def denominator(target, negatives):
    """What the loss divides exp(score of the target) by."""
    return math.exp(loss_of(SCORES, target, negatives).item() + SCORES[target].item())


def test_the_loss_by_hand():
    # Item 3 is the target and was drawn too, which doesn't count; 1 was drawn twice; S is 4.
    estimate = math.exp(0.1) + 2 * math.exp(-1.0) / (4 * 0.4) + math.exp(2.0) / (4 * 0.2)
    assert loss_of(SCORES, 3, [1, 3, 1, 2]).item() == pytest.approx(math.log(estimate) - 0.1, rel=1e-12)


def test_drawing_nothing_but_the_target_leaves_nothing_to_tell_it_from():
    scores = SCORES.clone().requires_grad_()
    loss = loss_of(scores, 2, [2, 2])
    loss.backward()
    assert loss.item() == 0
    assert scores.grad.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("target", range(4))
@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_denominator_is_unbiased_over_all_draws(target, n):
    expected = sum(
        math.prod(Q[item].item() for item in drawn) * denominator(target, list(drawn))
        for drawn in itertools.product(range(4), repeat=n)
    )
    assert expected == pytest.approx(SCORES.exp().sum().item(), rel=1e-12)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_draw_as_q_has_it_gives_the_full_softmax(data):
    """With item i drawn exactly S q_i times, loss and gradient are the full softmax's, whatever q is."""
    n_items = data.draw(st.integers(2, 6))
    counts = data.draw(st.lists(st.integers(1, 5), min_size=n_items, max_size=n_items))
    scores = torch.tensor(
        data.draw(st.lists(st.floats(-5, 5), min_size=n_items, max_size=n_items)), dtype=torch.float64
    )
    target = data.draw(st.integers(0, n_items - 1))
    sampled, full = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    drawn = np.repeat(np.arange(n_items), counts).tolist()
    one = loss_of(sampled, target, drawn, torch.tensor(counts, dtype=torch.float64) / sum(counts))
    one.backward()
    other = torch.nn.functional.cross_entropy(full[None], torch.tensor([target]))
    other.backward()
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(sampled.grad, full.grad)


def gradients(n, seed=0):
    """Gradients by the items' vectors, of the sampled loss with ``n`` draws and of the full one."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(6, 5, generator=generator)
    targets = torch.tensor([0, 3, 3, 7, 1, 9])
    found = []
    for full in (False, True):
        vectors = torch.randn(10, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        if full:
            full_softmax_loss(hidden, vectors, targets).backward()
        else:
            negatives = Negatives(np.arange(10), n, 0.75)
            torch.manual_seed(seed)
            drawn = negatives.draw()
            scores = (hidden * vectors[targets]).sum(dim=1)
            sampled_softmax_loss(scores, hidden @ vectors[drawn].T, targets, drawn, negatives.log_q[drawn]).backward()
        found.append(vectors.grad)
    return found


def test_the_gradient_approaches_the_full_one_with_more_negatives():
    def error(n):
        return np.mean([float((one - other).norm() / other.norm()) for one, other in map(gradients_of(n), range(5))])

    def gradients_of(n):
        return lambda seed: gradients(n, seed)

    few, some, many = error(10), error(1000), error(100_000)
    assert few > 3 * some > 9 * many
    assert many < 0.02


def test_items_are_drawn_by_their_counts_to_a_power():
    counts = np.array([16, 0, 1, 81])
    negatives = Negatives(counts, 200_000, 0.5)
    q = np.array([4, 1, 1, 9]) / 15  # an item that never was a target counts once
    np.testing.assert_allclose(negatives.log_q.exp().numpy(), q, rtol=1e-6)
    torch.manual_seed(3)
    drawn = negatives.draw()
    assert drawn.dtype == torch.int64
    np.testing.assert_allclose(np.bincount(drawn.numpy(), minlength=4) / negatives.n, q, atol=0.005)
    np.testing.assert_allclose(Negatives(counts, 1, 0.0).log_q.exp().numpy(), 0.25)


def test_draws_follow_torchs_generator_which_checkpoints_hold():
    negatives = Negatives(np.ones(1000), 20, 1.0)
    state = torch.get_rng_state()
    first, second = negatives.draw(), negatives.draw()
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(negatives.draw(), first)


@pytest.mark.parametrize("place", [0.0, 1.0 - 2**-53])
def test_draws_at_the_ends_are_items(monkeypatch, place):
    counts = np.ones(7)
    negatives = Negatives(counts, 3, 1.0)
    monkeypatch.setattr(torch, "rand", lambda n, dtype: torch.full((n,), place, dtype=dtype))
    assert negatives.draw().tolist() == [0 if place == 0 else 6] * 3


def test_the_size_of_the_catalogue_decides_where_nothing_is_asked():
    assert n_negatives(None, FULL_SOFTMAX_ITEMS) is None
    assert n_negatives(None, FULL_SOFTMAX_ITEMS + 1) == SAMPLED_NEGATIVES
    assert n_negatives(5, 10) == n_negatives(5, 10**7) == 5


@pytest.mark.parametrize("counts", [np.zeros(0), np.zeros((2, 2)), np.array([1, -1])])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="counts must be"):
        Negatives(counts, 3, 1.0)
    with pytest.raises(ValueError, match="at least 1"):
        Negatives(np.ones(3), 0, 1.0)
