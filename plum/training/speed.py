"""How fast a training goes: tokens per second, model FLOPs utilisation, time left."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

PEAKS = {
    "B200": 2250,
    "H200": 989,
    "GH200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "A10G": 70,
    "A10": 125,
    "A40": 150,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""TFLOP/s of dense bfloat16 matrix products by the makers' data sheets; the longest name in a device's counts."""
WARM = 2
"""Steps at the start that don't count: kernels are built and memory is taken in them."""
TELL_S = 60.0
"""Seconds between two lines of the log that tell the speed."""


def peak_flops(device: torch.device) -> float | None:
    """FLOP/s of a device's bfloat16 matrix products; None for CPUs and devices that are not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    longest = sorted(PEAKS, key=len, reverse=True)
    return next((PEAKS[known] * 1e12 for known in longest if known in name), None)


class Speed:
    """Counts what steps take, without what lies between them (validations, checkpoints).

    Args:
        peak: FLOP/s of all devices together, or None if unknown.
        clock: seconds, for tests.
    """

    def __init__(self, peak: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._peak, self._clock = peak, clock
        self._steps, self._tokens, self._flops, self._seconds = 0, 0, 0, 0.0
        self._begun = clock()
        self._told = clock()

    def start(self) -> None:
        """A step begins, or the wait for its batch."""
        self._begun = self._clock()

    def stop(self, tokens: int, flops: int) -> None:
        """A step has ended, with so many tokens and FLOPs over all processes."""
        self._steps += 1
        if self._steps > WARM:
            self._seconds += self._clock() - self._begun
            self._tokens, self._flops = self._tokens + tokens, self._flops + flops
        self._begun = self._clock()

    def figures(self) -> dict[str, float]:
        """``tokens_per_second``; ``mfu`` too (PaLM appendix B) where the devices' peak is known. Empty at the start."""
        if not self._seconds or not self._tokens:
            return {}
        found = {"tokens_per_second": round(self._tokens / self._seconds, 1)}
        if self._peak and self._flops:
            found["mfu"] = round(self._flops / self._seconds / self._peak, 4)
        return found

    def seconds_left(self, steps: int) -> float | None:
        """Seconds of ``steps`` further steps; None at the start."""
        counted = self._steps - WARM
        return self._seconds / counted * steps if counted > 0 else None

    def is_due(self) -> bool:
        """Whether it is time for a line of the log; not again before ``TELL_S`` seconds."""
        now = self._clock()
        if now - self._told < TELL_S:
            return False
        self._told = now
        return True


def told(seconds: float) -> str:
    """Seconds as ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
