"""How well a language model knows English: bits per character of a text, and the last words of sentences.

Both can be called in the middle of a training, on a fixed sample. Rows of the vocabulary that are no text (codes of
Semantic IDs, rows without a token) are left out of every softmax, so that a model has the same figures before and
after its vocabulary is extended, until it is trained.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.errors import PlumError
from plum.lm.logits import max_positions, token_logits
from plum.runtime import evaluating, track

WINDOW = 512
"""Tokens that a model reads at once, with the start token: the same for all, so that figures compare."""
CONTEXT = 1000
"""Characters before a word that is to be guessed, at most; ``LEAST`` at least, all of its paragraph."""
LEAST = 100
COUNTED = 1 << 24
"""Characters that n-grams are counted on, at most."""
_CODE = re.compile(r"<\|\w+_\d+\|>")  # codes and bins are named alike; no word of a text looks so
_LARGEST = 1 << 25  # numbers: logits that are held at once
_GAP = re.compile(r"(?<=[\w,;:)'\"]) (?P<word>[^\W\d_]{3,})(?= ?[.!?](?:\s|$))")


@dataclass(frozen=True)
class TextBits:
    """How many bits a model needs for a text.

    Attributes:
        bits_per_character: minus the binary logarithm of the text's probability, over its characters.
        characters: of the text.
        tokens: of the text, each scored once.
        unknown: how many of them are the unknown token; with any, the figure is of another, easier text.
    """

    bits_per_character: float
    characters: int
    tokens: int
    unknown: int


class Gap(NamedTuple):
    """The last word of a sentence.

    Attributes:
        context: what stands before it in its paragraph, without the space between.
        word: to be guessed.
    """

    context: str
    word: str


@dataclass(frozen=True)
class Gaps:
    """Words to be guessed, drawn from a text.

    Attributes:
        drawn: in the order of the text.
        usual: the most frequent last word of the other sentences; None if there are no others.
    """

    drawn: tuple[Gap, ...]
    usual: str | None


@dataclass(frozen=True)
class Cloze:
    """How many last words were guessed.

    Attributes:
        accuracy: share of the gaps whose tokens are all the model's first choice.
        gaps: how many there were.
        usual: a word that is always guessed, for comparison.
        usual_accuracy: what that would give.
    """

    accuracy: float
    gaps: int
    usual: str | None
    usual_accuracy: float


def text_bits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    limit: int | None = None,
    window: int = WINDOW,
    batch_size: int = 4,
) -> TextBits:
    """Bits per character of a text, exactly: the sum over its tokens, each predicted once.

    The model reads windows of ``window`` tokens. Each begins with the start token. Each but the first repeats half a
    window of the text before, which is read and not scored, so that a token is predicted from half a window or more.

    Args:
        model: decoder-only, on its device; its mode is kept.
        tokenizer: of the model.
        text: not empty.
        limit: characters from the text's start that are measured; all by default.
        window: tokens read at once; fewer if the model takes fewer.
        batch_size: windows read at once.

    Raises:
        PlumError: if there is no text.
    """
    text = text[:limit]
    ids = _tokens(tokenizer, text)
    if not ids:
        raise PlumError("there is no text to measure a language model with", None, "give a file with some English")
    longest = max_positions(model)
    body = min(window, longest or window) - 1
    start = start_token(tokenizer)
    rows = [([start, *ids[first:end]], 1 + begin - first) for first, begin, end in _windows(len(ids), body)]
    nats = 0.0
    with _measured(model):
        for logits, targets in _predictions(model, rows, text_rows(model, tokenizer), batch_size):
            nats += F.cross_entropy(logits, targets, reduction="sum").item()
    unknown = tokenizer.unk_token_id
    return TextBits(nats / math.log(2) / len(text), len(text), len(ids), 0 if unknown is None else ids.count(unknown))


def halves(text: str) -> tuple[str, str]:
    """What references of a text are counted on, the end of its first half, and what is measured, its second half.

    The second one begins with a line, if there are several.
    """
    middle = text.find("\n", len(text) // 2) + 1 or len(text) // 2
    return text[:middle][-COUNTED:], text[middle:]


def draw_gaps(text: str, n: int, seed: int) -> Gaps:
    """Draw last words of sentences from a text, without replacement.

    A gap is a word of three letters or more before ``.``, ``!`` or ``?``. Its context is its paragraph (line) up to the
    word, of at least ``LEAST`` characters, cut to the last ``CONTEXT`` at a space. LAMBADA (Paperno et al. 2016) asks
    the same of passages that people have chosen; here none chose, so that figures don't compare with it.

    Args:
        text: any.
        n: how many, fewer if there are not as many.
        seed: of the draw.
    """
    found: list[Gap] = []
    for paragraph in text.splitlines():
        for match in _GAP.finditer(paragraph):
            if match.start() >= LEAST:
                found.append(Gap(_cut(paragraph[: match.start()]), match["word"]))
    chosen = np.random.default_rng(seed).permutation(len(found))[:n]
    rest = Counter(gap.word for gap in found)
    rest.subtract(found[number].word for number in chosen)
    word, times = min(rest.items(), key=lambda entry: (-entry[1], entry[0]), default=("", 0))
    return Gaps(tuple(found[number] for number in sorted(chosen)), word if times else None)


def cloze(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, gaps: Gaps, *, window: int = WINDOW, batch_size: int = 8
) -> Cloze:
    """Share of the gaps that the model fills with the very word: all of its tokens are the most probable ones.

    Args:
        model: decoder-only, on its device; its mode is kept.
        tokenizer: of the model.
        gaps: of :func:`draw_gaps`.
        window: tokens read at once, the last ones; fewer if the model takes fewer.
        batch_size: gaps read at once.
    """
    most = min(window, max_positions(model) or window)
    rows = sorted((_gap_row(tokenizer, gap, most) for gap in gaps.drawn), key=lambda row: len(row[0]))
    hits = 0
    with _measured(model):
        for logits, targets in _predictions(model, rows, text_rows(model, tokenizer), batch_size):
            hits += int((logits.argmax(-1) == targets).all())
    n = len(gaps.drawn)
    usual = sum(gap.word == gaps.usual for gap in gaps.drawn)
    return Cloze(hits / n if n else math.nan, n, gaps.usual, usual / n if n else math.nan)


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What a text begins with: the start token if the tokenizer sets one itself, else the end of the text before."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is not None and (eos is None or bos in tokenizer("a")["input_ids"]):
        return int(bos)
    return int(tokenizer.pad_token_id if eos is None else eos)


def text_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Which rows (V,) of the vocabulary are text: those of a token that is no code of a Semantic ID and no bin."""
    head: Any = model.get_output_embeddings()
    n_rows = len(head.weight)
    kept = [row for token, row in tokenizer.get_vocab().items() if row < n_rows and not _CODE.fullmatch(token)]
    rows = torch.zeros(n_rows, dtype=torch.bool)
    rows[kept] = True
    return rows.to(head.weight.device)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text; what looks like a control token is text."""
    found: Any = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return list(found)


def _windows(n: int, body: int) -> Iterator[tuple[int, int, int]]:
    """Windows over n tokens: where each starts, where its scored tokens start, and where both end.

    Example: n 7, body 4 -> (0, 0, 4), (2, 4, 6), (4, 6, 7)
    """
    overlap, begin = body // 2, 0
    while begin < n:
        first = max(0, begin - overlap)
        end = min(n, first + body)
        yield first, begin, end
        begin = end


def _cut(context: str) -> str:
    """The last characters of a context, from a word's start."""
    return context if len(context) <= CONTEXT else context[-CONTEXT:].split(" ", 1)[-1]


def _gap_row(tokenizer: PreTrainedTokenizerBase, gap: Gap, most: int) -> tuple[list[int], int]:
    """The tokens of a gap and its context, at most ``most``, and where those of the word start.

    Context and word are one text to the tokenizer; a token that reaches from one into the other counts as the word's.
    """
    before, whole = _tokens(tokenizer, gap.context), _tokens(tokenizer, f"{gap.context} {gap.word}")
    shared = next((k for k, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
    cut = max(0, len(whole) + 1 - most)
    return [start_token(tokenizer), *whole[cut:]], 1 + max(0, shared - cut)


def _predictions(
    model: PreTrainedModel, rows: Sequence[tuple[list[int], int]], is_text: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (P, V) and tokens (P,) of the scored part of each row in turn; a long part comes in pieces."""
    base: Any = model.base_model
    piece = max(1, _LARGEST // len(is_text))
    for start in track(range(0, len(rows), batch_size), "measuring English"):
        batch = rows[start : start + batch_size]
        width = max(len(tokens) for tokens, _ in batch)
        # Filled on the right, which causal attention never sees.
        filled = torch.tensor([tokens + tokens[:1] * (width - len(tokens)) for tokens, _ in batch], device=model.device)
        hidden = base(input_ids=filled, use_cache=False).last_hidden_state
        for row, (tokens, scored) in enumerate(batch):
            for begin in range(scored, len(tokens), piece):
                end = min(len(tokens), begin + piece)
                logits = token_logits(model, hidden[row, begin - 1 : end - 1])
                yield logits.masked_fill_(~is_text, -math.inf), filled[row, begin:end]


@contextmanager
def _measured(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; the model's own mode afterwards."""
    with evaluating(model), torch.no_grad():
        yield
