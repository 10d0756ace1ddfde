"""Stochastic Frank-Wolfe against the optimum that scipy finds, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize as scipy_minimise

from plum.retrievers.frank_wolfe import minimise

FLOOR = 0.05


def log_loss(predicted):
    return -np.log(predicted + FLOOR)


def slope(predicted, samples):
    return -1 / (predicted + FLOOR)


def optimum(loss, of_slope, rows):
    """Weights and value of the constrained optimum, by sequential quadratic programming."""
    n, width = rows.shape
    found = scipy_minimise(
        lambda w: loss(rows @ w).mean(),
        np.full(width, 1 / width),
        jac=lambda w: of_slope(rows @ w, np.arange(n)) @ rows / n,
        method="SLSQP",
        bounds=[(0, 1)] * width,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(width)},
        options={"ftol": 1e-13, "maxiter": 1000},
    )
    return found.x, found.fun


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 300),
    width=st.integers(1, 6),
    batch=st.sampled_from([1, 8, 64]),
)
def test_it_comes_as_near_to_scipys_optimum_as_its_gap_says(seed, n, width, batch):
    rng = np.random.default_rng(seed)
    rows = rng.exponential(size=(n, width)) ** 2 * (rng.random((n, width)) < 0.7)
    found = minimise(rows, slope, seed=1, batch_size=batch, tolerance=0.01)
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1)
    best = optimum(log_loss, slope, rows)[1]
    above = log_loss(rows @ found.weights).mean() - best
    assert -1e-6 <= above <= found.gap + 1e-6
    assert found.converged == (found.gap <= 0.01)
    exact = slope(rows @ found.weights, None) @ rows / n
    assert found.gap == pytest.approx(exact @ found.weights - exact.min(), abs=1e-9)


def test_it_converges_on_a_problem_of_the_size_of_a_blend_to_the_weights_of_scipy():
    rng = np.random.default_rng(5)
    rows = np.exp(rng.normal(-1, 0.7, 6) + 1.5 * rng.normal(size=(1500, 6)))
    found = minimise(rows, slope, seed=0)
    assert found.converged
    assert found.gap <= 1e-3
    np.testing.assert_allclose(found.weights, optimum(log_loss, slope, rows)[0], atol=0.02)


def test_it_minimises_other_losses_too():
    rng = np.random.default_rng(2)
    rows, wanted = rng.normal(size=(400, 4)), rng.normal(size=400)
    found = minimise(rows, lambda predicted, samples: predicted - wanted[samples], seed=0, tolerance=1e-4)
    best = optimum(lambda p: (p - wanted) ** 2 / 2, lambda p, samples: p - wanted[samples], rows)[1]
    assert ((rows @ found.weights - wanted) ** 2 / 2).mean() - best <= 1e-4


def test_a_column_that_is_better_for_everyone_gets_all_and_one_without_worth_nothing():
    rows = np.column_stack([np.full(50, 0.5), np.full(50, 2.0), np.zeros(50)])
    found = minimise(rows, slope, seed=0)
    assert found.weights.tolist() == [0, 1, 0]
    assert found.gap == 0


def test_the_trace_tells_the_gaps_at_powers_of_two_and_the_last_is_the_solutions():
    rng = np.random.default_rng(0)
    found = minimise(rng.exponential(size=(500, 3)), slope, seed=0)
    steps = [entry["step"] for entry in found.trace]
    assert steps == [0, *(2**i for i in range(len(steps) - 2)), found.steps]
    assert found.trace[-1]["gap"] == found.gap
    assert found.trace[-1]["gap"] < found.trace[1]["gap"]


def test_a_seed_repeats_exactly_and_steps_are_bounded():
    rows = np.random.default_rng(0).exponential(size=(500, 3))
    one, same = (minimise(rows, slope, seed=3) for _ in range(2))
    assert one.weights.tolist() == same.weights.tolist()
    assert one.trace == same.trace
    cut = minimise(rows, slope, seed=3, batch_size=1, tolerance=1e-12, most_steps=20)
    assert (cut.steps, cut.converged) == (20, False)
    assert cut.gap > 1e-12


@pytest.mark.parametrize(
    "rows", [np.zeros((0, 2)), np.zeros((2, 0)), np.array([[np.nan, 1.0]]), np.array([[np.inf, 1.0]])]
)
def test_rows_that_say_nothing_are_refused(rows):
    with pytest.raises(ValueError, match="not empty and finite"):
        minimise(rows, slope, seed=0)


def test_a_derivative_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="derivative is not finite"):
        minimise(np.zeros((3, 2)), lambda predicted, samples: -1 / np.where(predicted > 0, predicted, np.nan), seed=0)
