"""What a model says of items whose documents it has not read: their Semantic ID from their title, words from the SID.

Source of the task: PLUM section 2.2 (evaluation of continued pre-training on held-out items).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.decoding.beam import beam_search
from plum.decoding.constraint import Index
from plum.lm.examples import pad_rows
from plum.lm.logits import token_logits
from plum.probes.generation import greedy
from plum.probes.words import token_f1
from plum.runtime import evaluating
from plum.sid.codec import Codec


@torch.no_grad()
def codes_given(
    model: PreTrainedModel, codec: Codec, prompts: Sequence[np.ndarray], codes: np.ndarray, batch_size: int
) -> np.ndarray:
    """The likeliest code (Q, L) of every level after the prompt and the true earlier codes.

    Costs one pass over prompts and codes.

    Args:
        model: on its device; dropout is off meanwhile.
        codec: the codes' tokens.
        prompts: Q arrays of token ids, none empty, after which a Semantic ID follows.
        codes: (Q, L), the true ones.
        batch_size: prompts computed together.
    """
    tokens = codec.encode(codes)
    found = np.zeros_like(codes)
    levels = [torch.from_numpy(row).to(model.device) for row in codec.token_ids]
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            whole = [np.concatenate([prompts[row], tokens[row, :-1]]) for row in rows]
            ends = torch.tensor([len(prompts[row]) - 1 for row in rows], device=model.device)
            hidden = _hidden(model, whole)
            numbers = torch.arange(len(rows), device=model.device)
            for level, ids in enumerate(levels):
                best = token_logits(model, hidden[numbers, ends + level], ids).argmax(-1)
                found[rows, level] = best.cpu().numpy()
    return found


def _hidden(model: PreTrainedModel, rows: Sequence[np.ndarray]) -> Tensor:
    """Hidden states (B, T, D) of sequences padded on the right, where causal attention never looks."""
    base: Any = model.base_model
    padded = pad_rows([(row, row) for row in rows], int(rows[0][0])).tokens
    hidden: Tensor = base(input_ids=padded.to(model.device), use_cache=False).last_hidden_state
    return hidden


def codes_found(
    model: PreTrainedModel, index: Index, prompts: Sequence[np.ndarray], n_beams: int, batch_size: int
) -> np.ndarray:
    """The Semantic ID (Q, L) of the catalogue that beam search finds best after each prompt.

    Args:
        model: on its device; dropout is off meanwhile.
        index: of the catalogue's Semantic IDs.
        prompts: Q arrays of token ids, none empty.
        n_beams: beams per prompt.
        batch_size: prompts decoded together.
    """
    found = np.full((len(prompts), len(index.sizes)), -1, dtype=np.int64)
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            beams = beam_search(model, [prompts[row] for row in rows], index, n_beams)
            found[rows] = beams.codes[:, 0].cpu().numpy()
    return found


def level_accuracy(found: np.ndarray, truth: np.ndarray) -> list[float]:
    """Share of right codes at each level, of codes (Q, L)."""
    return [float(share) for share in (found == truth).mean(axis=0)]


def prefix_accuracy(found: np.ndarray, truth: np.ndarray) -> list[float]:
    """Share of codes (Q, L) whose first code, first two codes, ... are right."""
    return [float(share) for share in np.cumprod(found == truth, axis=1).mean(axis=0)]


def completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    most: int,
    ends: Collection[int],
    batch_size: int,
) -> list[str]:
    """The first line of text with which a model continues each prompt; see :func:`plum.probes.generation.greedy`."""
    tokens = greedy(model, prompts, most, ends, batch_size)
    return [(str(tokenizer.decode(row)).strip().splitlines() or [""])[0].strip() for row in tokens]


def mean_f1(found: Sequence[str], truth: Sequence[str]) -> float:
    """Mean over texts of :func:`plum.probes.words.token_f1`."""
    return float(np.mean([token_f1(mine, right) for mine, right in zip(found, truth, strict=True)]))
