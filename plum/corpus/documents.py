"""Documents of token ids: what opens and closes them, and how one that is too long becomes several.

Every document starts with the tokenizer's start token, if it has one, and is closed by its end token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from plum.errors import PlumError

NO_TOKENS = np.zeros(0, dtype=np.int32)
SHORT_TEXT = 200
"""Characters of a text that is one unit; a longer one is a unit per sentence."""
# Where a sentence ends: what follows keeps the blank before it, so that pieces are spelt as in the whole text.
_SENTENCE = re.compile(r"(?<=[.!?])(?=\s)|(?<=[。！？])|(?<=\S)(?=\s*\n)")


class Document(NamedTuple):
    """One document.

    Attributes:
        tokens: (n,) int32, with its start and end.
        cuts: (c,) int32 places, rising, between which lie its units: it may be cut there, and only there.
        head: tokens at its start that belong to every part of it.
        owner: row of the user or item that it is about; -1 for general text.
        fact: what it tells, such as ``title_to_sid``; blank for other kinds than metadata.
    """

    tokens: np.ndarray
    cuts: np.ndarray
    head: int
    owner: int
    fact: str = ""


@dataclass(frozen=True)
class Draft:
    """A document in parts, as token ids without start and end.

    Attributes:
        head: what every part of a cut document begins with.
        units: what must stay whole, such as items; parts take as many as fit.
        tail: what every part ends with.
        owner, fact: as in ``Document``.
        divisible: whether a unit that alone is too long may be cut anywhere, as general text may.
    """

    head: np.ndarray
    units: Sequence[np.ndarray]
    tail: np.ndarray
    owner: int
    fact: str = ""
    divisible: bool = True


@dataclass(frozen=True)
class Frame:
    """What is common to all documents.

    Attributes:
        start: token id before each document, or None.
        end: token id after it.
        longest: tokens of a document at most, with these.
    """

    start: int | None
    end: int
    longest: int

    @property
    def opening(self) -> np.ndarray:
        """The start as an array of none or one."""
        return NO_TOKENS if self.start is None else np.array([self.start], dtype=np.int32)

    def fit(self, draft: Draft) -> Iterator[Document]:
        """A draft as one document, or as several whose units don't fit into one.

        Raises:
            PlumError: if a unit that must stay whole is longer than a document may be.
        """
        head = np.concatenate([self.opening, draft.head]).astype(np.int32)
        room = self.longest - len(head) - len(draft.tail) - 1
        units = list(self._whole(draft, room))
        first, used = 0, 0
        for place, unit in enumerate(units):
            if used + len(unit) > room:
                yield self._document(head, units[first:place], draft, last=False)
                first, used = place, 0
            used += len(unit)
        if units[first:] or len(draft.head) or len(draft.tail):
            yield self._document(head, units[first:], draft, last=True)

    def _whole(self, draft: Draft, room: int) -> Iterator[np.ndarray]:
        """The units, those that are too long cut into parts that fit."""
        longest = max(map(len, draft.units), default=0)
        if room < min(1, longest) or (longest > room and not draft.divisible):
            needed = self.longest - room + longest
            raise PlumError(
                "a document is longer than the context, and can't be cut without cutting a Semantic ID or its template",
                f"{needed:,} tokens at least, cpt.context_length is {self.longest:,}",
                "raise cpt.context_length, or shorten the template (cpt.corpus) or its text_tokens",
            )
        for unit in draft.units:
            yield from (unit[start : start + room] for start in range(0, len(unit), room))

    def _document(self, head: np.ndarray, units: Sequence[np.ndarray], draft: Draft, last: bool) -> Document:
        tail = draft.tail if last or len(draft.tail) else NO_TOKENS
        # A history or text that goes on in the next part has not ended.
        closing = [self.end] if last or len(draft.tail) else []
        tokens = np.concatenate([head, *units, tail, closing]).astype(np.int32)
        cuts = NO_TOKENS
        if len(units) > 1 and not len(draft.tail):
            cuts = (len(head) + np.cumsum([len(unit) for unit in units[:-1]])).astype(np.int32)
        return Document(tokens, cuts, len(head), draft.owner, draft.fact)


def sentences(text: str) -> list[str]:
    """A text in sentences, whose concatenation it is; a short one is one sentence."""
    if len(text) <= SHORT_TEXT:
        return [text] if text else []
    return [part for part in _SENTENCE.split(text) if part]
