"""Users' histories as documents: ``wh =`` and the items, each in a template (PLUM section 2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plum.config.templates import SID, Template
from plum.corpus.bins import MISSING
from plum.corpus.documents import NO_TOKENS, Draft
from plum.corpus.encoder import Encoder


@dataclass(frozen=True)
class Texts:
    """N short texts as token ids, side by side.

    Attributes:
        tokens: (sum of lengths,) int32.
        offsets: (N+1,) int64, where each begins.
    """

    tokens: np.ndarray
    offsets: np.ndarray

    @classmethod
    def joined(cls, found: Sequence[np.ndarray]) -> Texts:
        """Put texts side by side."""
        lengths = [len(ids) for ids in found]
        return cls(np.concatenate([NO_TOKENS, *found]).astype(np.int32), np.cumsum([0, *lengths]))

    def __getitem__(self, row: int) -> np.ndarray:
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True)
class BinField:
    """A number in a template.

    Attributes:
        bins: (E,) the bin of each interaction; ``MISSING`` for none.
        token_ids: (K,) of the bins' tokens.
    """

    bins: np.ndarray
    token_ids: np.ndarray


@dataclass(frozen=True)
class TextField:
    """A text in a template.

    Attributes:
        texts: the different ones; an empty one is missing.
        rows: (E,) which of them each interaction has.
    """

    texts: Texts
    rows: np.ndarray


Field = BinField | TextField


class ItemForm:
    """What stands for an interaction: its template, filled in with tokens.

    Args:
        template: names the fields, in order.
        sids: (N, L) int64 token ids of each item's Semantic ID.
        fields: those that the data have; others are left out.
        encoder: of the template's own words.
    """

    def __init__(self, template: Template, sids: np.ndarray, fields: Mapping[str, Field], encoder: Encoder) -> None:
        self._sids = sids.astype(np.int32)
        # Blanks before a token are no tokens; before a text, they are part of it already.
        self._parts = [
            (encoder.literal(before.rstrip()) if before.strip() else NO_TOKENS, None if name == SID else fields[name])
            for before, name in template.parts
            if name == SID or name in fields
        ]
        self._tail = encoder.literal(template.tail.rstrip()) if template.tail.strip() else NO_TOKENS
        self._is_bare = len(self._parts) == 1 and not len(self._parts[0][0]) and not len(self._tail)

    def unit(self, item: int, place: int) -> np.ndarray:
        """Token ids of an interaction.

        Args:
            item: its item's row.
            place: its place among the E interactions.
        """
        if self._is_bare:
            return self._sids[item]
        found = []
        for words, field in self._parts:
            value = self._sids[item] if field is None else _value(field, place)
            if len(value):
                found += [words, value]
        return np.concatenate([*found, self._tail])


def _value(field: Field, place: int) -> np.ndarray:
    if isinstance(field, BinField):
        number = field.bins[place]
        return NO_TOKENS if number == MISSING else field.token_ids[number : number + 1]
    return field.texts[field.rows[place]]


def drafts(
    histories: Sequence[np.ndarray], kept: np.ndarray, form: ItemForm, opening: np.ndarray, max_history: int
) -> Iterator[Draft]:
    """Histories as drafts of documents, cut into windows.

    Args:
        histories: of U users, item rows, oldest first; all together they are the E interactions.
        kept: (U,) bool, whose are wanted.
        form: what stands for an interaction.
        opening: token ids before the first item, without a start token.
        max_history: items of a window at most.
    """
    first = 0
    for user, history in enumerate(histories):
        for start in range(0, len(history) if kept[user] else 0, max_history):
            window = history[start : start + max_history]
            units = [form.unit(item, first + start + place) for place, item in enumerate(window.tolist())]
            yield Draft(opening, units, NO_TOKENS, user, divisible=False)
        first += len(history)
