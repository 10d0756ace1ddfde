"""How programs write "no value" into text, and what counts as such in ids, numbers and prose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_UNMISTAKABLE = (
    *("\\n", "\\\\n", "<na>", "<null>", "<none>", "<nil>", "(null)", "(none)", "[null]", "#n/a", "#na", "#n/a n/a"),
    *("nan", "-nan", "nat", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "#null!", "#value!", "#ref!"),
)
_WORDS = ("na", "n/a", "n.a.", "null", "none", "nil", "undefined")
_SHARED = 3
"""Items, at least, that share a word as their whole text for it to be no text: one film may be called "None"."""

SPELLINGS = frozenset({"", *_UNMISTAKABLE, *_WORDS})
"""Spellings of "no value" in ids and numbers, in lower case. 0, -1 and a dash are none: they may be someone's id."""
LIST_SPELLINGS = frozenset(("", "nan", "null", "none"))
"""Spellings of "no id" in lists of recommendations, whose ids the catalogue decides on."""
_LONGEST = max(map(len, SPELLINGS))


def is_missing(value: Any) -> bool:
    r"""Whether an id or a number is missing: None, NaN, or text that says so, in any case.

    Example:
        >>> is_missing("<NA>"), is_missing(r"\N"), is_missing("0"), is_missing("Nano")
        (True, True, False, False)
    """
    if value is None or (isinstance(value, float) and value != value):
        return True
    return isinstance(value, str) and value.strip().lower() in SPELLINGS


def absent(text: pa.ChunkedArray, spellings: frozenset[str] = SPELLINGS) -> np.ndarray:
    """Mask (N,) of the missing among trimmed ids or numbers (N,); ``spellings`` are in lower case."""
    text = pc.fill_null(text, "")
    short = pc.less_equal(pc.binary_length(text), _LONGEST)  # most ids of real logs are longer: no need to look
    if not pc.any(short).as_py():
        return np.zeros(len(text), bool)
    folded = pc.utf8_lower(pc.if_else(short, text, "x"))
    return pc.is_in(folded, value_set=pa.array(sorted(spellings), folded.type)).to_numpy().astype(bool)


def no_prose(value: str) -> bool:
    r"""Whether a text can't be a title, a name or a topic: blank, or a spelling that no one would choose.

    Example:
        >>> no_prose(r"\N"), no_prose("nan"), no_prose("None"), no_prose("Null Island")
        (True, True, False, False)
    """
    text = value.strip()
    return not text or (len(text) <= _LONGEST and text.lower() in _UNMISTAKABLE and text != "Nan")


def shared_words(values: Sequence[str | None]) -> frozenset[str]:
    """The spellings, such as "None" or "N/A", that several of these texts (N) consist of: no values there."""
    counts = Counter(value for value in values if value and len(value) <= _LONGEST)
    folded = {value for value in counts if value.lower() in SPELLINGS}
    return frozenset(value for value in folded if counts[value] >= _SHARED)


def prose_or_none(values: Sequence[str | None]) -> list[str | None]:
    """Texts of one column (N), None where there is none: blank, unmistakably missing, or a word that several share."""
    words = shared_words(values)
    return [None if value is None or value in words or no_prose(value) else value for value in values]
