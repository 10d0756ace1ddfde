"""The names of all retrievers, and which of them each blend is of."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence

UNTRAINED = ("popularity", "recencypop", "textknn", "itemknn")
"""Retrievers without a trained model."""
COUNTING = "counting"
"""The blend of these, a baseline."""
BLEND = "blend"
"""The blend of all."""
HYBRID = "hybrid"
"""plum and dense by reciprocal rank, scored only where it is named."""
RETRIEVERS = (*UNTRAINED, COUNTING, "lem", "dense", "dense-mean", "plum", HYBRID, BLEND)
"""All that stage eval can score, in the order of ``plum.stages.eval.field.ABOUT``, which describes them."""
SINGLE = tuple(name for name in RETRIEVERS if name not in (COUNTING, HYBRID, BLEND))
"""Those that are no combination of others: what a blend may be of."""


def parts_of(blends: Mapping[str, Sequence[str]], wanted: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The parts of each blend, in the order of reports: ``counting``, those of the configuration, ``blend``.

    Args:
        blends: those of the configuration, by name.
        wanted: the retrievers that are scored. The two blends that are always there are of these alone.
    """
    always = {COUNTING: UNTRAINED, BLEND: SINGLE}
    own = {name: tuple(parts) for name, parts in blends.items()}
    names = [COUNTING, *(name for name in own if name not in always), BLEND]
    return {name: own.get(name) or tuple(part for part in always[name] if part in wanted) for name in names}


def mistakes_in_blends(blends: Mapping[str, Sequence[str]], retrievers: Collection[str] | None) -> list[str]:
    """What is wrong with the blends of a configuration, a sentence each.

    Args:
        blends: their parts, by name.
        retrievers: all that are scored, or None for all that the data allow.
    """
    found = []
    for name, parts in blends.items():
        if name in SINGLE or name in (HYBRID, "optimum"):
            found.append(f"a blend can't be called {name}, which is a retriever of its own; give it another name")
        elif not re.fullmatch(r"[a-z0-9][a-z0-9+_.-]{0,39}", name):
            found.append(f"the name of a blend is of small letters, digits and + _ . - (40 at most), found {name!r}")
        found += _mistakes_in_parts(name, parts, blends, retrievers)
    if retrievers is not None:
        for name, parts in parts_of(blends, retrievers).items():
            if name in retrievers and name not in blends and len(parts) < 2:
                there = ", ".join(parts) or "none"
                found.append(f"{name} blends two or more of the other retrievers, named with it: {there} here")
    return found


def _mistakes_in_parts(
    name: str, parts: Sequence[str], blends: Mapping[str, Sequence[str]], retrievers: Collection[str] | None
) -> list[str]:
    """What is wrong with the parts of one blend."""
    found = []
    for part in dict.fromkeys(parts):
        if part in (COUNTING, BLEND, HYBRID) or part in blends:
            found.append(f"blend {name} can't have {part} as a part, which is a combination itself; name its parts")
        elif part not in SINGLE:
            found.append(f"blend {name} has an unknown part {part!r}; {hint(part, SINGLE)}")
        elif retrievers is not None and name in retrievers and part not in retrievers:
            found.append(f"blend {name} has the part {part}, which is not scored: add it to eval.retrievers")
    if len(set(parts)) < len(parts):
        found.append(f"blend {name} names a part twice")
    if len(parts) < 2:
        found.append(f"blend {name} needs two or more parts, found {len(parts)}; of one it would be that retriever")
    return found


def hint(name: str, known: Sequence[str]) -> str:
    """What may have been meant by a name that is not known."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
