"""How much one text says of another: the F1 of their words, and the best that one text for all could reach."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation.

    Example: ``"Heat (1995)"`` -> heat, 1995.
    """
    return _WORD.findall(text.lower())


def token_f1(found: str, truth: str) -> float:
    """F1 of the words of a text against those of the truth, counted as often as they occur (SQuAD, Rajpurkar 2016).

    1 if neither has a word, 0 if only one has.

    Example: ``"the heat"`` against ``"Heat (1995)"`` shares one of two words and one of two: 0.5.
    """
    return _f1(Counter(words_of(found)), Counter(words_of(truth)))


def _f1(found: Counter[str], truth: Counter[str]) -> float:
    if not found or not truth:
        return float(found == truth)
    shared = (found & truth).total()
    return 2 * shared / (found.total() + truth.total())


def best_constant(texts: Sequence[str], limit: int, seed: int) -> str:
    """The text with the highest mean F1 to the others: the best guess for an item of which nothing is known.

    Args:
        texts: at least one.
        limit: at most this many are compared with each other, drawn by the seed.
        seed: of the draw.

    Returns:
        One of them; the first of several that are equally good.
    """
    if len(texts) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(len(texts), limit, replace=False))
        texts = [texts[row] for row in rows]
    bags = Counter(texts)
    counted = {text: Counter(words_of(text)) for text in bags}
    # A text's F1 with itself counts as often as it occurs, but for once.
    means = {
        text: sum(times * _f1(counted[text], counted[other]) for other, times in bags.items()) - 1.0 for text in bags
    }
    return max(means, key=lambda text: means[text])
