"""Hidden states -> logits of chosen tokens, without the rest of the vocabulary; what we need of a model, checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.errors import PlumError


def token_logits(model: PreTrainedModel, hidden: Tensor, token_ids: Tensor | None = None) -> Tensor:
    """Logits (..., V) of hidden states (..., D), or (..., C) of the C tokens in ``token_ids`` alone, in float32."""
    head: Any = model.get_output_embeddings()
    weight, bias = head.weight, getattr(head, "bias", None)
    if token_ids is not None:
        weight = weight[token_ids]
        bias = bias[token_ids] if bias is not None else None
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def max_positions(model: PreTrainedModel) -> int | None:
    """Tokens of the longest sequence that the model was made for, if its configuration says so."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_length(model: PreTrainedModel, n_tokens: int) -> None:
    """Make sure that a sequence fits: some architectures crash on longer ones, others quietly get worse.

    Raises:
        PlumError: if it does not.
    """
    limit = max_positions(model)
    if limit is not None and n_tokens > limit:
        raise PlumError(
            f"a sequence is too long for {type(model).__name__}",
            f"{n_tokens:,} tokens, the model takes {limit:,}",
            "lower max_history (or context_length), or take a base model with a longer context",
        )


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Make sure that ``token_logits`` is what the model itself computes.

    Raises:
        PlumError: for an architecture whose head does more than we know of.
    """
    tokens = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    was_training = model.training
    model.eval()
    base: Any = model.base_model
    expected = model(input_ids=tokens, use_cache=False).logits.float()
    found = token_logits(model, base(input_ids=tokens, use_cache=False).last_hidden_state)
    model.train(was_training)
    if not torch.allclose(expected, found, atol=1e-3, rtol=1e-3):
        raise PlumError(
            f"the output head of {type(model).__name__} does more than a matrix product",
            f"logits differ by up to {(expected - found).abs().max().item():.3g}",
            "use a decoder-only model with a plain output head (Llama, Qwen, Gemma, GPT-2, Mistral ...)",
        )
