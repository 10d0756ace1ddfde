"""Counted n-grams of bytes: what a language model's bits per character are compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LONGEST = 5
"""Bytes of the longest context; more don't help on texts of some megabytes."""


class _Level(NamedTuple):
    """Counts of one length of contexts.

    Attributes:
        grams: (G,) uint64, context and next byte as one number, ascending.
        counts: (G,) how often each was seen.
        contexts: (C,) uint64, ascending.
        totals: (C,) how often each context was seen.
        kinds: (C,) how many different bytes followed it.
    """

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


class ByteNgrams:
    """Probability of the next byte, interpolated over all lengths of context.

    Witten-Bell smoothing (Witten and Bell 1991, method C): p_k(x) = (n(h x) + d(h) p_{k-1}(x)) / (n(h) + d(h)), with
    n the counts, d(h) the number of different bytes seen after h, and 1/256 below the shortest context. Probabilities
    are of UTF-8, so bits per character of any text are exact.

    Args:
        text: that is counted.
        longest: bytes of the longest context, at most 7.
    """

    def __init__(self, text: str, longest: int = LONGEST) -> None:
        data = _bytes(text)
        self._levels = [_counted(_grams(data, length)) for length in range(longest + 1)]

    def bits_per_character(self, text: str) -> float:
        """Bits for a text, from its first byte on, over its characters; NaN if it is empty."""
        return float(self.bits(text).sum() / len(text)) if text else float("nan")

    def bits(self, text: str) -> np.ndarray:
        """Bits (B,) for each of a text's B bytes."""
        data = _bytes(text)
        probability = np.full(len(data), 1 / 256)
        for length, level in enumerate(self._levels):
            grams = _grams(data, length)
            if not len(grams):
                break
            seen = _looked_up(level.grams, level.counts, grams)
            totals = _looked_up(level.contexts, level.totals, grams >> np.uint64(8))
            kinds = _looked_up(level.contexts, level.kinds, grams >> np.uint64(8))
            lower = probability[length:]
            known = totals > 0
            mixed = (seen[known] + kinds[known] * lower[known]) / (totals[known] + kinds[known])
            lower[known] = mixed
        return -np.log2(probability)


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def _grams(data: np.ndarray, length: int) -> np.ndarray:
    """Each byte that has ``length`` bytes before it, with them as one number (B - length,) uint64."""
    n = max(0, len(data) - length)
    grams = np.zeros(n, dtype=np.uint64)
    for place in range(length + 1):
        grams = (grams << np.uint64(8)) | data[place : place + n]
    return grams


def _counted(grams: np.ndarray) -> _Level:
    known, counts = np.unique(grams, return_counts=True)
    contexts, starts, kinds = np.unique(known >> np.uint64(8), return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, starts) if len(starts) else counts
    return _Level(known, counts, contexts, totals, kinds)


def _looked_up(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each key asked for; 0 if it is unknown."""
    if not len(keys):
        return np.zeros(len(asked), dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0)
