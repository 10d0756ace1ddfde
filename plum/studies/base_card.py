"""The card (README.md) of a base that plum made: what it was made of, how, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plum.foreign import one_line
from plum.lm.english import CONTEXT, LEAST, WINDOW

PROTOCOL = (
    f"Bits per character: minus the binary logarithm of the probability of all tokens of a text, over its characters. "
    f"Windows of {WINDOW} tokens, each begun with the end-of-text token (or the start token, where the tokenizer sets "
    f"one itself); each but the first repeats half a window, which is read and not scored.\n\n"
    f"Cloze: the last word (three letters or more) of sentences drawn by the seed, given {LEAST} to {CONTEXT:,} "
    f"characters of its paragraph before it; right if each of its tokens is the most probable one. "
    f"No person chose the words, so the share does not compare with LAMBADA's."
)


def card(texts: Sequence[Path], settings: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The card in Markdown, with the header that the Hugging Face Hub reads.

    Args:
        texts: that the base was trained on.
        settings: shape, vocabulary and training.
        facts: steps, tokens, passes, and what was measured on the text held out.
    """
    shape, how, held = settings["shape"], settings["how"], facts["held_out"]
    files = "\n".join(f"- `{one_line(path.name)}`: {path.stat().st_size:,} bytes" for path in texts)
    return f"""---
language: en
library_name: transformers
pipeline_tag: text-generation
---
# A small English base model

Made by `plum base pretrain` to be trained further (`cpt.base`); it is too small to be of use as it is.
`manifest.json` has the SHA-256 of the texts, the settings and the versions. The licences of the texts hold.

## Texts

{files}

{facts["characters"]:,} characters were learnt from. `held_out.txt`, the end of each file, was not.

## Model and training

| | |
|---|---|
| architecture | Llama, tied embeddings: width {shape["hidden_size"]}, layers {shape["layers"]}, \
heads {shape["heads"]}, feed-forward {shape["intermediate_size"]} |
| parameters | {facts["parameters"]:,} |
| vocabulary | {settings["vocabulary"]:,} tokens, byte-level BPE of the same texts |
| steps | {facts["steps"]:,} of {how["batch_size"]} x {how["context_length"]} tokens |
| tokens | {facts["tokens"]:,}, {facts["passes"]:.2f} passes |
| learning rate | {how["learning_rate"]:g}, cosine |
| seed | {how["seed"]} |

## Held-out text

| | this model | reference |
|---|---|---|
| bits per character, {held["characters"]:,} characters | {_number(held["bits_per_character"])} | \
{_number(held["ngram_bits_per_character"])}: {held["ngram_longest_context"] + 1}-grams of bytes counted on the last \
{held["ngram_counted_characters"]:,} characters it learnt from |
| cloze, {held["gaps"]:,} last words | {_number(held["cloze_accuracy"])} | \
{_number(held["usual_word_accuracy"])}: always "{held["usual_word"] or ""}" |

{PROTOCOL}
"""


def _number(value: float) -> str:
    return f"{value:.3f}" if value == value else "none"
