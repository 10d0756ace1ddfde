"""Learning rates over the steps of a training.

Every schedule begins with a linear warm-up; for a model that has been trained before, it is the re-warming of Ibrahim
et al. 2024 (section 4). ``cosine`` re-decays from the peak; ``wsd`` (warm-up, stable, decay; Hägele et al. 2024,
section 3) stays at the peak and decays at the end, so that a longer training can begin from its middle; ``infinite``
(Ibrahim et al. 2024, section 7.4) cools down to a plateau, which further data can continue, and is annealed at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["constant", "cosine", "wsd", "infinite"]


@dataclass(frozen=True)
class Schedule:
    """Rates as shares of a peak.

    Attributes:
        kind: after the warm-up.
        warmup_share: share of all steps in the warm-up; it has at least one step.
        final_rate: where cosine, wsd and infinite end, as a share of the peak; above 0 for infinite.
        decay_share: wsd and infinite: share of all steps in the decay at the end.
        cooldown_share: infinite: share of all steps from the peak down to the plateau.
        plateau: infinite: the constant rate after that, as a share of the peak.
    """

    kind: Kind = "cosine"
    warmup_share: float = 0.05
    final_rate: float = 0.1
    decay_share: float = 0.2
    cooldown_share: float = 0.2
    plateau: float = 0.55

    def share(self, step: int, steps: int) -> float:
        """Share of the peak in step ``step``, counted from 0, of ``steps``.

        Example, ``wsd`` over 10 steps with warm-up .2, decay .4 and a final rate of 0: 1/2, 1, 1, 1, 1, 1, then
        1 - sqrt(k / 4) for k = 0, 1, 2, 3: 1, .5, .29, .13.
        """
        warmup = max(1, round(self.warmup_share * steps))
        if step < warmup:
            return (step + 1) / warmup
        if self.kind == "constant":
            return 1.0
        if self.kind == "cosine":
            return _cosine((step - warmup) / max(1, steps - warmup), 1.0, self.final_rate)
        decay = max(1, round(self.decay_share * steps))
        done = (step - (steps - decay)) / decay
        if self.kind == "wsd":  # one minus square root: the best of the decays tried (Hägele et al. 2024, section 3)
            return self.final_rate + (1 - self.final_rate) * (1 - math.sqrt(max(0.0, done)))
        if done > 0:
            return self.plateau * (self.final_rate / self.plateau) ** done
        cooled = (step - warmup) / max(1, round(self.cooldown_share * steps))
        return _cosine(min(1.0, cooled), 1.0, self.plateau)


def _cosine(done: float, start: float, end: float) -> float:
    """From ``start`` to ``end`` as ``done`` goes from 0 to 1, along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
