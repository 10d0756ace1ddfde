"""Semantic IDs of the catalogue from ``generate`` of transformers: a mask over the vocabulary at every step.

It serves users of ``generate`` with greedy decoding, sampling or beam search. ``plum.decoding.beam`` finds the same as
that beam search, without logits of the whole vocabulary and without a cache that moves with the beams.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from plum.decoding.constraint import Children, Index, Legal
from plum.errors import PlumError

NAMED = 10  # users named in a message


class SidLogitsProcessor(LogitsProcessor):
    """Restricts ``generate`` to one Semantic ID of the catalogue after each prompt.

    ::

        processor = SidLogitsProcessor(index, prompt_length=input_ids.shape[1])
        model.generate(
            input_ids, attention_mask=mask, logits_processor=[processor], max_new_tokens=len(index.sizes), num_beams=20
        )

    Every step writes a mask as large as the logits, (rows, V), and ``generate`` computes the logits of all V tokens;
    the beam search of this project does neither. Every step walks the index from the root, so rows may change places
    between steps. It synchronises with the device at the first step, and at steps where a code leads only to items
    that a user has seen.

    How to use it with ``generate``:

    - Without ``eos_token_id``, set ``max_new_tokens`` = L: a step after L codes is refused. With it, only EOS may
      follow, so that ``max_new_tokens`` may exceed L.
    - If a user has fewer legal Semantic IDs than beams, beam search fills the list with scores of about -1e9
      (repetitions) and -inf (rows without a Semantic ID). Only scores above -1e8 are results. A row that can't lead
      to a legal item keeps one token, because normalising a row of -inf would give NaN; its own score stays -inf.
    - A probability is over the vocabulary, as in ``Scoring("vocabulary")``; with ``renormalize_logits=True`` over the
      legal codes, as in ``Scoring("legal")``.
    - Sampling keeps the 50 likeliest codes, unless ``top_k=0``.

    Args:
        index: ``DeviceTrie`` of the valid Semantic IDs, on the model's device.
        prompt_length: tokens of the padded prompts (padding on the left), or 0 for prompts given as ``inputs_embeds``.
            Tokens after it are codes; a prompt may continue with the first codes of a Semantic ID, not counted here.
        legal: items that each of B users may get, from ``DeviceTrie.legal``; None for all items. The rows of a user
            must be adjacent, as in ``generate``: B x beams, or B x ``num_return_sequences`` when it samples.
        eos_token_id: the only token that may follow a Semantic ID.

    Raises:
        ValueError: for a negative ``prompt_length`` or ``eos_token_id``. When called: for input shorter than
            ``prompt_length``, a number of rows that is not a multiple of the users, or a step after a complete Semantic
            ID without ``eos_token_id``.
        PlumError: when called: at the first step if nothing is legal for a user (a row of -inf would crash sampling and
            give greedy and beam search an arbitrary token); or if the model lacks tokens of the codes.
    """

    supports_continuous_batching = False

    def __init__(
        self, index: Index, prompt_length: int, legal: Legal | None = None, eos_token_id: int | None = None
    ) -> None:
        if prompt_length < 0:
            raise ValueError(f"prompt_length must be at least 0, found {prompt_length}")
        if eos_token_id is not None and eos_token_id < 0:
            raise ValueError(f"eos_token_id must be at least 0, found {eos_token_id}")
        self._index = index
        self._prompt_length = prompt_length
        self._legal = legal
        self._n_users = 1 if legal is None else len(legal.row)
        self._eos_token_id = eos_token_id
        self._codes_by_token = tuple(ids.sort() for ids in index.token_ids)
        highest = max(int(tokens[-1]) for tokens, _ in self._codes_by_token)
        self._n_tokens = 1 + max(highest, eos_token_id or 0)
        self._checked = False

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, V) of the next token, -inf for all but legal ones, after tokens (rows, T)."""
        level = input_ids.shape[1] - self._prompt_length
        self._check(input_ids, scores, level)
        if level >= len(self._index.sizes):
            ends = input_ids.new_full((len(input_ids), 1), self._eos_token_id or 0)
            return _only(scores, ends, torch.ones_like(ends, dtype=torch.bool))
        tokens = input_ids[:, self._prompt_length :]
        nodes = self._walk(tokens.reshape(self._n_users, len(tokens) // self._n_users, level))
        children = self._index.children(level, nodes, self._legal)
        exist = _exist(children) & (nodes >= 0)[..., None]
        self._check_start(exist, input_ids.shape[1])
        exist[..., 0] |= ~exist.any(2)
        token_ids = self._index.token_ids[level]
        following = token_ids.expand(exist.shape) if children.codes is None else token_ids[children.codes]
        return _only(scores, following.flatten(0, 1), exist.flatten(0, 1))

    def _walk(self, tokens: Tensor) -> Tensor:
        """Nodes (B, K) reached from the root by tokens (B, K, n); -1 for those that leave the index."""
        nodes = torch.zeros(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        for level, token in enumerate(tokens.unbind(2)):
            known, code_of = self._codes_by_token[level]
            place = torch.searchsorted(known, token.contiguous()).clamp(max=len(known) - 1)
            on_index = (known[place] == token) & (nodes >= 0)
            children = self._index.children(level, nodes, None)
            codes = children.codes
            if codes is None:
                codes = torch.arange(children.nodes.shape[2], device=nodes.device)
            found = _exist(children) & on_index[..., None] & (codes == code_of[place][..., None])
            hit, child = found.int().max(2)
            nodes = children.nodes.gather(2, child[..., None])[..., 0].long().masked_fill(hit == 0, -1)
        return nodes

    def _check(self, input_ids: Tensor, scores: Tensor, level: int) -> None:
        n_rows, width = input_ids.shape
        if level < 0:
            raise ValueError(f"prompt_length is {self._prompt_length}, but the input has only {width} tokens")
        if n_rows % self._n_users:
            raise ValueError(f"{n_rows} rows can't be divided equally among the {self._n_users} users of `legal`")
        if scores.shape[1] < self._n_tokens:
            raise PlumError(
                "the model lacks tokens of the Semantic IDs",
                f"{scores.shape[1]:,} tokens in the model, the highest one needed is {self._n_tokens - 1}",
                "use model and vocabulary of the same run",
            )
        if level >= len(self._index.sizes) and self._eos_token_id is None:
            raise ValueError(
                f"{level + 1} tokens requested after the prompt, a Semantic ID has {len(self._index.sizes)}: "
                f"set max_new_tokens to {len(self._index.sizes)}, or give eos_token_id"
            )

    def _check_start(self, exist: Tensor, width: int) -> None:
        """Check that every prompt can be continued. At later steps, ``generate`` drops beams that can't."""
        if self._checked:
            return
        stuck = (~exist.any(2)).nonzero()[:, 1 if self._legal is None else 0].unique().tolist()
        if stuck:
            who = "rows" if self._legal is None else "users"
            names = ", ".join(map(str, stuck[:NAMED])) + (f" and {len(stuck) - NAMED} more" if stuck[NAMED:] else "")
            raise PlumError(
                f"no item can be generated for {who} {names} of the batch",
                f"prompt_length {self._prompt_length}, {width} tokens at the first step",
                "leave each user a legal item, and set prompt_length to the number of tokens of the padded prompts",
            )
        self._checked = True


def _exist(children: Children) -> Tensor:
    """Which places (B, K, F) hold a child."""
    return torch.ones_like(children.nodes, dtype=torch.bool) if children.legal is None else children.legal


def _only(scores: Tensor, tokens: Tensor, kept: Tensor) -> Tensor:
    """Scores (rows, V) with -inf for all but those of ``tokens`` (rows, F) which are ``kept`` (rows, F)."""
    values = scores.gather(1, tokens).masked_fill(~kept, -torch.inf)
    # The maximum, because a place that is not kept may hold the same token as one that is.
    return torch.full_like(scores, -torch.inf).scatter_reduce(1, tokens, values, "amax")
