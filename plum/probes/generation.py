"""Greedy continuation of prompts, without what a model's folder says of sampling, penalties and lengths."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from plum.lm.logits import max_positions, token_logits
from plum.runtime import evaluating


@torch.no_grad()
def greedy(
    model: PreTrainedModel, prompts: Sequence[np.ndarray], most: int, ends: Collection[int], batch_size: int
) -> list[list[int]]:
    """The likeliest next token, again and again.

    Prompts of one length are continued together, so that none is padded: the cost is one pass over the prompts, and
    ``most`` steps for each length that occurs.

    Args:
        model: on its device; dropout is off meanwhile.
        prompts: token ids, none empty.
        most: tokens of a continuation; it also ends where the model takes no longer sequence.
        ends: tokens that end a continuation.
        batch_size: prompts continued together.

    Returns:
        Per prompt the tokens after it, up to an end, which is left out.
    """
    found: list[list[int]] = [[] for _ in prompts]
    by_length: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(row)
    with evaluating(model):
        for length, rows in by_length.items():
            limit = max_positions(model)
            steps = most if limit is None else min(most, limit - length)
            for start in range(0, len(rows), batch_size):
                own = rows[start : start + batch_size]
                for row, tokens in zip(own, _together(model, [prompts[r] for r in own], steps, ends), strict=True):
                    found[row] = tokens
    return found


def _together(
    model: PreTrainedModel, prompts: Sequence[np.ndarray], steps: int, ends: Collection[int]
) -> list[list[int]]:
    """Continuations of prompts of one length."""
    found: list[list[int]] = [[] for _ in prompts]
    going = [True] * len(prompts)
    tokens, cache = torch.from_numpy(np.stack(prompts)).to(model.device), None
    base: Any = model.base_model
    for _ in range(max(0, steps)):
        out = base(input_ids=tokens, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        following = token_logits(model, out.last_hidden_state[:, -1]).argmax(-1)
        for row, token in enumerate(following.tolist()):
            going[row] = going[row] and token not in ends
            if going[row]:
                found[row].append(token)
        if not any(going):
            break
        tokens = following[:, None]
    return found
