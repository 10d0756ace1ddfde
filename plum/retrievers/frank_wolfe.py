"""Stochastic Frank-Wolfe on the simplex, for finite sums with linear predictions (Négiar et al. 2020).

The problem is ``min f(w) = 1/n * sum over u of f_u(x_u . w)``, with ``w >= 0`` of sum 1 (paper, section 2). A dual
variable per sample holds the derivative of its term when the sample was last drawn, so that a gradient of the whole sum
is known from a few samples per step (algorithm 1). Nothing is projected, and no step size is tuned.

Own code, because copt 0.9.2, the authors' library, draws from the global random state, does not stop by the gap, and
its simplex does not fit its own algorithm any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

logger = logging.getLogger(__name__)

BATCH = 64
"""Samples drawn per step, at most."""
TOLERANCE = 1e-3
"""Gap at which the search ends: the loss is then at most this far above its minimum."""
MOST_STEPS = 200_000
"""Steps after which the search ends in any case."""

Derivative = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Predictions (B,) and the samples (B,) that they are of -> the derivatives (B,) of the samples' terms."""


@dataclass(frozen=True)
class Solution:
    """Where the search ended.

    Attributes:
        weights: (M,) on the simplex.
        steps: that were made.
        gap: the Frank-Wolfe gap of the weights over all samples, no less than what ``f`` is above its minimum.
        converged: whether the gap is within the tolerance.
        trace: gaps on the way: ``{"step", "stochastic_gap", "gap"}``, at steps 0, 1, 2, 4, ... and at the end.
    """

    weights: np.ndarray
    steps: int
    gap: float
    converged: bool
    trace: list[dict[str, float]]


def minimise(
    rows: np.ndarray,
    derivative: Derivative,
    seed: int,
    batch_size: int = BATCH,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> Solution:
    """Minimise a finite sum over the simplex.

    The start is the simplex's centre, with the derivatives of all samples. Each step draws samples, renews their dual
    variables, and moves by ``2 / (step + 2)`` towards the corner with the smallest gradient. The samples of a pass are
    drawn without replacement. The stochastic gap is no bound while dual variables are old. So the search ends when
    this gap was within the tolerance in every step of a pass, or on average, and the gap over all samples is, too.

    Args:
        rows: (n, M) finite, ``x_u`` of each sample.
        derivative: of the terms; each must be convex with a finite slope wherever ``w`` is on the simplex.
        seed: of the drawing.
        batch_size: samples per step (B), cut to n.
        tolerance: above 0, in the unit of ``f``.
        most_steps: at least 1.

    Raises:
        ValueError: no samples, no columns, or rows or derivatives that are not finite.
    """
    n, width = rows.shape
    if not n or not width or not np.isfinite(rows).all():
        raise ValueError(f"rows must be (n, M), not empty and finite, found {rows.shape}")
    rng, size = np.random.default_rng(seed), min(batch_size, n)
    weights = np.full(width, 1.0 / width)
    dual = _checked(derivative(_products(rows, weights), np.arange(n))) / n
    gradient = _summed(rows, dual)
    trace: list[dict[str, float]] = []
    step, gap, converged = 0, _gap(gradient, weights), False
    while not converged and step < most_steps:
        order, gaps = rng.permutation(n), []
        for start in range(0, n - size + 1, size):
            drawn = order[start : start + size]
            renewed = _checked(derivative(_products(rows[drawn], weights), drawn)) / n
            gradient += _summed(rows[drawn], renewed - dual[drawn])
            dual[drawn] = renewed
            gaps.append(_gap(gradient, weights))
            if not step & (step - 1):  # 0 and the powers of 2
                trace.append(_told(step, gaps[-1], _exact_gap(rows, derivative, weights)))
            towards = 2.0 / (step + 2)
            weights *= 1.0 - towards
            weights[int(gradient.argmin())] += towards
            step += 1
            if step == most_steps:
                break
        if np.mean(gaps) <= tolerance or step == most_steps:
            gap = _exact_gap(rows, derivative, weights)
            converged = gap <= tolerance
    trace.append(_told(step, _gap(gradient, weights), gap))
    return Solution(weights / weights.sum(), step, gap, converged, trace)


def _told(step: int, stochastic: float, exact: float) -> dict[str, float]:
    return {"step": step, "stochastic_gap": stochastic, "gap": exact}


def _exact_gap(rows: np.ndarray, derivative: Derivative, weights: np.ndarray) -> float:
    """The gap with the derivatives of all samples at ``weights``."""
    return _gap(_summed(rows, derivative(_products(rows, weights), np.arange(len(rows))) / len(rows)), weights)


def _gap(gradient: np.ndarray, weights: np.ndarray) -> float:
    """``<gradient, weights - corner>`` for the corner with the smallest gradient."""
    return float((gradient * weights).sum() - gradient.min())


def _products(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``rows @ weights``, in an order that does not depend on the number of threads."""
    return np.einsum("nm,m->n", rows, weights)


def _summed(rows: np.ndarray, dual: np.ndarray) -> np.ndarray:
    """``rows.T @ dual``, likewise."""
    return np.einsum("nm,n->m", rows, dual)


def _checked(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("a derivative is not finite")
    return values
