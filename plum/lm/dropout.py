"""Dropout for language models without their own: Llama-type models drop attention weights at most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from plum.errors import PlumError

ATTENTION = ("self_attn", "attn")
FEED_FORWARD = ("mlp",)
"""Names of a block's two branches in the decoder-only models of transformers."""


@contextmanager
def residual_dropout(model: PreTrainedModel, rate: float) -> Iterator[None]:
    """While open, apply dropout to input embeddings and to the output of every attention and feed-forward branch.

    These are the places of the original Transformer (Vaswani et al. 2017, section 5.4). It acts in training mode only,
    in addition to the model's own dropout (GPT-2). Weights and saved files don't change.

    Args:
        model: decoder-only.
        rate: share of the numbers set to 0, below 1; 0 does nothing.

    Raises:
        PlumError: if the attention or the feed-forward branches have no known name.
    """
    if not rate:
        yield
        return
    branches: list[nn.Module] = []
    for names in (ATTENTION, FEED_FORWARD):
        found = [module for name, module in model.named_modules() if name.rpartition(".")[2] in names]
        if not found:
            raise PlumError(
                f"dropout is not supported for models of type {model.config.model_type!r}",
                f"no module is called {' or '.join(names)}",
                "set dropout to 0",
            )
        branches += found

    def drop(module: nn.Module, _: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, tuple):  # attention returns its weights too
            return (F.dropout(output[0], rate), *output[1:])
        return F.dropout(output, rate)

    handles = [module.register_forward_hook(drop) for module in [model.get_input_embeddings(), *branches]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
