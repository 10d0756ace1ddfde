"""Configuration of LoRA: adapters that are trained in place of the language model's own weights."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plum.config.base import Section


class LoraConfig(Section):
    """Small matrices trained beside the model's frozen ones (LoRA, Hu et al. 2021); needs the extra ``lora``.

    The rows of the codes' tokens are trained in full. After training all is merged, and the adapter is kept beside the
    model in ``adapter/``, in peft's format.
    """

    r: Annotated[int, Field(ge=1, le=4096)] = 16
    """Rank of the adapters."""
    alpha: Annotated[float, Field(gt=0, le=1e5)] = 32
    """The adapters' output is scaled by ``alpha / r``."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout rate on the adapters' input."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Last names of the linear layers that get an adapter, such as ``[q_proj, v_proj]``. By default all but the output
    head."""
