"""Codes <-> tokens: each code of each level is one token of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SID_OPENING = "<|sid_"
"""How every code's token starts."""


def sid_tokens(sizes: Sequence[int]) -> list[str]:
    """Token strings of all codes, level by level. Example: sizes (2, 1) -> <|sid_0_0|>, <|sid_0_1|>, <|sid_1_0|>."""
    return [f"<|sid_{level}_{code}|>" for level, size in enumerate(sizes) for code in range(size)]


@dataclass(frozen=True)
class Codec:
    """Maps Semantic IDs to token ids.

    Attributes:
        token_ids: one array (C,) of token ids per level, indexed by code.
    """

    token_ids: tuple[np.ndarray, ...]

    @classmethod
    def from_vocabulary(cls, sizes: Sequence[int], vocabulary: dict[str, int]) -> Codec:
        """Look up the codes' tokens in a tokenizer's vocabulary.

        Raises:
            KeyError: if the vocabulary was not extended with these codes.
        """
        tokens = iter(sid_tokens(sizes))
        return cls(tuple(np.array([vocabulary[next(tokens)] for _ in range(size)], dtype=np.int64) for size in sizes))

    @property
    def n_levels(self) -> int:
        """L, tokens of one item."""
        return len(self.token_ids)

    def encode(self, codes: np.ndarray) -> np.ndarray:
        """Token ids (N, L) of codes (N, L)."""
        return np.stack([ids[codes[:, level]] for level, ids in enumerate(self.token_ids)], axis=1)

    def text(self, codes: Sequence[int]) -> str:
        """The token strings of one SID, as in documents."""
        return "".join(f"<|sid_{level}_{code}|>" for level, code in enumerate(codes))
