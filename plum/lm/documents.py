"""How a history begins, in pre-training, fine-tuning and retrieval alike, and how a tokenizer is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plum.errors import PlumError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HISTORY_PREFIX = "wh ="
"""Opens every watch history (PLUM section 2.2)."""


def history_prefix(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Token ids before a history's first item: the tokenizer's start token, if it has one, and ``HISTORY_PREFIX``.

    Raises:
        PlumError: if the tokenizer makes nothing of the text.
    """
    words = tokenized(tokenizer, [HISTORY_PREFIX])[0]
    if not words:
        raise PlumError(
            f"the tokenizer {type(tokenizer).__name__} makes no token of {HISTORY_PREFIX!r}",
            f"{len(tokenizer):,} tokens in its vocabulary",
            "choose a cpt.base whose tokenizer knows English text, or `scratch`",
        )
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return np.array(start + words, dtype=np.int64)


def tokenized(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of texts, without a start or an end token.

    Raises:
        PlumError: if the tokenizer fails.
    """
    options = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    try:
        found: list[list[int]] = tokenizer(texts, **options)["input_ids"]
    except Exception as error:  # in Rust or Python, and of any kind: words without a token for unknown ones, for one
        lines = str(error).strip().splitlines()
        raise PlumError(
            f"the tokenizer {type(tokenizer).__name__} can't encode the text {texts[0][:80]!r} and those after it",
            f"{type(error).__name__}: {lines[0] if lines else ''}",
            "choose another cpt.base, or `scratch`",
        ) from None
    return found
