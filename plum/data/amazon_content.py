"""What a product of the Amazon metadata says of itself: one line of 2014, 2018 or 2023 -> title, topics, ..."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from plum.data.markup import plain_text
from plum.data.missing import is_missing, no_prose

Content = dict[str, Any]
"""``title``, ``topics`` (list of texts), ``creator``, ``description``, each None if there is none."""

_SCRIPT = "getTime()"  # 2018: the page's script where the title should be
_CREATORS = ("brand", "store", "author", "artist", "manufacturer")
_NO_CONTENT = frozenset(
    ("best sellers rank", "date first available", "upc", "asin", "isbn 10", "isbn 13", "item model number", "batteries")
)
"""Details that say nothing of what a product is."""


def content_of(record: Mapping[str, Any]) -> Content:
    """The content of one line, without markup.

    The description is the first that there is of the page's description, the subtitle with its list of features, and
    its table of details; the creator that of brand, store, author or the details. Without categories the main one is
    the topic.
    """
    details = dict(_details(record.get("details")))
    title = _prose(record.get("title"))
    topics = _topics(record.get("categories")) or _topics(record.get("category"))
    creators = [record.get(name) for name in _CREATORS] + [details.get(name.capitalize()) for name in _CREATORS]
    features = [record.get("subtitle"), record.get("features") or record.get("feature")]
    told = [f"{key}: {value}" for key, value in details.items() if key.lower() not in _NO_CONTENT]
    return {
        "title": None if title and _SCRIPT in title else title,
        "topics": topics or _topics(record.get("main_category") or record.get("main_cat")),
        "creator": next((name for name in map(_name, creators) if name), None),
        "description": _prose(record.get("description")) or _prose(features) or _prose("; ".join(told)),
    }


def merged(one: Content, other: Content) -> Content:
    """Two lines of one product: the fuller one, with the other's values where it has none; the first of equals."""
    best, rest = (other, one) if _size(other) > _size(one) else (one, other)
    return {name: value or rest.get(name) for name, value in best.items()}


def _size(content: Content) -> tuple[int, int]:
    """Fields that are there, and characters in them."""
    return sum(bool(value) for value in content.values()), sum(len(str(value)) for value in content.values() if value)


def _leaves(value: Any) -> Iterator[str]:
    """The texts in lists of any depth; items of 2014 have several category paths."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, str | int | float) and not isinstance(value, bool) and not no_prose(str(value)):
        yield str(value)


def _prose(value: Any) -> str | None:
    """A text or list of texts as one text, without markup; None if there is none."""
    return " ".join(filter(None, map(plain_text, _leaves(value)))) or None


def _topics(value: Any) -> list[str] | None:
    return list(dict.fromkeys(filter(None, map(plain_text, _leaves(value))))) or None


def _name(value: Any) -> str | None:
    """A name; books of 2023 have an object about their author."""
    name = _prose(value.get("name") if isinstance(value, dict) else value)
    return None if is_missing(name) else name


def _details(value: Any) -> Iterator[tuple[str, str]]:
    """The table of details, as an object, or as the JSON text of one."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return
    if isinstance(value, dict):
        for key, held in value.items():
            text = _prose(held)
            if text:
                yield plain_text(str(key)).rstrip(" :"), text
