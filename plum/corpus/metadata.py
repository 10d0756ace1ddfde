"""Items as documents: one sentence per fact, in a template drawn by the seed (PLUM section 2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from plum.config.templates import SID, Template
from plum.corpus.documents import NO_TOKENS, Draft, sentences
from plum.corpus.encoder import Encoder
from plum.corpus.fields import as_text, usable


@dataclass(frozen=True)
class Sentence:
    """A fact about an item.

    Attributes:
        owner: the item's row.
        fact: the name of its templates.
        pieces: texts, and None where the Semantic ID stands.
        longest: which piece, the longest text, may be cut where the whole is too long.
    """

    owner: int
    fact: str
    pieces: tuple[str | None, ...]
    longest: int

    @property
    def text(self) -> str:
        """The sentence without the Semantic ID."""
        return "".join(piece or "" for piece in self.pieces)


def facts(
    rows: Sequence[int],
    columns: Mapping[str, Sequence[object]],
    templates: Mapping[str, Sequence[Template]],
    seed: int,
) -> Iterator[Sentence]:
    """The facts about some items, each in one template of its name.

    Args:
        rows: of the N items.
        columns: field -> N values; missing values and blank text are no facts.
        templates: name -> templates of one fact.
        seed: draws the templates; an item's depend on its row and the name only.
    """
    texts = {name: [as_text(value) for value in values] for name, values in columns.items()}
    for place, row in enumerate(rows):
        there = {name: values[place] for name, values in texts.items() if values[place]}
        for fact, forms in templates.items():
            if not (fit := usable(forms, there)):
                continue
            # Mixed by hand: a generator per item and fact would take most of the time.
            drawn = crc32(f"{seed} {row} {fact}".encode()) % len(fit)
            yield _sentence(int(row), fact, forms[fit[drawn]], there)


def _sentence(row: int, fact: str, template: Template, values: Mapping[str, str]) -> Sentence:
    """A template filled in; blanks beside the Semantic ID's token are no part of the text before it."""
    pieces: list[str | None] = []
    text, most = "", 0
    longest = 0
    for before, name in template.parts:
        if name == SID:
            pieces += [text + before.rstrip() if (text + before).strip() else "", None]
            text = ""
        elif len(values[name]) > most:
            pieces += [text + before.rstrip(), _spaced(before) + values[name]]
            most, longest, text = len(values[name]), len(pieces) - 1, ""
        else:
            text += before + values[name]
    pieces.append((text + template.tail).rstrip())
    return Sentence(row, fact, tuple(pieces), longest)


def _spaced(before: str) -> str:
    """The blank with which a text goes on after ``before``."""
    return " " if before[-1:].isspace() else ""


def drafts(found: Sequence[Sentence], sids: np.ndarray, encoder: Encoder) -> Iterator[Draft]:
    """Facts as drafts of documents.

    Args:
        found: facts.
        sids: (N, L) token ids of each item's Semantic ID.
        encoder: of texts.
    """
    split = [_units(sentence) for sentence in found]
    pieces = encoder.encode([text for parts in split for part in parts for text in part if isinstance(text, str)])
    ids = iter(pieces)
    for sentence, parts in zip(found, split, strict=True):
        head, units, tail = (
            [next(ids) if isinstance(text, str) else sids[sentence.owner] for text in part] for part in parts
        )
        yield Draft(_joined(head), units, _joined(tail), sentence.owner, sentence.fact)


def _units(sentence: Sentence) -> tuple[list[str | None], list[str], list[str | None]]:
    """What stands before, in and after the text that may be cut."""
    place = sentence.longest
    before, text, after = sentence.pieces[:place], sentence.pieces[place], sentence.pieces[place + 1 :]
    return [piece for piece in before if piece != ""], sentences(text or ""), [piece for piece in after if piece != ""]


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([NO_TOKENS, *parts]).astype(np.int32)
