"""Constrained beam search over Semantic IDs: catalogue items only, the prompt computed once, nothing copied.

All beams of a user stand side by side behind one cached prompt; a 4-D attention mask lets each see the prompt and its
own ancestors (tree attention). Logits are computed for the current level's codes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from plum.errors import PlumError
from plum.lm.logits import check_length, token_logits
from plum.sid.codec import Codec
from plum.sid.trie import Trie


@dataclass(frozen=True)
class DeviceTrie:
    """A trie's arrays and the codec's token ids as tensors on the model's device."""

    child_start: tuple[Tensor, ...]
    child_code: tuple[Tensor, ...]
    leaf_start: tuple[Tensor, ...]
    token_ids: tuple[Tensor, ...]
    n_leaves: int

    @classmethod
    def put(cls, trie: Trie, codec: Codec, device: torch.device) -> DeviceTrie:
        """Move a trie and its tokens to ``device``."""

        def tensors(arrays: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays)

        return cls(
            tensors(trie.child_start),
            tensors(trie.child_code),
            tensors(trie.leaf_start),
            tensors(codec.token_ids),
            trie.n_leaves,
        )


@dataclass(frozen=True)
class Prompts:
    """Prompts of a batch behind which beams grow.

    Attributes:
        cache: keys and values of the prompts, padded on the right to T tokens.
        lengths: (B,) tokens of each prompt.
        last_hidden: (B, D) hidden state of each prompt's last token.
        width: T.
    """

    cache: DynamicCache
    lengths: Tensor
    last_hidden: Tensor
    width: int


@torch.no_grad()
def beam_search(
    model: PreTrainedModel,
    prompts: Sequence[np.ndarray],
    trie: DeviceTrie,
    n_beams: int,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``n_beams`` best leaves of each prompt.

    A beam's score is the sum of log-probabilities of its codes, each normalised over all codes of its level. After
    fine-tuning the model puts next to nothing on other tokens, so this is the model's own log-probability of the
    Semantic ID at a small part of the cost. Ties go to the smaller code, beams in their order.

    Args:
        model: decoder-only, in evaluation mode.
        prompts: B arrays of token ids, none empty.
        trie: of the valid Semantic IDs.
        n_beams: K.
        allowed: (B, leaves) bool, which leaves a user may get; None for all.

    Returns:
        leaves (B, K) int64, best first, -1 where fewer are valid; scores (B, K) float32, -inf there.

    Raises:
        PlumError: if prompt and Semantic ID are longer together than the model takes.
    """
    check_length(model, max(len(prompt) for prompt in prompts) + len(trie.child_code))
    state = prefill(model, prompts)
    counts = _running_counts(allowed) if allowed is not None else None
    n_prompts, device = len(prompts), state.lengths.device
    nodes = torch.zeros(n_prompts, 1, dtype=torch.long, device=device)
    scores = torch.zeros(n_prompts, 1, device=device)
    lineage = torch.zeros(n_prompts, 1, 0, dtype=torch.bool, device=device)
    hidden = state.last_hidden[:, None]
    n_levels = len(trie.child_code)
    for level in range(n_levels):
        logp = token_logits(model, hidden, trie.token_ids[level]).log_softmax(-1)
        parents, nodes, scores = _grow(trie, level, logp, nodes, scores, counts, n_beams)
        if level + 1 < n_levels:
            codes = trie.child_code[level][nodes.clamp(min=0)]
            lineage = _extend_lineage(lineage, parents)
            hidden = _next_hidden(model, state, trie.token_ids[level][codes], lineage, level)
    missing = (0, n_beams - nodes.shape[1])
    return torch.nn.functional.pad(nodes, missing, value=-1), torch.nn.functional.pad(scores, missing, value=-torch.inf)


@torch.no_grad()
def prefill(model: PreTrainedModel, prompts: Sequence[np.ndarray]) -> Prompts:
    """Run the prompts once. Padding stands on the right, where causal attention does not look."""
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    width = int(lengths.max())
    tokens = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    # Told of the configuration, the cache would drop what sliding-window layers see no more; with padding on the right
    # that is the wrong part, so it keeps everything and the masks know the window.
    cache = DynamicCache()
    base: Any = model.base_model
    out = base(
        input_ids=torch.from_numpy(tokens).to(model.device), past_key_values=cache, use_cache=True
    ).last_hidden_state
    last = out[torch.arange(len(prompts), device=out.device), lengths - 1]
    return Prompts(cache, lengths, last, width)


def _running_counts(allowed: Tensor) -> Tensor:
    """(B, leaves + 1) int32: how many of the first i leaves are allowed, so that any range is one subtraction."""
    counts = torch.zeros(allowed.shape[0], allowed.shape[1] + 1, dtype=torch.int32, device=allowed.device)
    torch.cumsum(allowed, dim=1, dtype=torch.int32, out=counts[:, 1:])
    return counts


def _grow(
    trie: DeviceTrie,
    level: int,
    logp: Tensor,
    nodes: Tensor,
    scores: Tensor,
    counts: Tensor | None,
    n_beams: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best children of all beams.

    Args:
        logp: (B, K, C) log-probabilities of the level's codes.
        nodes: (B, K) node of each beam, -1 for none.
        scores: (B, K).
        counts: (B, leaves + 1) from ``_running_counts``, or None.

    Returns:
        parents (B, K') place of each child's beam, nodes (B, K') and scores (B, K'), 1 <= K' <= ``n_beams``.
    """
    start, code = trie.child_start[level], trie.child_code[level]
    alive = nodes >= 0
    first = start[nodes.clamp(min=0)]
    fan_out = torch.where(alive, start[nodes.clamp(min=0) + 1] - first, 0)
    places = torch.arange(max(1, int(fan_out.max())), device=nodes.device)  # 1: there is a place to be empty
    legal = places < fan_out[..., None]  # (B, K, F)
    children = torch.where(legal, first[..., None] + places, 0)
    if counts is not None:
        low, high = trie.leaf_start[level][children], trie.leaf_start[level][children + 1]
        flat = (children.shape[0], -1)
        inside = counts.gather(1, high.reshape(flat)) - counts.gather(1, low.reshape(flat))
        legal &= inside.reshape(children.shape) > 0
    candidate = scores[..., None] + logp.gather(2, code[children])
    candidate = candidate.masked_fill(~legal, -torch.inf).flatten(1)
    width = min(n_beams, candidate.shape[1])
    # A stable sort, since topk leaves the order of equal scores open.
    best, place = candidate.sort(dim=1, descending=True, stable=True)
    best, place = best[:, :width], place[:, :width]
    new_nodes = children.flatten(1).gather(1, place).masked_fill(best == -torch.inf, -1)
    return place // len(places), new_nodes, best


def _extend_lineage(lineage: Tensor, parents: Tensor) -> Tensor:
    """Which earlier beam tokens each new beam token sees.

    Args:
        lineage: (B, K, S) bool of the beams before, over the S beam tokens cached so far.
        parents: (B, K') place of each new beam's parent.

    Returns:
        (B, K', S + K'): the parent's ancestors and itself among S, and the token itself among the K' new ones.
    """
    n_new = parents.shape[1]
    inherited = lineage.gather(1, parents[..., None].expand(-1, -1, lineage.shape[2]))
    itself = torch.eye(n_new, dtype=torch.bool, device=parents.device).expand(len(parents), -1, -1)
    return torch.cat([inherited, itself], dim=2)


def _next_hidden(model: PreTrainedModel, state: Prompts, tokens: Tensor, lineage: Tensor, level: int) -> Tensor:
    """Hidden states (B, K, D) of one new token (B, K) per beam."""
    positions = (state.lengths[:, None] + level).expand(-1, tokens.shape[1])
    base: Any = model.base_model
    return base(
        input_ids=tokens,
        past_key_values=state.cache,
        attention_mask=_masks(model, state, positions, lineage),
        position_ids=positions,
        use_cache=True,
    ).last_hidden_state


def _masks(model: PreTrainedModel, state: Prompts, positions: Tensor, lineage: Tensor) -> Tensor | dict[str, Tensor]:
    """Additive attention masks (B, 1, K, T + S) of the beams' new tokens, by kind of layer if there are several.

    A sliding window hides the prompt's older tokens; it is wider than a Semantic ID, so never an ancestor.
    """
    places = torch.arange(state.width, device=positions.device)
    distance = positions[..., None] - places  # (B, K, T)
    in_prompt = (places < state.lengths[:, None])[:, None].expand_as(distance)
    config = model.config.get_text_config()
    window: Any = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"])
    masks = {}
    for kind in kinds:
        seen = in_prompt & (distance < window) if kind == "sliding_attention" else in_prompt
        hidden = ~torch.cat([seen, lineage], dim=2)
        mask = torch.zeros(hidden.shape, dtype=model.dtype, device=positions.device)
        masks[kind] = mask.masked_fill(hidden, torch.finfo(model.dtype).min)[:, None]
    return masks if len(masks) > 1 else masks.popitem()[1]


@torch.no_grad()
def check_tree_attention(model: PreTrainedModel) -> None:
    """Make sure that beams side by side give what each gives alone, by growing a few and recomputing them.

    Raises:
        PlumError: for an architecture without a plain attention cache, or one that ignores a mask of ours.
    """
    was_training = model.training
    model.eval()
    n_tokens = model.config.get_text_config().vocab_size
    prompts = [np.array([1, 2]) % n_tokens, np.array([3, 4, 5, 6, 7]) % n_tokens]
    grown = torch.tensor([[8, 9], [10, 11]], device=model.device) % n_tokens  # (steps, beams)
    parents = torch.tensor([[1, 0]] * 2, device=model.device)
    base: Any = model.base_model
    try:
        state = prefill(model, prompts)
        lineage = torch.eye(2, dtype=torch.bool, device=model.device).expand(2, -1, -1)
        _next_hidden(model, state, grown[[0, 0]], lineage, 0)
        found = _next_hidden(model, state, grown[[1, 1]], _extend_lineage(lineage, parents), 1)
        alone = [
            [*prompt.tolist(), int(grown[0, parent]), int(last)]
            for prompt in prompts
            for parent, last in zip(parents[0], grown[1], strict=True)
        ]
        rows = [base(input_ids=torch.tensor([ids], device=model.device), use_cache=False) for ids in alone]
        expected = torch.stack([row.last_hidden_state[0, -1] for row in rows]).reshape(found.shape)
        difference = float((found - expected).abs().max() / expected.abs().max())
        reason = f"hidden states differ by {difference:.2g} of their size"
    except Exception as error:  # an architecture of another kind raises whatever it raises
        difference, reason = float("inf"), f"{type(error).__name__}: {error}"
    model.train(was_training)
    if not difference < (1e-3 if model.dtype == torch.float32 else 5e-2):
        raise PlumError(
            f"beams cannot be decoded side by side with {type(model).__name__}",
            reason.splitlines()[0],
            "use a decoder-only model with an attention cache (Llama, Qwen, Gemma, GPT-2, Mistral ...)",
        )
