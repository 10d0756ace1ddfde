"""FLOPs as torch counts them while a step runs, to compare formulas with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def measured_flops(step: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in one call, including the backward pass if it has one.

    Attention and torch's encoder layers run unfused during the call, because torch can't count some fused kernels. So a
    causal mask saves nothing: the whole square of positions counts.
    """
    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            step()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())
