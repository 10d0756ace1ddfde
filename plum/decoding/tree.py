"""Tree attention: tokens grown after a batch of prompts attend to their prompt and their own ancestors.

The prompts run through the model once. The grown tokens of all beams follow side by side, in any shape of tree. The
cache is neither copied nor reordered when beams change places. (Attention itself may repeat keys and values of grouped
heads, as transformers does under any mask.)

Some models (Phi-3 with longrope) turn all positions of a sequence otherwise once it is longer than in their first
training. Each path then gets what it would get alone: users are divided by the length of their prompts, and where only
some paths of a user are so long, both ways are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.decoding.branches import Branches
from plum.errors import PlumError
from plum.lm.logits import check_length, length_border


@dataclass(frozen=True)
class _Part:
    """Users whose tokens are in one cache.

    Attributes:
        rows: (B',) numbers of these users.
        lengths: (B',) tokens of their prompts.
        branches: their cache.
        shorter, longer: the paths whose hidden states count: of at most, and of more than so many tokens.
    """

    rows: Tensor
    lengths: Tensor
    branches: Branches
    shorter: int | None = None
    longer: int | None = None

    def counts(self, n_tokens: Tensor) -> Tensor:
        """Which paths (B', K), given by their tokens, count."""
        counted = torch.ones_like(n_tokens, dtype=torch.bool)
        if self.shorter is not None:
            counted &= n_tokens <= self.shorter
        if self.longer is not None:
            counted &= n_tokens > self.longer
        return counted


class Tree:
    """Prompts of B users, run once, and the tokens grown after them.

    Grown tokens have slots 0, 1, ... in the order of their arrival, the same for all users.

    Args:
        model: decoder-only, in evaluation mode.
        prompts: B arrays of token ids, none empty.
        depth: tokens on the longest path: L - 1 for Semantic IDs, because the last code is never fed to the model.
        reserve: tokens per user to allocate at once; further ones cost a copy.

    Raises:
        PlumError: if prompt and path together exceed the model's longest sequence, or a sliding window is narrower than
            the path.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[np.ndarray], depth: int, reserve: int = 0) -> None:
        check_length(model, max(len(prompt) for prompt in prompts) + depth)
        self.n_slots = 0
        border = length_border(model)
        self._parts: list[_Part] = []
        self._whole: Branches | None = None
        if border is None or max(len(prompt) for prompt in prompts) + depth <= border:
            self._whole = Branches(model, prompts, depth, reserve)
            self.last_hidden = self._whole.last_hidden
            return
        self._divide(model, prompts, depth, reserve, border)
        first = self._parts[0].branches.last_hidden
        self.last_hidden = first.new_zeros(len(prompts), first.shape[1])
        for part in self._parts:
            counted = part.counts(part.lengths[:, None])[:, 0]
            self.last_hidden[part.rows[counted]] = part.branches.last_hidden[counted]

    def _divide(
        self, model: PreTrainedModel, prompts: Sequence[np.ndarray], depth: int, reserve: int, border: int
    ) -> None:
        """Caches by how the longest path and the prompt stand to the border."""
        lengths = np.array([len(prompt) for prompt in prompts])
        short, long = lengths + depth <= border, lengths > border
        both = ~short & ~long
        for chosen, most, least in (
            (short, None, None),
            (long, None, None),
            (both, border, None),
            (both, None, border),
        ):
            rows = np.flatnonzero(chosen).tolist()
            if rows:
                own = [prompts[row] for row in rows]
                branches = Branches(model, own, depth, reserve, within=most, beyond=least)
                numbers = torch.tensor(rows, device=model.device)
                own_lengths = torch.tensor([len(prompt) for prompt in own], device=model.device)
                self._parts.append(_Part(numbers, own_lengths, branches, most, least))

    def grow(self, tokens: Tensor, ancestors: Tensor) -> Tensor:
        """Add K tokens to every user's tree; they get the slots ``n_slots`` to ``n_slots + K - 1``.

        Args:
            tokens: (B, K) token ids.
            ancestors: (B, K, A) slots of the tokens between prompt and this one, in any order, padded with -1. A token
                with a ancestors has position (length of its prompt + a).

        Returns:
            (B, K, D) hidden states.
        """
        self.n_slots += tokens.shape[1]
        if self._whole is not None:
            return self._whole.grow(tokens, ancestors)
        hidden = self.last_hidden.new_zeros(*tokens.shape, self.last_hidden.shape[1])
        for part in self._parts:
            own = ancestors[part.rows]
            counted = part.counts(part.lengths[:, None] + (own >= 0).sum(2) + 1)
            grown = part.branches.grow(tokens[part.rows], own)
            hidden[part.rows] = torch.where(counted[..., None], grown, hidden[part.rows])
        return hidden


@torch.no_grad()
def check_tree_attention(model: PreTrainedModel) -> None:
    """Check that beams side by side give the same hidden states as each beam alone, by recomputing a few.

    Raises:
        PlumError: for an architecture without a plain attention cache, or one that ignores the given mask.
    """
    was_training = model.training
    model.eval()
    n_tokens = model.config.get_text_config().vocab_size
    prompts = [np.array([1, 2]) % n_tokens, np.array([3, 4, 5, 6, 7]) % n_tokens]
    grown = torch.tensor([[8, 9], [10, 11]], device=model.device) % n_tokens  # (steps, beams)
    parents = [1, 0]
    base: Any = model.base_model
    try:
        tree = Tree(model, prompts, depth=2)
        tree.grow(grown[[0, 0]], torch.empty(2, 2, 0, dtype=torch.long, device=model.device))
        found = tree.grow(grown[[1, 1]], torch.tensor([parents] * 2, device=model.device)[..., None])
        alone = [
            [*prompt.tolist(), int(grown[0, parent]), int(last)]
            for prompt in prompts
            for parent, last in zip(parents, grown[1], strict=True)
        ]
        rows = [base(input_ids=torch.tensor([ids], device=model.device), use_cache=False) for ids in alone]
        expected = torch.stack([row.last_hidden_state[0, -1] for row in rows]).reshape(found.shape)
        if not expected.any():
            raise PlumError(
                f"all hidden states of {type(model).__name__} are 0",
                "its weights, or many of them, are 0",
                "make or get the model again: for a run's own model, `plum cpt --force` and `plum finetune --force`",
            )
        difference = float((found - expected).abs().max() / expected.abs().max())
        reason = f"hidden states differ by {difference:.2g} of their size"
    except PlumError:
        raise
    except Exception as error:  # other architectures may raise anything
        difference, reason = float("inf"), f"{type(error).__name__}: {error}"
    finally:
        model.train(was_training)
    if not difference < (1e-3 if model.dtype == torch.float32 else 5e-2):
        raise PlumError(
            f"beams cannot be decoded side by side with {type(model).__name__}",
            reason.splitlines()[0],
            "use a decoder-only model with an attention cache (Llama, Qwen, Gemma, GPT-2, Mistral ...), loaded with "
            'attn_implementation="sdpa" or "eager"',
        )
