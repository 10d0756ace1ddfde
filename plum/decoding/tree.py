"""Tree attention: tokens grown after a batch of prompts attend to their prompt and their own ancestors.

The prompts run through the model once. The grown tokens of all beams follow side by side, in any shape of tree; a 4-D
attention mask and explicit positions define what each attends to. The cache is neither copied nor reordered when beams
change places. (Attention itself may repeat keys and values of grouped heads, as transformers does under any mask.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from plum.errors import PlumError
from plum.lm.logits import check_length


class _GrowingLayer(DynamicLayer):
    """Keys and values of one layer, appended in one preallocated tensor.

    The cache of transformers concatenates, which copies the whole prompt for every token grown. It also drops tokens
    outside a sliding window, which with padding on the right are the wrong ones. This cache keeps all tokens; the masks
    apply the window.
    """

    def __init__(self, reserve: int) -> None:
        super().__init__()
        self._reserve = reserve
        self._stores: list[Tensor] = []
        self._length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (B, H, n, D) keys and values; return views of all of them, without copies."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self._length, self._length + key_states.shape[2]
        if not self._stores:
            self._stores = [_allocate(new, end + self._reserve) for new in (key_states, value_states)]
        elif end > self._stores[0].shape[2]:
            self._stores = [_enlarge(store, start, max(end, 2 * store.shape[2])) for store in self._stores]
        for store, new in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, start:end] = new
        self._length = end
        self.keys, self.values = (store[:, :, :end] for store in self._stores)
        return self.keys, self.values


def _allocate(like: Tensor, length: int) -> Tensor:
    return like.new_empty(like.shape[0], like.shape[1], length, like.shape[3])


def _enlarge(store: Tensor, used: int, length: int) -> Tensor:
    larger = _allocate(store, length)
    larger[:, :, :used] = store[:, :, :used]
    return larger


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
        self._model = model
        self._lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
        self._width = max(len(prompt) for prompt in prompts)
        layers = model.config.get_text_config().num_hidden_layers
        self._cache = Cache(layers=[_GrowingLayer(reserve) for _ in range(layers)])
        self._kinds = _kinds_of_layers(model)
        narrow = [window for window in self._kinds.values() if window is not None and window < depth]
        if narrow:
            raise PlumError(
                f"a sliding window of {type(model).__name__} is narrower than a Semantic ID",
                f"{min(narrow)} tokens, {depth + 1} codes",
                "use a model with a wider window, or Semantic IDs of fewer levels",
            )
        self.n_slots = 0
        self.last_hidden = self._prefill(prompts)

    @torch.no_grad()
    def _prefill(self, prompts: Sequence[np.ndarray]) -> Tensor:
        """Hidden state (B, D) of each prompt's last token. Padding is on the right, where no token attends."""
        tokens = np.zeros((len(prompts), self._width), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
        hidden = self._forward(input_ids=torch.from_numpy(tokens).to(self._model.device))
        return hidden[torch.arange(len(prompts), device=hidden.device), self._lengths - 1]

    @torch.no_grad()
    def grow(self, tokens: Tensor, ancestors: Tensor) -> Tensor:
        """Add K tokens to every user's tree; they get the slots ``n_slots`` to ``n_slots + K - 1``.

        Args:
            tokens: (B, K) token ids.
            ancestors: (B, K, A) slots of the tokens between prompt and this one, in any order, padded with -1. A token
                with a ancestors has position (length of its prompt + a).

        Returns:
            (B, K, D) hidden states.
        """
        n_new, n_before = tokens.shape[1], self.n_slots
        lineage = torch.zeros(*tokens.shape, n_before + n_new + 1, dtype=torch.bool, device=tokens.device)
        lineage.scatter_(2, torch.where(ancestors < 0, n_before + n_new, ancestors), True)  # drop the last column
        itself = torch.arange(n_new, device=tokens.device)
        lineage[:, itself, n_before + itself] = True
        positions = self._lengths[:, None] + (ancestors >= 0).sum(2)
        self.n_slots += n_new
        return self._forward(
            input_ids=tokens,
            attention_mask=self._masks(positions, lineage[:, :, :-1]),
            position_ids=positions,
        )

    def _forward(self, **inputs: Any) -> Tensor:
        base: Any = self._model.base_model
        return base(past_key_values=self._cache, use_cache=True, **inputs).last_hidden_state

    def _masks(self, positions: Tensor, lineage: Tensor) -> Tensor | dict[str, Tensor]:
        """Additive attention masks (B, 1, K, T + S) of new tokens, by kind of layer if there are several.

        A sliding window hides the prompt's older tokens, but never an ancestor, since it is wider than a Semantic ID.
        """
        places = torch.arange(self._width, device=positions.device)
        in_prompt = places < self._lengths[:, None, None]  # (B, 1, T)
        dtype = self._model.dtype
        masks = {}
        for kind, window in self._kinds.items():
            seen = in_prompt if window is None else in_prompt & (positions[..., None] - places < window)
            seen = seen.expand(-1, lineage.shape[1], -1)
            mask = torch.zeros(*lineage.shape[:2], self._width + lineage.shape[2], dtype=dtype, device=places.device)
            mask.masked_fill_(~torch.cat([seen, lineage], dim=2), torch.finfo(dtype).min)
            masks[kind] = mask[:, None]
        return masks if len(masks) > 1 else masks.popitem()[1]


def _kinds_of_layers(model: PreTrainedModel) -> dict[str, int | None]:
    """Kinds of attention layers and the window of each in tokens, None for no limit.

    Raises:
        PlumError: for layers of another kind (linear or chunked attention, convolutions).
    """
    config = model.config.get_text_config()
    window: Any = getattr(config, "sliding_window", None)
    default = ["full_attention" if window is None else "sliding_attention"]
    kinds = set(getattr(config, "layer_types", None) or default)
    if "local" in (getattr(config, "attention_layers", None) or []):  # GPT-Neo: its windows count cache slots
        kinds.add("local_attention")
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise PlumError(
            f"beams cannot be decoded side by side with {type(model).__name__}",
            f"layers of kind {', '.join(sorted(unknown))}",
            "use a model with full or sliding-window attention only",
        )
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(kinds)}


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
