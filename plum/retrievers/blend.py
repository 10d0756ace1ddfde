"""Retrievers blended: a convex combination of their normalised scores, its weights learnt on validation users.

Each part's list becomes distributions: its scores, made probabilities (:data:`SCALES`), raised to each of a few
:data:`POWERS` (high ones are sharp, low ones flat), sum to 1 over the list. An item that a part does not list has
probability 0 under it. A blend's score of an item is the sum over parts and powers of weight times probability: a
mixture, over the union of the lists.

The weights are those of smallest listwise loss: the mean over validation users of the cross-entropy ``-log p(target)``
in the mixture. For user u let ``x_u`` hold the target's probability under each part and power. The loss of weights w is
then ``-log(x_u . w)``: convex, and a function of a linear prediction, so that stochastic Frank-Wolfe minimises it
(:mod:`plum.retrievers.frank_wolfe`). A share :data:`FLOOR` of the weights is spread evenly, which keeps every term
finite and lets no part's items vanish from the union.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plum.evaluation.rankings import NO_ITEM, Recommendations
from plum.retrievers.frank_wolfe import Solution, minimise
from plum.retrievers.union import best_of_union

SCALES = {
    "popularity": "count",
    "recencypop": "log2",
    "textknn": "count",
    "itemknn": "count",
    "lem": "log",
    "dense": "log",
    "dense-mean": "log",
    "plum": "log",
}
"""What the scores of each retriever are. count: interactions or similarities, in proportion to which probabilities are;
those below 0 count as 0. log: logits or log-probabilities, made probabilities by a softmax. log2: logarithms to base 2.
"""
POWERS = (0.5, 1.0, 2.0, 4.0)
"""To which probabilities are raised before they are normalised. Weights choose among them."""
FLOOR = 0.01
"""Share of a blend's weights that is spread evenly over parts and powers."""

_LOG_OF_UNIT = {"log": 1.0, "log2": float(np.log(2.0))}


@dataclass(frozen=True)
class Learnt:
    """The weights of a blend, and how they were found.

    Attributes:
        weights: (M, A) of parts and powers, positive, of sum 1.
        solution: of the search, whose own weights lack the floor.
        targets: of the validation users.
        unlisted: targets that no part lists: they say nothing about the weights and are no part of the loss.
        listed: (M,) share of the targets that each part lists.
        loss: mean cross-entropy of the other targets, in nats.
        loss_of_equal: the same with equal weights.
    """

    weights: np.ndarray
    solution: Solution
    targets: int
    unlisted: int
    listed: np.ndarray
    loss: float
    loss_of_equal: float


def probabilities(found: Recommendations, scale: str, power: float = 1.0) -> np.ndarray:
    """Each list's scores as probabilities (U, K) float64 of sum 1, zeros for a list without items or positive counts.

    Args:
        found: lists of one retriever.
        scale: a value of :data:`SCALES`.
        power: above 0: probabilities are raised to it before they are normalised.

    Raises:
        ValueError: an infinite score, or an unknown scale.

    Example:
        >>> lists = Recommendations(np.array([[4, 2, -1]]), np.array([[3, 1, -np.inf]], np.float32))
        >>> probabilities(lists, "count")
        array([[0.75, 0.25, 0.  ]])
        >>> probabilities(lists, "log2", power=0.5)
        array([[0.66666667, 0.33333333, 0.        ]])
    """
    if scale != "count" and scale not in _LOG_OF_UNIT:
        raise ValueError(f"there is no scale {scale!r} of scores")
    if np.isposinf(found.scores).any():
        raise ValueError("scores are infinite, so they have no probabilities")
    filled = found.items != NO_ITEM
    scores = np.where(filled, found.scores, 0.0).astype(np.float64)
    first = scores[:, :1]  # the largest; relative to it, no power or exponential is too large for a number
    if scale == "count":
        positive = np.maximum(scores, 0.0)
        worth = np.divide(positive, first, out=np.zeros_like(scores), where=first > 0) ** power
    else:
        worth = np.exp((scores - first) * (_LOG_OF_UNIT[scale] * power)) * filled
    total = worth.sum(axis=1, keepdims=True)
    return np.divide(worth, total, out=np.zeros_like(worth), where=total > 0)


def learn(lists: Sequence[Recommendations], scales: Sequence[str], targets: Sequence[np.ndarray], seed: int) -> Learnt:
    """Learn a blend's weights. A user with several targets counts as much as one with a single target.

    Args:
        lists: one (U, K) per part for the validation users. K may differ.
        scales: of the parts' scores.
        targets: U arrays of catalogue rows.
        seed: of the search.

    Raises:
        ValueError: if no part lists any target, or as :func:`probabilities`.
    """
    users = np.repeat(np.arange(len(targets)), [len(rows) for rows in targets])
    asked = np.concatenate([np.zeros(0, np.int64), *targets])
    found = np.stack([_at(*part, users, asked) for part in zip(lists, scales, strict=True)], axis=1)  # (P, M, A)
    known = found.any(axis=(1, 2))
    if not known.any():
        raise ValueError(f"none of the {len(asked):,} validation targets is in a list of the parts")
    rows = found[known].reshape(int(known.sum()), -1)
    share = 1.0 / np.array([len(targets[user]) for user in users[known]])
    importance = share * len(rows) / share.sum()
    equal = rows.mean(axis=1)
    kept = 1.0 - FLOOR

    def slope(predicted: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Of ``-log(kept * x.w + FLOOR)``, where equal weights predict 1: the loss of the weights with their floor."""
        return -importance[samples] * kept / (kept * predicted + FLOOR)

    solution = minimise(rows / equal[:, None], slope, seed)
    weights = kept * solution.weights + FLOOR / rows.shape[1]
    return Learnt(
        weights=weights.reshape(found.shape[1:]),
        solution=solution,
        targets=len(asked),
        unlisted=int((~known).sum()),
        listed=(found > 0).any(axis=2).mean(axis=0),
        loss=-float((importance * np.log(np.einsum("pm,m->p", rows, weights))).mean()),
        loss_of_equal=-float((importance * np.log(equal)).mean()),
    )


def mix(lists: Sequence[Recommendations], scales: Sequence[str], weights: np.ndarray, k: int) -> Recommendations:
    """The k items of largest blended probability.

    Args:
        lists: one (U, K) per part. K may differ.
        scales: of the parts' scores.
        weights: (M, A) of parts and powers.
        k: entries of a list.

    Returns:
        Lists whose scores are the mixture's probabilities, ties by catalogue row; shorter if fewer items are listed.

    Raises:
        ValueError: as :func:`probabilities`.
    """
    worth = []
    for found, scale, of_powers in zip(lists, scales, weights, strict=True):
        sharpened = (w * probabilities(found, scale, a) for w, a in zip(of_powers, POWERS, strict=True))
        worth.append(np.sum(list(sharpened), axis=0))
    return best_of_union([found.items for found in lists], worth, k)


def _at(found: Recommendations, scale: str, users: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The probability (P, A) that a part, at each power, gives to each of P asked items of some user."""
    place = found.items[users] == asked[:, None]
    sharpened = (probabilities(found, scale, power) for power in POWERS)
    return np.stack([np.where(place, chances[users], 0.0).sum(axis=1) for chances in sharpened], axis=1)
