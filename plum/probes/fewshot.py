"""Few-shot prompts over Semantic IDs: some items with their texts, then one whose text the model is to write.

PLUM (section 2.2) shows that a pre-trained model completes such prompts after continued pre-training, and that one
trained from random weights does not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.probes.answers import completions
from plum.probes.neighbours import nearest_by_sid
from plum.probes.prompts import Encode, Piece, pieces, shown
from plum.probes.tasks import ItemTexts


@dataclass(frozen=True)
class Shot:
    """A prompt and what came of it.

    Attributes:
        lines: of the prompt; the last one is open.
        completion: the model's first line after it.
        truth: the open item's text.
        copied: the text of the known item nearest in Semantic ID.
    """

    lines: Sequence[str]
    completion: str
    truth: str
    copied: str


@dataclass(frozen=True)
class FewShot:
    """Prompts of ``k`` known items and an open one each, drawn by the seed.

    Attributes:
        template: of a line, with ``{sid}`` and then the field that ``asked`` and ``known`` have.
        field: its name.
        asked: the open items.
        known: the others; at least one.
        encode: makes token ids of pieces.
        names: the Semantic IDs of the catalogue in text form.
        k: known items before the open one; fewer if there are fewer.
        seed: of the draw.
    """

    template: str
    field: str
    asked: ItemTexts
    known: ItemTexts
    encode: Encode
    names: Sequence[str]
    k: int
    seed: int

    def lines(self) -> list[list[list[Piece]]]:
        """The lines of each prompt, in pieces."""
        rng = np.random.default_rng(self.seed)
        known, found = self.known, []
        for row, text in zip(self.asked.rows, self.asked.texts, strict=True):
            drawn = rng.choice(len(known.texts), min(self.k, len(known.texts)), replace=False)
            told = [pieces(self.template, int(known.rows[i]), known.texts[i]) for i in drawn]
            found.append([*told, pieces(self.template, int(row), text, until=self.field)])
        return found

    def complete(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, most: int, ends: Collection[int]
    ) -> list[Shot]:
        """The prompts with a model's completions of at most ``most`` tokens."""
        every = self.lines()
        prompts = self.encode([_joined(lines) for lines in every])
        found = completions(model, tokenizer, prompts, most, ends, batch_size=1)
        copied = [self.known.texts[row] for row in nearest_by_sid(self.known.codes, self.asked.codes)]
        return [
            Shot([shown(line, self.names) for line in lines], text, truth, copy)
            for lines, text, truth, copy in zip(every, found, self.asked.texts, copied, strict=True)
        ]


def _joined(lines: Sequence[Sequence[Piece]]) -> list[Piece]:
    """The pieces of lines, one below the other."""
    found = list(lines[0])
    for line in lines[1:]:
        found += ["\n", *line]
    return found
