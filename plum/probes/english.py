"""What a model knows of general text, before and after it learns about items."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.lm.english import cloze, draw_gaps, halves, text_bits
from plum.lm.ngrams import ByteNgrams
from plum.probes.tasks import Figures


class English:
    """Bits per character of a text, and last words of its sentences guessed.

    The text's second half is measured, as by ``plum base measure``; beside it are n-grams of bytes counted on the first
    half, and the most frequent last word. Costs a pass over the characters and over the contexts of the gaps.

    Args:
        tokenizer: of the model; Semantic IDs in its vocabulary don't count.
        text: general text.
        characters: of the second half, for the bits.
        gaps: last words to be guessed.
        seed: draws them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str, characters: int, gaps: int, seed: int) -> None:
        before, self._text = halves(text)
        self._tokenizer, self._limit = tokenizer, characters
        self._gaps = draw_gaps(self._text, gaps, seed)
        drawn = self._gaps.drawn
        usual = sum(gap.word == self._gaps.usual for gap in drawn) / len(drawn) if drawn else None
        counted = ByteNgrams(before).bits_per_character(self._text[:characters])
        self.references: Mapping[str, Figures] = {
            "n-gram": {"bits_per_character": counted, "cloze": None},
            "usual word": {"bits_per_character": None, "cloze": usual},
        }

    def measure(self, model: PreTrainedModel) -> Figures:
        """``bits_per_character`` and ``cloze``, the share of words guessed; null without a gap."""
        bits = text_bits(model, self._tokenizer, self._text, limit=self._limit)
        guessed = cloze(model, self._tokenizer, self._gaps).accuracy if self._gaps.drawn else None
        return {"bits_per_character": bits.bits_per_character, "cloze": guessed}
