"""Hidden states -> logits of chosen tokens only, and checks that a model supports this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.errors import PlumError
from plum.lm.rows import TrainedRows, rows_of


@dataclass(frozen=True)
class Head:
    """A model's output head: V logits ``cap * tanh(scale * (hidden @ weight.T + bias) / cap)``.

    Attributes:
        weight: (V, D).
        bias: (V,) or None.
        scale: of the logits (Cohere, Granite).
        cap: that no logit exceeds (Gemma 2); None for none.
        rows: the rows of ``weight`` that are trained while the others are frozen; None if all are alike.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None
    rows: TrainedRows | None = None

    def only(self, token_ids: Tensor) -> Head:
        """The head of C tokens alone; gradients reach their rows."""
        bias = None if self.bias is None else self.bias.index_select(0, token_ids)
        weight = self.weight.index_select(0, token_ids)
        if self.rows is not None:
            weight = self.rows.placed(token_ids, weight)
        return replace(self, weight=weight, bias=bias, rows=None)

    def finish(self, products: Tensor) -> Tensor:
        """Logits (..., V), in float32, of what the matrix product gave."""
        logits = products.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits

    def slope(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient (..., V) at the matrix product, from that at the logits, which is overwritten."""
        if self.cap:
            gradient *= 1 - (logits / self.cap) ** 2
        return gradient.mul_(self.scale) if self.scale != 1.0 else gradient


def head_of(model: PreTrainedModel) -> Head:
    """The output head of a model."""
    layer: Any = model.get_output_embeddings()
    config = model.config.get_text_config()
    multiplied = getattr(config, "logit_scale", None) or 1.0  # Cohere
    divided = getattr(config, "logits_scaling", None) or 1.0  # Granite
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    rows = rows_of(model)
    return Head(layer.weight, getattr(layer, "bias", None), multiplied / divided, cap, rows.of_head if rows else None)


def token_logits(model: PreTrainedModel, hidden: Tensor, token_ids: Tensor | None = None) -> Tensor:
    """Logits (..., V) of hidden states (..., D), or (..., C) of the C tokens in ``token_ids`` only, in float32."""
    head = head_of(model)
    if token_ids is not None:
        head = head.only(token_ids)
    return head.finish(torch.nn.functional.linear(hidden, head.weight, head.bias))


def max_positions(model: PreTrainedModel) -> int | None:
    """Tokens of the longest sequence that the model supports; None if its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def length_border(model: PreTrainedModel) -> int | None:
    """Tokens of a sequence above which the model turns all of its positions otherwise; None if it never does.

    With ``longrope`` (Phi-3, Phi-3.5, Phi-4-mini), every position is turned by other angles in a sequence longer than
    those of the first training. (``dynamic`` does so too, but only above ``max_positions``.)
    """
    config = model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind in (parameters, *parameters.values()) if isinstance(kind, dict)]
    borders = [
        kind.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
        for kind in kinds
        if kind.get("rope_type") == "longrope"
    ]
    return min((int(border) for border in borders if border), default=None)


def check_length(model: PreTrainedModel, n_tokens: int) -> None:
    """Refuse a sequence that is too long: some architectures crash on it, others silently get worse.

    Raises:
        PlumError: if it does not.
    """
    limit = max_positions(model)
    if limit is not None and n_tokens > limit:
        raise PlumError(
            f"a sequence is too long for {type(model).__name__}",
            f"{n_tokens:,} tokens, the model supports {limit:,}",
            "lower max_history (or context_length), or choose a base model with a longer context",
        )


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Check that ``token_logits`` equals the model's own output.

    Raises:
        PlumError: for an architecture with another kind of output head.
    """
    tokens = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    was_training = model.training
    model.eval()
    base: Any = model.base_model
    try:
        expected = model(input_ids=tokens, use_cache=False).logits.float()
        found = token_logits(model, base(input_ids=tokens, use_cache=False).last_hidden_state)
        close = 1e-3 if model.dtype == torch.float32 else 2e-2
        same = torch.allclose(expected, found, atol=close, rtol=close)
        reason = f"logits differ by up to {(expected - found).abs().max().item():.3g}"
    except Exception as error:  # other architectures may raise anything
        same, reason = False, f"{type(error).__name__}: {error}".splitlines()[0]
    model.train(was_training)
    if not same:
        raise PlumError(
            f"the output head of {type(model).__name__} does more than a matrix product",
            reason,
            "use a decoder-only model with a plain output head (Llama, Qwen, Gemma, GPT-2, Mistral ...)",
        )
