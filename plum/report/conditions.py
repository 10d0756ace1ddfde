"""What the figures of a report rest on, in words: the data, the protocol, and what changes how to read the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plum.report.sample import few_hits, few_users
from plum.report.wording import as_number, plain, words

WORTH_SAYING = 0.01
"""Share of the users or interactions from which a report's first screen speaks of what concerns them."""

_PROTOCOL = {
    ("split", "leave-one-out"): "Leave-one-out split: each user's last item is the test target, the one before it the "
    "validation target, and all earlier ones are training data.",
    (
        "split",
        "temporal",
    ): "Temporal split: training, validation and test follow each other in time, with the same "
    "cuts for all users. Nothing that is later than training reaches any part of the pipeline, tokenizer and features "
    "included: they learn from the items that have a training interaction, and the others get their vectors and "
    "Semantic IDs as new items do.",
    ("seen", "filtered"): "No retriever recommends items of the user's history.",
    ("seen", "kept"): "Every retriever may recommend items of the user's history.",
    ("ties in time", "shuffle"): "Interactions of a user with the same timestamp are put in random order, by the seed "
    "of the split. Where the last ones share a timestamp, this order decides which item is the test target.",
    (
        "ties in time",
        "keep",
    ): "Interactions of a user with the same timestamp stay in the order of the input. Where "
    "the last ones share a timestamp, this order decides which item is the test target.",
    ("ties in time", "no times"): "The source gives the order of a user's interactions but no timestamps. For "
    "simultaneous interactions, the source's order decides which item is the test target.",
}
_PROTOCOL_NAMES = {
    "seen": "seen items",
    "candidates": "items ranked for every user",
    "beams": "beam width",
    "probabilities over": "probability of a code is normalised over",
    "split seed": "seed of the split",
}
_PROTOCOL_VALUES = {
    ("probabilities over", "codes"): "all codes of its level",
    ("probabilities over", "legal"): "the codes that may follow its prefix",
    ("probabilities over", "vocabulary"): "the whole vocabulary of the model",
    ("ties in time", "shuffle"): "random order",
    ("ties in time", "keep"): "order of the input",
    ("ties in time", "no times"): "unknown, the source has no timestamps",
}
_DATA_NAMES = {
    "later_items": "items not known before validation begins, from which nothing is learnt",
    "never_items": "of these, items that never occur",
    "train": "training interactions",
    "valid": "validation interactions",
    "test": "test interactions",
    "first": "first interaction",
    "last": "last interaction",
    "cold_test": "test interactions with items that training lacks",
    "tied": "interactions that share their time with another one of the user",
    "tied_targets": "users whose test target depends on tie-breaking",
    "users_without_test": "users without a test item",
    "users_without_history": "users with a test item but no history, who are not part of the test",
    "seen_targets_only": "test users whose targets are all in their history",
    "unusable_rows": "rows of the source that could not be used",
    "filtered_rows": "rows of the source that the configured rule leaves out",
}


def explain_protocol(protocol: Mapping[str, Any]) -> dict[str, list[Any]]:
    """A protocol as sentences for the entries with a known meaning, and (name, value) pairs for all.

    Args:
        protocol: entries of ``metrics.json``.

    Returns:
        ``sentences`` and ``facts``; both empty for an empty protocol.
    """
    known = [_PROTOCOL.get((key, value)) for key, value in protocol.items() if isinstance(value, str)]
    facts = [
        (_PROTOCOL_NAMES.get(key, name), _PROTOCOL_VALUES.get((key, text), text))
        for key, (name, text) in zip(protocol, words(protocol), strict=True)
    ]
    return {"sentences": [sentence for sentence in known if sentence], "facts": facts}


def data_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """All that is known of the data as (name, value) pairs, in the order of the payload."""
    return [(_DATA_NAMES.get(key, name), value) for key, (name, value) in zip(data, words(data), strict=True)]


def summary_of_data(data: Mapping[str, Any]) -> str:
    """What the data are, in one sentence; empty if little is known."""
    counted = [f"{plain(data[key])} {key}" for key in ("users", "items", "interactions") if as_number(data.get(key))]
    if not counted:
        return ""
    told = counted[0] if len(counted) == 1 else f"{', '.join(counted[:-1])} and {counted[-1]}"
    if data.get("first") and data.get("last"):
        told += f" from {data['first']} to {data['last']}"
    named = {"train": "training", "valid": "validation", "test": "test"}
    parts = [f"{plain(data[key])} for {name}" for key, name in named.items() if as_number(data.get(key)) is not None]
    return f"{told}: {', '.join(parts)}." if parts else f"{told}."


def summary_of_protocol(protocol: Mapping[str, Any], cuts: Mapping[str, str]) -> list[str]:
    """How the data were split and what was ranked, in a few sentences.

    Args:
        protocol: entries of ``metrics.json``.
        cuts: what begins (validation, test) -> the day, under a temporal split.
    """
    shown = {key: protocol[key] for key in ("split", "seen") if key in protocol}
    told = explain_protocol(shown)["sentences"]
    if cuts:
        told.insert(1, " ".join(f"{name.capitalize()} begins on {day}." for name, day in cuts.items()))
    if (n_items := as_number(protocol.get("candidates"))) is not None:
        told.append(f"Every list ranks the whole catalogue of {n_items:,.0f} items.")
    return told


def warnings(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What changes how to read the figures, as (what it is, what it means); see ``render_report`` for the payload."""
    data, protocol = payload.get("data") or {}, payload.get("protocol") or {}
    found = [
        _synthetic(bool(payload.get("synthetic"))),
        few_users(payload.get("n_users"), "test users"),
        few_hits(payload.get("n_users"), payload.get("retrievers") or {}),
        _unreachable(data, protocol, payload.get("n_users")),
        _without_history(data, payload.get("n_users")),
        _cold(data),
        _tied(data, protocol, payload.get("n_users")),
        _dependent(str(payload.get("built_on") or "")),
        _empty(payload.get("lists") or {}, payload.get("n_users")),
    ]
    return [warning for warning in found if warning is not None]


Warned = tuple[str, str] | None


def _synthetic(synthetic: bool) -> Warned:
    if not synthetic:
        return None
    return (
        "Synthetic data.",
        "A program generated the interactions. The figures show that the pipeline works, not how well it would do for "
        "real users.",
    )


def _unreachable(data: Mapping[str, Any], protocol: Mapping[str, Any], n_users: Any) -> Warned:
    """Users whose every target was seen before: they have no hit where seen items are filtered."""
    share = _share(data.get("seen_targets_only"), n_users)
    if protocol.get("seen") != "filtered" or share is None:
        return None
    return (
        f"{_percent(share)} of the test users cannot be hit.",
        "All their targets are already in their history, and items of the history are never recommended. No retriever "
        f"can have a recall above {1 - share:.2f} here; where seen items are kept, this limit does not apply.",
    )


def _without_history(data: Mapping[str, Any], n_users: Any) -> Warned:
    lost, asked = as_number(data.get("users_without_history")), as_number(n_users)
    share = _share(lost, (lost or 0) + (asked or 0))
    if share is None:
        return None
    return (
        f"{_percent(share)} of the users with a test item have no history before it.",
        "They are not part of the test, so the figures say nothing about new users.",
    )


def _cold(data: Mapping[str, Any]) -> Warned:
    share = _share(data.get("cold_test"), data.get("test"))
    if share is None:
        return None
    return (
        f"{_percent(share)} of the test interactions are with items that training lacks.",
        "Only a retriever that uses the items' content can find these.",
    )


def _tied(data: Mapping[str, Any], protocol: Mapping[str, Any], n_users: Any) -> Warned:
    """Users with several last items, of whom one is the target; a temporal split takes all that is later."""
    share = _share(data.get("tied_targets"), n_users)
    if protocol.get("split") != "leave-one-out" or share is None:
        return None
    return (
        f"Tie-breaking decides the test target of {_percent(share)} of the users.",
        "Their last interactions share a timestamp, so the log does not say which item came last"
        + (": the order of the input decides." if protocol.get("ties in time") == "keep" else ".")
        + " The slices show these users apart.",
    )


def _dependent(teacher: str) -> Warned:
    if not teacher:
        return None
    return f"plum is built on {teacher}.", "Compare them as a model and its teacher, not as two independent systems."


def _empty(lists: Mapping[str, Any], n_users: Any) -> Warned:
    """Retrievers that have nothing to recommend to some users."""
    counts = {name: as_number((facts or {}).get("users without any item")) for name, facts in lists.items()}
    told = [f"{name} for {count:,.0f} users" for name, count in counts.items() if count and _share(count, n_users)]
    if not told:
        return None
    return "Some lists are empty:", f"{', '.join(told)}. Each of them counts as a miss."


def _share(part: Any, whole: Any) -> float | None:
    """A share that is worth saying; None for a smaller one, and where a number is missing."""
    some, of_all = as_number(part), as_number(whole)
    if some is None or not of_all or some / of_all < WORTH_SAYING:
        return None
    return some / of_all


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"
