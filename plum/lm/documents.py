"""The text that continued pre-training reads: user behaviour and item metadata, both over Semantic IDs.

Source: PLUM section 2.2. Documents hold each Semantic ID as its tokens (``<|sid_0_17|><|sid_1_4|>...``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.sid.codec import SID_OPENING, Codec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HISTORY_PREFIX = "wh ="
"""Opens every watch history, in pre-training, fine-tuning and retrieval alike (PLUM section 2.2)."""


def history_windows(histories: Sequence[np.ndarray], max_history: int) -> list[np.ndarray]:
    """Cut histories into consecutive windows of at most ``max_history`` items."""
    return [
        history[start : start + max_history] for history in histories for start in range(0, len(history), max_history)
    ]


def item_documents(items: pd.DataFrame, sids: Sequence[str]) -> list[str]:
    """One sentence per known fact about each item, with its Semantic ID in text form.

    Args:
        items: ``title``, ``topics``, ``creator``, ``description``; missing values and blank text give no sentence.
        sids: the Semantic ID of each row as token strings.

    Example: ``Item <|sid_0_3|><|sid_1_9|> has title: Heat (1995)``.
    """
    return [document for of_item in documents_by_item(items, sids) for document in of_item]


def documents_by_item(items: pd.DataFrame, sids: Sequence[str], control_tokens: Sequence[str] = ()) -> list[list[str]]:
    """As ``item_documents``, a list per item.

    Args:
        items, sids: as in ``item_documents``.
        control_tokens: the tokenizer's own, such as ``</s>``. Where an item's text holds one, or the name of a code, it
            is written with a space inside, so that it stays text.
    """
    names = sorted({SID_OPENING, *(token for token in control_tokens if len(token) > 1)}, key=len, reverse=True)
    control = re.compile("|".join(map(re.escape, names)))
    return [
        [f"{before}{sid}{after}{control.sub(_with_a_space, text)}" for before, after, text in facts]
        for sid, facts in zip(sids, _facts(items), strict=True)
    ]


def _with_a_space(found: re.Match[str]) -> str:
    return f"{found[0][0]} {found[0][1:]}"


def _facts(items: pd.DataFrame) -> list[list[tuple[str, str, str]]]:
    """What is known of each item: the words before and after its Semantic ID, and the item's own text."""
    found = []
    for title, topics, creator, description in zip(
        items["title"], items["topics"], items["creator"], items["description"], strict=True
    ):
        named = [topic for topic in topics if _is_text(topic)] if isinstance(topics, list | tuple | np.ndarray) else []
        facts = (
            ("Item ", " has title: ", title),
            ("The topics in item ", " are: ", ", ".join(named)),
            ("Item ", " was made by: ", creator),
            ("Item ", " is described as: ", description),
        )
        found.append([fact for fact in facts if _is_text(fact[2])])
    return found


def _is_text(value: object) -> bool:
    """Whether a cell holds text; a missing one is None or NaN."""
    return isinstance(value, str) and bool(value.strip())


def encode_item_documents(
    tokenizer: PreTrainedTokenizerBase, codec: Codec, codes: np.ndarray, items: pd.DataFrame
) -> list[np.ndarray]:
    """Token ids of all items' documents, checked to hold each item's codes and no others, in order.

    Args:
        tokenizer: extended by the codes' tokens.
        codec: of this tokenizer.
        codes: (N, L), the Semantic ID of each item.
        items: N rows; see ``item_documents``.

    Raises:
        PlumError: if the tokenizer breaks a code.
    """
    sids = [codec.text(row) for row in codes]
    grouped = documents_by_item(items, sids, tokenizer.all_special_tokens)
    texts = [text for of_item in grouped for text in of_item]
    if not texts:
        return []
    encoded = _encode(tokenizer, texts)
    documents = [np.asarray(ids, dtype=np.int64) for ids in encoded]
    owners = np.repeat(np.arange(len(codes)), [len(of_item) for of_item in grouped])
    _check_codes(tokenizer, texts, documents, codec.encode(codes)[owners], codec)
    return documents


def _check_codes(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    documents: Sequence[np.ndarray],
    expected: np.ndarray,
    codec: Codec,
) -> None:
    """Refuse documents whose code tokens are not the ``expected`` (D, L)."""
    stream = np.concatenate(documents)
    is_code = np.isin(stream, np.concatenate(codec.token_ids))
    owner = np.repeat(np.arange(len(documents)), [len(ids) for ids in documents])[is_code]
    found, (n, n_levels) = stream[is_code], expected.shape
    wrong = np.bincount(owner, minlength=n) != n_levels
    if not wrong.any():
        wrong = (found.reshape(n, n_levels) != expected).any(axis=1)
    if wrong.any():
        first = int(wrong.argmax())
        pieces = tokenizer.convert_ids_to_tokens(documents[first].tolist())
        raise PlumError(
            f"the tokenizer {type(tokenizer).__name__} breaks the codes of {int(wrong.sum()):,} item texts",
            f"{texts[first][:80]!r} becomes {' '.join(map(str, pieces))[:160]}",
            "choose another cpt.base, or `scratch`",
        )


def history_prefix(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Token ids before a history's first item: the tokenizer's start token, if it has one, and ``HISTORY_PREFIX``.

    Raises:
        PlumError: if the tokenizer makes nothing of the text.
    """
    words = _encode(tokenizer, [HISTORY_PREFIX])[0]
    if not words:
        raise PlumError(
            f"the tokenizer {type(tokenizer).__name__} makes no token of {HISTORY_PREFIX!r}",
            f"{len(tokenizer):,} tokens in its vocabulary",
            "choose a cpt.base whose tokenizer knows English text, or `scratch`",
        )
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return np.array(start + words, dtype=np.int64)


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of texts, without a start or an end token.

    Raises:
        PlumError: if the tokenizer fails.
    """
    try:
        found: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    except Exception as error:  # in Rust or Python, and of any kind: words without a token for unknown ones, for one
        lines = str(error).strip().splitlines()
        raise PlumError(
            f"the tokenizer {type(tokenizer).__name__} can't encode the text {texts[0][:80]!r} and those after it",
            f"{type(error).__name__}: {lines[0] if lines else ''}",
            "choose another cpt.base, or `scratch`",
        ) from None
    return found
