"""Plain text files -> documents, a part held out, and blocks of tokens in any number of passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from plum.errors import PlumError
from plum.lm.vocab import train_tokenizer
from plum.run.plain import open_plain

SEPARATOR = "<|document|>"
"""A line of its own between the documents of a file."""
LONG_LINE = 10_000
_TO_DO = "give plain text files in UTF-8"


def read_documents(path: Path) -> list[str]:
    """The documents of a plain text file: what stands between lines ``<|document|>``, else the file as a whole.

    Raises:
        PlumError: if there is no such file, it is no text in UTF-8, or has nothing but white space.
    """
    try:
        with open_plain(path) as file:
            content = file.read()
    except OSError as error:
        raise PlumError(f"{path} can't be read", error.strerror or str(error), _TO_DO) from None
    if (place := content.find(b"\0")) >= 0:
        raise PlumError(f"{path} is no text", f"a zero byte at byte {place:,}", _TO_DO)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x} in line {number:,}"
        raise PlumError(f"{path} is not UTF-8", found, f"convert it: iconv -f WINDOWS-1252 -t UTF-8 {path}") from None
    documents, lines = [], list[str]()
    for line in [*text.splitlines(keepends=True), SEPARATOR]:
        if line.strip() != SEPARATOR:
            lines.append(line)
            continue
        if document := "".join(lines).strip():
            documents.append(document)
        lines = []
    if not documents:
        raise PlumError(f"{path} holds no text", f"{len(content):,} bytes, all of them white space", _TO_DO)
    return documents


def hold_out(documents: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Divide a file's documents: the last ``share`` of its characters is held out, from the start of a line.

    An end in one piece, since lines drawn at random would stand between lines that are learnt from. Of a line of more
    than ``LONG_LINE`` characters, the end from a word's start.
    """
    left = round(share * sum(map(len, documents)))
    kept = list(documents)
    held: list[str] = []
    while left > 0 and kept:
        last = kept.pop()
        if len(last) > left:
            end = len(last) - left
            cut = last.rfind("\n", max(0, end - LONG_LINE), end) + 1 or last.rfind(" ", 0, end) + 1
            if cut:
                kept.append(last[:cut])
            held.append(last[cut:] if cut else last)
            break
        held.append(last)
        left -= len(last)
    return kept, held[::-1]


def text_tokenizer(documents: Sequence[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of just so many tokens.

    Raises:
        PlumError: if the documents are too little text for it.
    """
    tokenizer = train_tokenizer(documents, vocabulary)
    if (got := len(tokenizer)) < vocabulary:
        found = f"{sum(map(len, documents)):,} characters give {got:,} tokens, --vocabulary is {vocabulary:,}"
        raise PlumError("there is too little text for the vocabulary", found, f"give more text, or --vocabulary {got}")
    return tokenizer


def token_stream(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str]) -> np.ndarray:
    """All documents as one stream of tokens (N,) int32, the end token before the first and after each."""
    end = tokenizer.eos_token_id
    parts = [np.array([end], dtype=np.int32)]
    for document in documents:
        ids = tokenizer(document, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        parts.append(np.array([*ids, end], dtype=np.int32))
    return np.concatenate(parts)


def random_blocks(stream: np.ndarray, length: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches (B, T) int64 of blocks of a stream.

    Each pass cuts the stream at other places and takes the blocks in another order, by the seed and the pass alone.

    Args:
        stream: (N,) tokens, at least T + 1.
        length: T.
        batch_size: B. A batch may hold the last blocks of one pass and the first of the next.
        seed: of all passes.
    """
    waiting: list[np.ndarray] = []
    for number in count():
        rng = np.random.default_rng([seed, number])
        start = int(rng.integers(min(length, len(stream) - length)))
        n_blocks = (len(stream) - start) // length
        for block in rng.permutation(n_blocks):
            begin = start + int(block) * length
            waiting.append(stream[begin : begin + length])
            if len(waiting) == batch_size:
                yield np.stack(waiting).astype(np.int64)
                waiting = []
