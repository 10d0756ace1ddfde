"""One cache of prompts and the tokens grown after them, with the masks and positions of tree attention.

A 4-D attention mask and explicit positions define what each token attends to: its prompt and its own ancestors.
``plum.decoding.tree`` puts such caches together.
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


class Branches:
    """Prompts of B users, run once, and the tokens grown after them, in one cache.

    Grown tokens have slots 0, 1, ... in the order of their arrival, the same for all users.

    Args:
        model: decoder-only, in evaluation mode.
        prompts: B arrays of token ids, none empty.
        depth: tokens on the longest path: L - 1 for Semantic IDs, because the last code is never fed to the model.
        reserve: tokens per user to allocate at once; further ones cost a copy.
        within: no position reaches this number; what would is computed at the last one below, and is of no use.
        beyond: a position that occurs in every pass through the model, if need be by a token that no other attends to.

    Raises:
        PlumError: if a sliding window is narrower than the path.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[np.ndarray],
        depth: int,
        reserve: int = 0,
        within: int | None = None,
        beyond: int | None = None,
    ) -> None:
        self._model, self._within, self._beyond = model, within, beyond
        self._lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
        self._width = max(len(prompt) for prompt in prompts)
        if beyond is not None:
            self._width = max(self._width, beyond + 1)
            reserve += depth
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
        self._slots = torch.empty(0, dtype=torch.long, device=model.device)  # of the tokens grown, in the cache
        self._n_cached = 0
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
        """Add K tokens to every user's tree; they get the next K slots.

        Args:
            tokens: (B, K) token ids.
            ancestors: (B, K, A) slots of the tokens between prompt and this one, in any order, padded with -1. A token
                with a ancestors has position (length of its prompt + a).

        Returns:
            (B, K, D) hidden states.
        """
        n_new, n_before = tokens.shape[1], self._n_cached
        positions = self._lengths[:, None] + (ancestors >= 0).sum(2)
        if self._within is not None:
            positions = positions.clamp(max=self._within - 1)
        if len(self._slots) < n_before:  # some slots hold tokens of ``beyond``
            ancestors = torch.where(ancestors < 0, -1, self._slots[ancestors])
        own = torch.arange(n_before, n_before + n_new, device=tokens.device)
        self._slots = torch.cat([self._slots, own])
        if self._beyond is not None:
            pad = torch.nn.functional.pad
            tokens, positions = pad(tokens, (0, 1)), pad(positions, (0, 1), value=self._beyond)
            ancestors = pad(ancestors, (0, 0, 0, 1), value=-1)
        self._n_cached += tokens.shape[1]
        hidden = self._forward(
            input_ids=tokens,
            attention_mask=self._masks(positions, self._lineage(ancestors, n_before)),
            position_ids=positions,
        )
        return hidden[:, :n_new]

    def _lineage(self, ancestors: Tensor, n_before: int) -> Tensor:
        """Which of all slots (B, K, S) the K newest tokens attend to: those of their ancestors and their own."""
        n_new = ancestors.shape[1]
        lineage = torch.zeros(*ancestors.shape[:2], n_before + n_new + 1, dtype=torch.bool, device=ancestors.device)
        lineage.scatter_(2, torch.where(ancestors < 0, n_before + n_new, ancestors), True)  # drop the last column
        itself = torch.arange(n_new, device=ancestors.device)
        lineage[:, itself, n_before + itself] = True
        return lineage[:, :, :-1]

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
