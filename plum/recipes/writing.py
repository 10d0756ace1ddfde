"""A pipeline as YAML, with the reason beside every line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from plum.foreign import one_line, visible
from plum.recipes.recipe import Choice

WIDTH = 120
_COMMENT_AT = 56
"""Column at which reasons begin, where the line leaves room."""


def nested(choices: Iterable[Choice]) -> dict[str, Any]:
    """The configuration that choices make.

    Example:
        >>> nested([Choice("cpt.epochs", 3, "enough")])
        {'cpt': {'epochs': 3}}
    """
    values: dict[str, Any] = {}
    for choice in choices:
        *parents, last = choice.key.split(".")
        node = values
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = choice.value
    return values


def to_yaml(header: Sequence[str], choices: Sequence[Choice]) -> str:
    """Write a commented configuration.

    Args:
        header: lines of the comment at the top.
        choices: one line each; those of one section must follow each other.
    """
    lines = [f"# {line}".rstrip() for text in header for line in _wrapped(text, WIDTH - 2)]
    before: list[str] = []
    for choice in choices:
        *parents, last = choice.key.split(".")
        shared = 0
        while shared < min(len(before), len(parents)) and before[shared] == parents[shared]:
            shared += 1
        lines += ["  " * depth + f"{parent}:" for depth, parent in enumerate(parents) if depth >= shared]
        lines += _entry("  " * len(parents), last, choice)
        before = parents
    return "\n".join(lines) + "\n"


def _wrapped(text: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(
        visible(text), width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )
    return wrapped or [""]


def _entry(indent: str, name: str, choice: Choice) -> list[str]:
    """One key with its reason: behind it, or above it where both together are too long."""
    line, why = f"{indent}{_scalar(name)}: {_scalar(choice.value)}", one_line(choice.why)
    if not choice.why:
        return [line]
    beside = f"{line:<{_COMMENT_AT}}  # {why}"
    if len(beside) <= WIDTH:
        return [beside]
    return [*(f"{indent}# {part}" for part in textwrap.wrap(why, WIDTH - 2 - len(indent))), line]


def _scalar(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    # Quoted for the inside of {...}, where more characters have a meaning.
    return str(yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1])
