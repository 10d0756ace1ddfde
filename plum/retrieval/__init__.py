"""Retrievers: histories in, ranked catalogue items out.

``generative`` is the language model as a retriever. It searches by ``beam``, ``exact`` or ``sampling``, over the index
of ``constraint``, with the tree attention of ``tree``; ``processor`` brings the same constraint to ``generate``.
``dense``, ``simple``, ``content`` and their fusion ``hybrid`` are what it is compared with; ``nearest`` searches
vectors, ``choose`` picks settings. To ask a finished run, see ``plum.stages.recommend.Recommender``.

What decoding consists of can be imported from here: ``from plum.retrieval import Generative``. Each name's module is
loaded when it is first asked for, since most of them load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plum.retrieval.beam import Beams, Quota, Scoring, beam_search
    from plum.retrieval.constraint import AllCodes, DeviceTrie
    from plum.retrieval.exact import exact_search
    from plum.retrieval.generative import Generative
    from plum.retrieval.processor import SidLogitsProcessor
    from plum.retrieval.sampling import sample

_HOMES = {
    "AllCodes": "constraint",
    "Beams": "beam",
    "DeviceTrie": "constraint",
    "Generative": "generative",
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
    "Generative",
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
    return getattr(importlib.import_module(f"plum.retrieval.{_HOMES[name]}"), name)
