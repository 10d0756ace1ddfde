"""Templates of documents as prompts: a document up to the field that the model is to fill in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

Piece = str | int
"""Text, or the row of the item whose Semantic ID stands there."""
Encode = Callable[[Sequence[Sequence[Piece]]], list[np.ndarray]]
"""Token ids of documents in pieces, as training has them but for the end: the start token, and text that stays text."""
SID = "sid"
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


def pieces(template: str, row: int, text: str, until: str | None = None) -> list[Piece]:
    """A template filled in.

    Args:
        template: with ``{sid}`` and another field, which ``text`` fills.
        row: of the item.
        text: of the item.
        until: stop before this field; the blank before a text is part of the text, so it is left out.

    Example: ``"Item {sid} has title: {title}"`` of item 7 until title -> ``["Item ", 7, " has title:"]``.
    """
    found: list[Piece] = []
    for number, part in enumerate(_FIELD.split(template)):
        if number % 2 == 0:
            found += [part] if part else []
        elif part == until:
            last = found[-1] if found else None
            return [*found[:-1], last.rstrip()] if until != SID and isinstance(last, str) else found
        else:
            found.append(int(row) if part == SID else text)  # an integer of NumPy is no int
    return found


def shown(parts: Sequence[Piece], names: Sequence[str]) -> str:
    """Pieces as text for readers; ``names`` has each item's Semantic ID in text form."""
    return "".join(names[part] if isinstance(part, int) else part for part in parts)
