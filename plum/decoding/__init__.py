"""Constrained decoding: a language model generates Semantic IDs of the catalogue only.

``beam``, ``exact`` and ``sampling`` search the index of ``constraint``, made from a ``trie``, with the attention of
``tree``; ``processor`` offers the same constraint to ``generate``. ``plum.retrievers.generative`` turns the results
into lists of items.

The names below can be imported from here: ``from plum.decoding import beam_search``. Each name's module is loaded on
first use, because most of them load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plum.decoding.beam import Beams, Quota, Scoring, beam_search
    from plum.decoding.constraint import AllCodes, DeviceTrie
    from plum.decoding.exact import exact_search
    from plum.decoding.processor import SidLogitsProcessor
    from plum.decoding.sampling import sample

_HOMES = {
    "AllCodes": "constraint",
    "Beams": "beam",
    "DeviceTrie": "constraint",
    "Quota": "beam",
    "Scoring": "beam",
    "SidLogitsProcessor": "processor",
    "beam_search": "beam",
    "exact_search": "exact",
    "sample": "sampling",
}
__all__ = [
    "AllCodes",
    "Beams",
    "DeviceTrie",
    "Quota",
    "Scoring",
    "SidLogitsProcessor",
    "beam_search",
    "exact_search",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"plum.decoding.{_HOMES[name]}"), name)
