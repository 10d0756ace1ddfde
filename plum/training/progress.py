"""How far a training is: the content of a checkpoint besides tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from plum.training.cost import Size


@dataclass
class Progress:
    """Progress of a training.

    Attributes:
        step: optimizer steps so far.
        best_step, best_value: of the best validation.
        stale: validations since then.
        stopped: whether patience has ended the training.
        log: the training curve; it holds no times.
        spent: sizes of all batches so far; see :class:`plum.training.cost.Size`.
        micro: rows of a batch that fit into memory, if those asked for did not.
        speed: figures of the run that ended the training (:class:`plum.training.speed.Speed`). They differ from run to
            run, so no checkpoint holds them.
    """

    step: int = 0
    best_step: int | None = None
    best_value: float = -math.inf
    stale: int = 0
    stopped: bool = False
    log: list[dict[str, Any]] = field(default_factory=list)
    spent: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    micro: int | None = None
    speed: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def size(self) -> Size:
        """What was spent so far."""
        return Size(*self.spent)
