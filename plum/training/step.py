"""One optimizer step: the parts of a batch, their gradients, the guard against numbers that are none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from plum.errors import PlumError
from plum.run import ranks
from plum.training.engine import Engine, is_lost
from plum.training.micro import Part, Parts, divide, is_out_of_memory, smaller
from plum.training.optimizer import make_optimizer
from plum.training.recipe import Recipe
from plum.training.rng import rng_state, set_rng_state

logger = logging.getLogger(__name__)
MOST_NAMED = 20
"""Ids of a batch, at most, in a message."""


class Planned(NamedTuple):
    """A batch and the parts of it that this process works on, of at most ``micro`` rows."""

    batch: Any
    parts: list[Part]
    micro: int | None


class Stepper:
    """Makes a model's optimizer steps.

    Args:
        engine: with the model.
        recipe: how to optimise.
        parts: how a batch is taken apart; None if it can't be.
        prepare: see :func:`plum.training.loop.fit`.
        name: of the training.

    Attributes:
        found: rows of a batch that fit into memory at a time, once more did not; else None.
    """

    def __init__(
        self,
        engine: Engine,
        recipe: Recipe,
        parts: Parts[Any] | None,
        prepare: Callable[[Any], Any] | None,
        name: str,
    ) -> None:
        self._engine, self._recipe, self._parts, self._prepare, self._name = engine, recipe, parts, prepare, name
        self.found: int | None = None
        self.optimizer = make_optimizer(engine.model, recipe)

    @property
    def prepares(self) -> bool:
        """Whether planning is work for another thread."""
        return self._prepare is not None

    @property
    def micro(self) -> int | None:
        """Most rows of a batch in memory at a time; None for all."""
        return self.found or self._recipe.micro_batch

    def plan(self, batch: Any) -> Planned:
        """Take a batch apart, and prepare its parts."""
        micro = self.micro
        cut = divide(batch, self._parts, micro, self._engine.rank, self._engine.size)
        if self._prepare is not None:
            cut = [part._replace(batch=self._prepare(part.batch)) for part in cut]
        return Planned(batch, cut, micro)

    def step(self, planned: Planned, step: int) -> dict[str, Tensor]:
        """One optimizer step; gives the losses over the whole batch.

        Raises:
            PlumError: if the loss or its gradient is not finite, memory does not suffice, or another process is gone.
        """
        self._engine.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._recipe.rate(step)
        losses = self._with_enough_memory(planned)
        norm = self._engine.clip(self._recipe.max_grad_norm)
        if not torch.isfinite(norm + losses["loss"]):  # one device synchronisation, not two
            raise self._not_finite(planned.batch, step, losses["loss"], norm)
        self.optimizer.step()
        return losses

    def _with_enough_memory(self, planned: Planned) -> dict[str, Tensor]:
        """All gradients of a batch; if memory runs out, by smaller parts from then on."""
        if planned.micro != self.micro:  # it was taken apart ahead, before memory ran out
            planned = self.plan(planned.batch)
        state = rng_state()
        while True:
            try:
                return self._gradients(planned.parts)
            except (RuntimeError, MemoryError) as error:
                if self._engine.size > 1 and is_lost(error):
                    raise ranks.lost(error) from error
                if not is_out_of_memory(error):
                    raise
                self._shrink(planned.batch)
            self.optimizer.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            set_rng_state(state)  # the same dropout as if the parts had been as small from the start
            planned = self.plan(planned.batch)

    def _shrink(self, batch: Any) -> None:
        rows = -(-self._parts.rows(batch) // self._engine.size) if self._parts is not None else 0
        before = min(rows, self.micro or rows)
        self.found = smaller(self._name, before, self._parts is not None, self._engine.size)
        logger.warning(
            "%s: memory has run out with %d rows of a batch at a time; going on with %d. The batch of a step stays the "
            "same. Set micro_batch_size to %d to begin with it",
            *(self._name, before, self.found, self.found),
        )

    def _gradients(self, cut: list[Part]) -> dict[str, Tensor]:
        """Add up the gradients of parts; gives the losses of the whole batch."""
        self.optimizer.zero_grad(set_to_none=True)
        engine, total = self._engine, dict[str, Tensor]()
        for number, part in enumerate(cut):
            with engine.collecting(last=number + 1 == len(cut)):
                losses = engine.losses(part.batch)
                engine.backward(losses["loss"] if part.share == 1 else losses["loss"] * part.share)
            for key, value in losses.items():
                counted = value.detach() if part.share == 1 else value.detach() * part.share
                total[key] = counted if key not in total else total[key] + counted
        return engine.together(total)

    def _not_finite(self, batch: Any, step: int, loss: Tensor, norm: Tensor) -> PlumError:
        named = [str(name) for name in getattr(batch, "ids", None) or ()]
        rest = f" and {len(named) - MOST_NAMED:,} more" if len(named) > MOST_NAMED else ""
        told = f"; the batch is of {', '.join(named[:MOST_NAMED])}{rest}" if named else ""
        return PlumError(
            f"{self._name}: the loss or its gradient is not finite at step {step}",
            f"loss {loss.item()}, gradient norm {norm.item()}{told}",
            "lower the learning rate, and look for extreme values in the features",
        )
