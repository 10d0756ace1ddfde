"""Tiny tokenizers of every type that transformers loads, trained on a few lines, without Semantic IDs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "Item has title: Heat (1995)",
    "The topics in item are: Action, Crime, naïve café",
    "Item was made by: wh = Items are described as",
] * 3
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
LETTERS = sorted({letter for text in TEXTS for letter in text})


def _bpe(metaspace: bool, **parts: Any) -> Tokenizer:
    """Byte-fallback-like BPE of Llama 2, Mistral and Phi-3: spaces become ``▁``."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(**parts)
        tokenizer.decoder = decoders.Metaspace(**parts)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _byte_level(prefix_space: bool = False, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def _unigram() -> Tokenizer:
    """SentencePiece's Unigram with its usual normalisation (T5, XLM-R, Gemma's older siblings)."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _words(splitter: Any, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False))
    return tokenizer


def _fast(make: Callable[[], Tokenizer], start: bool = False, end: bool = False) -> hf.PreTrainedTokenizerBase:
    tokenizer = make()
    if start or end:
        template = " ".join((["<s>"] if start else []) + ["$A"] + (["</s>"] if end else []))
        ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    names = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _llama() -> hf.PreTrainedTokenizerBase:
    """The class that transformers chooses for Llama 2 folders."""
    made = json.loads(_bpe(False).to_str())["model"]
    merges = [tuple(merge) for merge in made["merges"]]
    return hf.LlamaTokenizer(vocab=made["vocab"], merges=merges, pad_token="<pad>")


def _python(folder: Path) -> hf.PreTrainedTokenizerBase:
    """A slow tokenizer, in Python: CTRL's, words of whole letters."""
    words = ["<unk>", "</s>", *(letter + "</w>" for letter in LETTERS), *(letter + "@@" for letter in LETTERS)]
    words += [letter for letter in LETTERS if letter.strip()]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt i\nh e</w>\n")
    return hf.CTRLTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )


def _bytes(folder: Path) -> hf.PreTrainedTokenizerBase:
    return hf.ByT5Tokenizer()


_strip = partial(
    _byte_level, False, normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Lowercase()])
)
FAST: dict[str, Callable[[], hf.PreTrainedTokenizerBase]] = {
    "prepend (Mistral, Phi-3)": partial(_fast, partial(_bpe, False)),
    "prepend, start": partial(_fast, partial(_bpe, False), True),
    "prepend, start and end": partial(_fast, partial(_bpe, False), True, True),
    "metaspace": partial(_fast, partial(_bpe, True)),
    "metaspace, first only": partial(_fast, partial(_bpe, True, prepend_scheme="first"), True),
    "metaspace, never": partial(_fast, partial(_bpe, True, prepend_scheme="never", split=False)),
    "unigram (SentencePiece)": partial(_fast, _unigram),
    "unigram, end": partial(_fast, _unigram, False, True),
    "word pieces, lower case": partial(_fast, _word_piece, True, True),
    "byte level (GPT-2)": partial(_fast, _byte_level),
    "byte level, space first (RoBERTa)": partial(_fast, partial(_byte_level, True), True, True),
    "byte level, NFKC, strip, lower case": partial(_fast, _strip, True),
    "words": partial(_fast, partial(_words, pre_tokenizers.Whitespace())),
    "words, no accents": partial(
        _fast,
        partial(
            _words,
            pre_tokenizers.WhitespaceSplit(),
            normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
        ),
    ),
    "letters": partial(_fast, partial(_words, pre_tokenizers.Split("", "isolated"))),
    "Llama 2's class": _llama,
}
SLOW: dict[str, Callable[[Path], hf.PreTrainedTokenizerBase]] = {
    "in Python (CTRL)": _python,
    "bytes in Python (ByT5)": _bytes,
}
KINDS = [*FAST, *SLOW]


def tokenizer_of(kind: str, folder: Path) -> hf.PreTrainedTokenizerBase:
    """A new tokenizer of a kind; slow ones read their vocabulary from ``folder``."""
    return FAST[kind]() if kind in FAST else SLOW[kind](folder)
