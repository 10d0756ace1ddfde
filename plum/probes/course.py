"""Measurements over the course of a training: before it, at some of its steps, and after it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from plum.probes.attempts import Attempts, Made
from plum.probes.drift import ALL, SavedWeights, drift, group_of, named_weights, save_weights
from plum.probes.tasks import Figures, Task

logger = logging.getLogger(__name__)

DRIFT = "drift"
BEFORE, AFTER = "before", "after"


class Course:
    """Tasks measured again and again, and the drift of the weights. No failure of a measurement stops the caller.

    Args:
        model: in training; its weights change, the object stays.
        new_tokens: (N,) token ids that the base did not have: those of codes and bins.
        tasks: name -> how a task is made, once, for :meth:`start`. Names may have a group: ``loss.behaviour``.
        logged: name in a training log -> task and key of its figure, and its place there if it is a list.
        name: of the stage, for messages.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        new_tokens: np.ndarray,
        tasks: Mapping[str, Callable[[], Task]],
        logged: Mapping[str, tuple[str, str, int | None]],
        name: str,
    ) -> None:
        self._model, self._logged, self._name = model, logged, name
        self._codes = torch.from_numpy(new_tokens)
        self._attempts = Attempts(name)
        made = {task: self._attempts.make(task, make) for task, make in tasks.items()}
        self._tasks = {task: found for task, found in made.items() if found is not None}
        self._first: dict[str, Figures] = {}
        self._last: dict[str, Figures] = {}
        self._weights: Path | None = None

    def start(self, weights: Path) -> dict[str, float]:
        """Measure before the first step, and write the weights to compare later ones with.

        Args:
            weights: the file; it takes as much room as the model.

        Returns:
            Figures for the log, as :meth:`step`.
        """
        self._attempts.make(DRIFT, lambda: save_weights(weights, self._model))
        self._weights = weights if DRIFT not in self._attempts.missing else None
        found = self.step()
        self._first = self._last
        return found

    def step(self) -> dict[str, float]:
        """Measure now; the figures of ``logged`` that there are, finite ones only."""
        clock = time.monotonic()
        self._last = {}
        for task, probe in self._tasks.items():
            found = self._attempts.make(task, lambda probe=probe: probe.measure(self._model))  # type: ignore[misc]
            if found is not None:
                self._last[task] = found
        if self._weights is not None:
            moved = self._attempts.make(DRIFT, self._drift)
            self._last |= {DRIFT: moved} if moved else {}
        logger.debug("%s: measured in %.1f s", self._name, time.monotonic() - clock)
        values = {name: _at(self._last.get(task), key, place) for name, (task, key, place) in self._logged.items()}
        return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}

    def attempt(self, what: str, call: Callable[[], Made]) -> Made | None:
        """The result of something else that may fail without stopping the caller; None if it does."""
        return self._attempts.make(what, call)

    def report(self) -> dict[str, Any]:
        """All figures of the first and of the last measurement, beside the references, in the form of JSON.

        Returns:
            Task -> ``{"before": figures, "after": figures, reference: figures}``, tasks of a group below the group's
            name; ``drift`` -> group of weights -> figures; ``missing`` -> what failed and why.
        """
        found: dict[str, Any] = {}
        for task, probe in self._tasks.items():
            rows = {BEFORE: self._first.get(task), AFTER: self._last.get(task), **probe.references}
            group, _, own = task.rpartition(".")
            place = found.setdefault(group, {}) if group else found
            place[own] = {row: figures for row, figures in rows.items() if figures is not None}
        found[DRIFT] = self._last.get(DRIFT, {})
        found["missing"] = dict(self._attempts.missing)
        return found

    def _drift(self) -> Figures:
        if self._weights is None:
            return {}
        return drift(SavedWeights(self._weights), named_weights(self._model), group_of(self._model), self._codes)


def _at(figures: Figures | None, key: str, place: int | None) -> float | None:
    value = (figures or {}).get(key)
    if isinstance(value, list):
        value = value[place] if place is not None and value else None
    if isinstance(value, dict):
        value = value.get("relative_l2")
    return None if value is None else float(value)


OF_DRIFT = (DRIFT, ALL, None)
"""Where the figure is that a log has of the drift: the relative L2 distance of the base model's weights."""
