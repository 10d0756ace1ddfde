"""Texts -> token ids, piece by piece: Semantic IDs and bins are tokens already and never pass through a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from plum.errors import PlumError
from plum.lm.documents import tokenized
from plum.sid.codec import SID_OPENING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MANY_UNKNOWN = 0.2
"""Share of unknown tokens over which a vocabulary is too small for the texts."""
ENOUGH = 1000
"""Tokens after which that share is judged."""
_SPACE = "▁"


class Encoder:
    """Encodes texts with a tokenizer, so that none becomes a control token or a code.

    Args:
        tokenizer: extended by the tokens of codes and bins.
        bins: names of the bins' tokens.

    Attributes:
        tokens: token ids given so far.
        unknown: how many of them are the tokenizer's token for unknown text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, bins: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        names = {SID_OPENING, *bins, *(token for token in tokenizer.all_special_tokens if len(token) > 1)}
        self._control = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
        self._known: dict[str, np.ndarray] = {}
        self.tokens = self.unknown = 0
        # Such a tokenizer puts a space before every text: the text's own would be a second one.
        spelt = tokenizer.convert_ids_to_tokens(tokenized(tokenizer, ["a"])[0])
        self._adds_space = bool(spelt) and str(spelt[0]).startswith(_SPACE)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids (int32) of texts, without start and end.

        Raises:
            PlumError: if the tokenizer fails, or knows too little of the texts.
        """
        different = list(dict.fromkeys(texts))  # templates' words come again and again
        plain = [self._control.sub(_with_a_space, text) for text in different]
        if self._adds_space:
            plain = [text.removeprefix(" ") for text in plain]
        found = [np.asarray(ids, dtype=np.int32) for ids in tokenized(self._tokenizer, plain)] if plain else []
        self._count(different, found)
        ids_of = dict(zip(different, found, strict=True))
        return [ids_of[text] for text in texts]

    def literal(self, text: str) -> np.ndarray:
        """Token ids of a text of a template, remembered."""
        if text not in self._known:
            self._known[text] = self.encode([text])[0] if text else np.zeros(0, dtype=np.int32)
        return self._known[text]

    def _count(self, texts: Sequence[str], found: Sequence[np.ndarray]) -> None:
        self.tokens += sum(map(len, found))
        number = self._tokenizer.unk_token_id
        if number is None or number == self._tokenizer.eos_token_id:
            return
        self.unknown += sum(int((ids == number).sum()) for ids in found)
        if self.tokens >= ENOUGH and self.unknown > MANY_UNKNOWN * self.tokens:
            example = next(text for text, ids in zip(texts, found, strict=True) if (ids == number).any())
            raise PlumError(
                f"the vocabulary of {type(self._tokenizer).__name__} is too small for the texts",
                f"{self.unknown / self.tokens:.0%} of their tokens are unknown to it, as in {example[:80]!r}",
                "choose a cpt.base whose tokenizer knows the texts' language and script, or `scratch`",
            )


def _with_a_space(found: re.Match[str]) -> str:
    return f"{found[0][0]} {found[0][1:]}"
