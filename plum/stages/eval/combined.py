"""The retrievers that combine lists of others: blends, and the hybrid. Their weights are chosen on validation users."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plum.config.blends import HYBRID
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.evaluation.rankings import NO_ITEM, Recommendations
from plum.retrievers.blend import FLOOR, POWERS, SCALES, Learnt, learn, mix
from plum.retrievers.choose import CUTOFF, trial, validation_recall
from plum.retrievers.generative import Generative
from plum.retrievers.hybrid import CONSTANTS, WEIGHTS, choose_weights, fuse
from plum.retrievers.protocol import Retriever
from plum.run import artifacts
from plum.stages import inputs
from plum.stages.eval.field import Field

logger = logging.getLogger(__name__)

Lists = Mapping[str, Recommendations]

FUSED = (Generative.name, artifacts.DENSE)
"""The parts of the hybrid."""
FUSED_DEPTH = 50
"""Places of its parts' lists that the hybrid looks at, whatever cutoffs are reported."""
SAME_USERS = (
    "the parts' own settings and weights were chosen on validation users too: each part looks better there than it is"
)


@dataclass(frozen=True)
class Combined:
    """Combinations whose weights are chosen.

    Attributes:
        depths: entries that are needed of a part's list, by its name.
        blends: by name, in the order of reports, their parts and the weights (M, A) of parts and powers.
        told: what ``metrics.json`` says of each blend, by its name.
        fused: weight of plum and constant of the hybrid; None if it is not scored.
    """

    depths: dict[str, int]
    blends: dict[str, tuple[tuple[str, ...], np.ndarray]]
    told: dict[str, dict[str, Any]]
    fused: tuple[float, float] | None

    def lists(self, found: Lists, n_items: int, k: int) -> dict[str, Recommendations]:
        """The combinations' lists of k entries, from the parts' lists, which have ``depths`` entries or k."""
        combined = {}
        if self.fused is not None:
            weight, constant = self.fused
            parts = [first(found[part], min(FUSED_DEPTH, k)) for part in FUSED]
            combined[HYBRID] = fuse(parts, [weight, 1.0 - weight], constant, n_items, k)
        for name, (of, weights) in self.blends.items():
            combined[name] = mix([first(found[p], self.depths[p]) for p in of], _scales(of), weights, k)
        return combined


def combine(config: RunConfig, data: inputs.Prepared, field: Field) -> Combined:
    """Choose the weights of all combinations that are wanted, and note in ``field`` how.

    A blend that can't be had is left out, with a warning and the reason: fewer than two of its parts are in this run,
    or no validation target is in any of their lists.

    Raises:
        PlumError: a retriever whose scores are not finite.
    """
    there = _there(config, field)
    depths = {part: _depth(config, part) for part in SCALES if any(part in of for of in there.values())}
    asked = dict(depths)
    fused_depth = min(FUSED_DEPTH, max(config.eval.cutoffs))
    if fusing := config.eval.wants(HYBRID):
        asked |= {part: max(asked.get(part, 0), fused_depth) for part in FUSED}
    if not asked:
        return Combined({}, {}, {}, None)
    _, histories, targets = inputs.validation_sample(data, config.finetune.validation_users, config.seed)
    seen = histories if config.eval.filter_seen else None
    logger.info("eval: %s recommend to %s validation users", ", ".join(asked), f"{len(targets):,}")
    found = {part: lists_of(part, field.on_validation(part), histories, depth, seen) for part, depth in asked.items()}
    blends, entries = {}, {}
    _warn_of_empty({part: found[part] for part in depths})
    for name, of in there.items():
        lists = [first(found[part], depths[part]) for part in of]
        try:
            learnt = learn(lists, _scales(of), targets, config.seed)
        except ValueError as error:
            _leave_out(field, name, str(error))
            continue
        recall = validation_recall(mix(lists, _scales(of), learnt.weights, CUTOFF), targets)
        blends[name] = of, learnt.weights
        entries[name] = _entry(config, of, lists, learnt, len(targets))
        field.tuning[name] = _tuning(of, learnt, recall, len(targets))
    fused = _choose_fused(field, [first(found[p], fused_depth) for p in FUSED], targets) if fusing else None
    return Combined(depths, blends, entries, fused)


def lists_of(
    name: str, retriever: Retriever, histories: Sequence[np.ndarray], k: int, seen: Sequence[np.ndarray] | None
) -> Recommendations:
    """What a retriever recommends.

    Raises:
        PlumError: scores that are not finite.
    """
    try:
        found = retriever.recommend(histories, k, seen)
        if np.isposinf(found.scores).any():
            raise ValueError("scores are infinite")
    except ValueError as error:
        fix = f"train it again, or leave {name} out of eval.retrievers"
        raise PlumError(f"{name} can't rank the items", str(error), fix) from error
    return found


def first(found: Recommendations, depth: int) -> Recommendations:
    """The first ``depth`` entries of every list."""
    if found.items.shape[1] <= depth:
        return found
    return Recommendations(found.items[:, :depth], found.scores[:, :depth])


def _there(config: RunConfig, field: Field) -> dict[str, tuple[str, ...]]:
    """The parts that this run has of each blend that is wanted and has two of them; the others are left out."""
    result = {}
    for name, parts in config.eval.blended.items():
        of = tuple(part for part in parts if part in field.retrievers)
        for part in parts if name in config.eval.blends else ():
            if part not in of:
                reason = field.left_out.get(part, "this run does not have it")
                logger.warning("eval: blend %s goes without its part %s: %s", name, part, reason)
        if len(of) >= 2:
            result[name] = of
        else:
            wanted = f" of {', '.join(parts)}" if parts else ""
            _leave_out(field, name, f"a blend needs two parts, and{wanted} this run has {', '.join(of) or 'none'}")
    return result


def _leave_out(field: Field, name: str, reason: str) -> None:
    logger.warning("eval: %s is left out: %s", name, reason)
    field.left_out[name] = reason


def _depth(config: RunConfig, part: str) -> int:
    """Entries of a part's list that blends look at; plum lists no more items than its last beams."""
    beams = config.eval.beams if isinstance(config.eval.beams, int) else config.eval.beams[-1]
    return min(config.eval.blend_depth, beams) if part == Generative.name else config.eval.blend_depth


def _scales(parts: Sequence[str]) -> list[str]:
    return [SCALES[part] for part in parts]


def _warn_of_empty(found: Lists) -> None:
    """Warn of parts that list nothing, or rank nothing, for any validation user."""
    for part, lists in found.items():
        there = lists.items[:, 0] != NO_ITEM
        if not there.any():
            logger.warning("eval: %s lists nothing for any of %s validation users, so a blend gains nothing from it",
                           part, f"{len(there):,}")  # fmt: skip
        elif _constant(lists)[there].all():
            logger.warning("eval: %s gives all items of a list the same score, for all %s validation users with a "
                           "list: in a blend only what it lists counts", part, f"{int(there.sum()):,}")  # fmt: skip


def _constant(lists: Recommendations) -> np.ndarray:
    """Which users (U,) have a list of two or more items whose scores are all the same."""
    last = np.maximum((lists.items != NO_ITEM).sum(axis=1) - 1, 0)
    ends = np.take_along_axis(lists.scores, last[:, None], axis=1)[:, 0]
    return (last > 0) & (ends == lists.scores[:, 0])


def _entry(
    config: RunConfig, of: Sequence[str], lists: Sequence[Recommendations], learnt: Learnt, n_users: int
) -> dict[str, Any]:
    """What ``metrics.json`` says of a blend."""
    parts = {
        part: {
            "weight": float(weights.sum()),
            "powers": {f"{power:g}": float(weight) for power, weight in zip(POWERS, weights, strict=True)},
            "depth": _depth(config, part),
            "targets_listed": float(listed),
            "users_without_list": int((found.items[:, 0] == NO_ITEM).sum()),
            "users_with_equal_scores": int(_constant(found).sum()),
        }
        for part, found, weights, listed in zip(of, lists, learnt.weights, learnt.listed, strict=True)
    }
    search = learnt.solution
    return {
        "parts": parts,
        "users": n_users,
        "targets": learnt.targets,
        "targets_in_no_list": learnt.unlisted,
        "loss": learnt.loss,
        "loss_with_equal_weights": learnt.loss_of_equal,
        "steps": search.steps,
        "gap": search.gap,
        "converged": search.converged,
        "trace": search.trace,
    }


def _tuning(of: Sequence[str], learnt: Learnt, recall: float, n_users: int) -> dict[str, Any]:
    """How a blend's weights were chosen, in the form of all retrievers' tuning."""
    weights = {part: round(float(found.sum()), 4) for part, found in zip(of, learnt.weights, strict=True)}
    note = (
        f"weights learnt by stochastic Frank-Wolfe on the listwise loss of {n_users:,} validation users; "
        f"{learnt.unlisted:,} of their {learnt.targets:,} targets are in no list and were left out. {FLOOR:.0%} of the "
        f"weights is spread evenly. The figure is of the same users, and {SAME_USERS}"
    )
    return {"searched": {}, "trials": [trial(weights, recall)], "chosen": weights, "note": note}


def _choose_fused(field: Field, lists: Sequence[Recommendations], targets: Sequence[np.ndarray]) -> tuple[float, float]:
    """Weight and constant of the hybrid, from its parts' lists for validation users."""
    (weight, constant), trials = choose_weights(lists, targets)
    note = (
        f"weight is that of {FUSED[0]}; 1 - weight that of {FUSED[1]}. Chosen on {len(targets):,} validation users; "
        f"{SAME_USERS}"
    )
    searched = {"weight": list(WEIGHTS), "constant": list(CONSTANTS)}
    chosen = {"weight": weight, "constant": constant}
    field.tuning[HYBRID] = {"searched": searched, "trials": trials, "chosen": chosen, "note": note}
    return weight, constant
