"""The sections of a report on its data and protocol: counts, pictures, and how users were asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from plum.report.blocks import Facts, Picture, Section, Text, pictures
from plum.report.conditions import data_facts, explain_protocol
from plum.report.figures import data as figures
from plum.report.wording import as_number, plain

_CUTS = {"valid": "validation", "test": "test"}


def dataset(
    data: Mapping[str, Any], popularity: Mapping[str, Any], lengths: Mapping[str, Any], timeline: Mapping[str, Any]
) -> Section:
    """What the data are: counts, and pictures of popularity, history lengths and time; see ``render_report``."""
    drawn = pictures([_popularity(popularity), _lengths(lengths), _timeline(timeline)])
    facts = data_facts(data)
    gist = "counts, item popularity, history lengths, interactions over time" if drawn else "counts"
    return Section("data", "Data", gist, [*drawn, *([Facts(facts)] if facts else [])])


def protocol(entries: Mapping[str, Any]) -> Section:
    """How users were asked and what was ranked."""
    told = explain_protocol(entries)
    blocks = [*(Text(sentence, quiet=False) for sentence in told["sentences"]), Facts(told["facts"])]
    gist = str(entries.get("split", ""))
    return Section("protocol", "Protocol", gist and f"{gist} split, seen items, ties", blocks if entries else [])


def cut_days(timeline: Mapping[str, Any]) -> dict[str, str]:
    """What begins at each cut of a temporal split -> the day."""
    return {_CUTS[part]: _day(seconds) for part, seconds in (timeline.get("cuts") or {}).items() if part in _CUTS}


def _popularity(found: Mapping[str, Any]) -> Picture | None:
    ranks, counts = found.get("ranks") or [], found.get("counts") or []
    if not any(counts):
        return None
    told = f"the most popular item has {plain(counts[0])} training interactions"
    share = as_number(found.get("top_tenth"))
    if share is not None:
        told += f", the most popular tenth of the items has {share:.0%} of all"
    if unseen := as_number(found.get("unseen")):
        told += f", {unseen:,.0f} items have none"
    caption = f"Popularity of items: {told}. Both axes are logarithmic."
    return Picture(figures.long_tail(ranks, counts, caption), caption)


def _lengths(found: Mapping[str, Any]) -> Picture | None:
    edges, counts = found.get("edges") or [], found.get("counts") or []
    if not any(counts):
        return None
    longest = as_number(found.get("read"))
    read = None if longest is None else int(longest)
    median = as_number(found.get("median"))
    told = "Length of the test users' histories: "
    told += (f"median {median:,.10g}, " if median is not None else "") + f"longest {plain(edges[-1] - 1)}."
    return Picture(figures.history_lengths(edges, counts, read, told), told)


def _timeline(found: Mapping[str, Any]) -> Picture | None:
    edges, counts = found.get("edges") or [], found.get("counts") or {}
    if len(edges) < 2 or not any(map(any, counts.values())):
        return None
    cuts = {f"{_CUTS[part]} begins": seconds for part, seconds in (found.get("cuts") or {}).items()}
    told = f"Interactions from {_day(edges[0])} to {_day(edges[-1])} by part of the split"
    told += f"; {', '.join(f'{name} on {_day(seconds)}' for name, seconds in cuts.items())}." if cuts else "."
    return Picture(figures.timeline(edges, counts, cuts, told), told)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()
