"""The text that continued pre-training reads: user behaviour and item metadata, both over Semantic IDs.

Source: PLUM section 2.2. Documents hold each Semantic ID as its tokens (``<|sid_0_17|><|sid_1_4|>...``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
    documents = []
    for sid, title, topics, creator, description in zip(
        sids, items["title"], items["topics"], items["creator"], items["description"], strict=True
    ):
        if _is_text(title):
            documents.append(f"Item {sid} has title: {title}")
        named = [topic for topic in topics if _is_text(topic)] if isinstance(topics, list | tuple | np.ndarray) else []
        if named:
            documents.append(f"The topics in item {sid} are: {', '.join(named)}")
        if _is_text(creator):
            documents.append(f"Item {sid} was made by: {creator}")
        if _is_text(description):
            documents.append(f"Item {sid} is described as: {description}")
    return documents


def _is_text(value: object) -> bool:
    """Whether a cell holds text; a missing one is None or NaN."""
    return isinstance(value, str) and bool(value.strip())


def history_prefix(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Token ids before a history's first item: the tokenizer's start token, if it has one, and ``HISTORY_PREFIX``."""
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return np.array(start + tokenizer.encode(HISTORY_PREFIX, add_special_tokens=False), dtype=np.int64)
