"""Several documents in a row, none of which sees another: told to a model by their positions alone.

Models of transformers make a block-diagonal causal mask of positions that restart (``transformers.masking_utils``),
also within a sliding window; flash attention reads the documents' lengths of them. Which models do so is tried.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.lm.logits import length_border

DOCUMENTS = (5, 3, 4)
"""Tokens of the documents with which it is tried."""


def packed_states(model: PreTrainedModel, tokens: Tensor, positions: Tensor) -> Tensor:
    """Hidden states (B, T, D) of documents side by side, each as it has them alone.

    Args:
        model: one that ``sees_documents_apart``.
        tokens: (B, T) int64.
        positions: (B, T) int64, from 0 in each document.
    """
    base: Any = model.base_model
    shape = tokens.shape
    if "flash" in str(model.config._attn_implementation):  # reads the documents' lengths of one row only
        tokens, positions = tokens.reshape(1, -1), positions.reshape(1, -1)
    found: Tensor = base(input_ids=tokens, position_ids=positions, use_cache=False).last_hidden_state
    return found.view(*shape, -1)


@torch.no_grad()
def sees_documents_apart(model: PreTrainedModel, block_length: int) -> bool:
    """Whether a model gives documents that share a row the hidden states that each has alone.

    Args:
        model: in which it is tried, by documents of a few tokens.
        block_length: tokens of a row.
    """
    border = length_border(model)
    if border is not None and block_length > border:
        return False  # one long document would turn all positions of the others otherwise
    size = model.config.get_text_config().vocab_size
    tokens = torch.arange(sum(DOCUMENTS), device=model.device)[None] * 7 % size
    positions = torch.cat([torch.arange(length, device=model.device) for length in DOCUMENTS])[None]
    was_training = model.training
    model.eval()
    base: Any = model.base_model
    try:
        together = packed_states(model, tokens, positions)[0].float()
        alone = [base(input_ids=part, use_cache=False).last_hidden_state[0] for part in tokens.split(DOCUMENTS, dim=1)]
        close = 1e-3 if model.dtype == torch.float32 else 3e-2
        return torch.allclose(together, torch.cat(alone).float(), atol=close, rtol=close)
    except (TypeError, ValueError, RuntimeError, IndexError):  # positions are no argument of its, or of another form
        return False
    finally:
        model.train(was_training)
