"""A counted reference for the loss of a language model: interpolated n-grams over items' codes and over words.

Every order is interpolated with the one below it by Witten and Bell's rule (1991, IEEE Transactions on Information
Theory 37(4), method C): p(s | h) = (n(h, s) + T(h) p(s | shorter h)) / (n(h) + T(h)), where n counts and T(h) is the
number of different symbols seen after h. It has no setting.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plum.probes.losses import TEXT, Tokens, stream
from plum.sid.codec import Codec


def ngram_losses(trained: Sequence[np.ndarray], asked: Sequence[np.ndarray], codec: Codec, n_tokens: int) -> np.ndarray:
    """The loss of every predicted token of documents, by counts over others.

    A code of level l is predicted among its level's codes: by how often it occurs, after the item's earlier codes, and
    after these and the item before it in the document (unigram and bigram over items). Another token is predicted
    among all tokens: by how often it occurs, and after the token before it. The model is not told whether a code or a
    word comes next; this reference is, which favours it.

    Args:
        trained: token ids of the documents that are counted. A Semantic ID in a document is whole, but for a last one.
        asked: those whose loss is asked.
        codec: the codes' tokens.
        n_tokens: V, size of the vocabulary.

    Returns:
        (P',) float32 nats, of the tokens that have one before them in their document.

    Raises:
        ValueError: if a code does not follow the code of the level above.
    """
    tokens = stream([*trained, *asked], codec)
    counted = tokens.documents < len(trained)
    losses = np.zeros(len(tokens.ids), dtype=np.float64)
    before = np.r_[-1, tokens.ids[:-1]][: len(tokens.ids)]
    text = tokens.levels == TEXT
    wanted = text & tokens.predicted  # a first token has nothing before it: it is not counted either
    losses[wanted] = _nats([before[wanted]], tokens.ids[wanted], n_tokens, counted[wanted])
    prefix, previous = _item_contexts(tokens, codec.n_levels)
    for level, row in enumerate(codec.token_ids):
        here = tokens.levels == level
        chain = [_joined(prefix[here], previous[here])]
        losses[here] = _nats([prefix[here], *chain] if level else chain, tokens.ids[here], len(row), counted[here])
    return losses[~counted & tokens.predicted].astype(np.float32)


def _item_contexts(tokens: Tokens, n_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """For each token that is a code: a number (P,) of its item's earlier codes, and one (P,) of the item before it.

    0 is the number where there is no item before it.
    """
    prefix = np.zeros(len(tokens.ids), dtype=np.int64)
    for level in range(1, n_levels + 1):
        after = np.flatnonzero(tokens.levels == level - 1) + 1  # after the last level, the item is complete
        if level < n_levels:
            codes = np.flatnonzero(tokens.levels == level)
            if not np.isin(codes, after).all() or (tokens.documents[codes] != tokens.documents[codes - 1]).any():
                raise ValueError(f"a code of level {level} does not follow one of level {level - 1}")
            prefix[codes] = _joined(prefix[codes - 1], tokens.ids[codes - 1]) + 1
    ends = np.flatnonzero(tokens.levels == n_levels - 1)
    whole = np.zeros(len(tokens.ids), dtype=np.int64)
    whole[ends] = _joined(prefix[ends], tokens.ids[ends]) + 1
    last = np.maximum.accumulate(np.where(whole > 0, np.arange(len(whole)), -1))
    last = np.r_[-1, last[:-1]][: len(whole)]  # the item that ended before this token
    same = (last >= 0) & (tokens.documents[last] == tokens.documents)
    return prefix, np.where(same, whole[last], 0)


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One number (n,) from 0 for each different pair of numbers."""
    wide = first.astype(np.int64) * (int(second.max(initial=0)) + 2) + second + 1
    return np.unique(wide, return_inverse=True)[1]


def _nats(chain: Sequence[np.ndarray], symbols: np.ndarray, size: int, counted: np.ndarray) -> np.ndarray:
    """Minus the log-probability (n,) of symbols, each order of the chain interpolated with the one before.

    Args:
        chain: per order the context (n,) of each symbol, from short to long, after the empty one.
        symbols: (n,).
        size: number of possible symbols; they are equally likely where nothing is counted.
        counted: (n,) bool, which of them are counted.
    """
    symbol = np.unique(symbols, return_inverse=True)[1]
    n_symbols = int(symbol.max(initial=0)) + 1
    chance = np.full(len(symbols), 1.0 / size)
    for given in [np.zeros(len(symbols), dtype=np.int64), *chain]:
        context = np.unique(given, return_inverse=True)[1]
        n_contexts = int(context.max(initial=0)) + 1
        pair = context * n_symbols + symbol
        pairs, times = np.unique(pair[counted], return_counts=True)
        total = np.bincount(context[counted], minlength=n_contexts)[context]
        different = np.bincount(pairs // n_symbols, minlength=n_contexts)[context]
        place = np.searchsorted(pairs, pair).clip(max=max(len(pairs) - 1, 0))
        seen = np.where(pairs[place] == pair, times[place], 0) if len(pairs) else np.zeros(len(pair))
        chance = np.where(total > 0, (seen + different * chance) / np.maximum(total + different, 1), chance)
    return -np.log(chance)
