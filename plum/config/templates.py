"""The form of document templates: text with names of fields in braces, such as ``Item {sid} has title: {title}``."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

SID = "sid"
"""The field of the Semantic ID."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Template:
    """A template in parts.

    Attributes:
        text: as it was written.
        parts: each field, with the literal text before it.
        tail: the literal text after the last field.

    Example: ``Item {sid} is by {creator}.`` -> parts ``("Item ", "sid"), (" is by ", "creator")``, tail ``"."``.
    """

    text: str
    parts: tuple[tuple[str, str], ...]
    tail: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(name for _, name in self.parts)


def parse_template(text: str) -> Template:
    """Take a template apart; ``{{`` and ``}}`` are braces as text.

    Raises:
        ValueError: if braces don't match, a name is none, or the Semantic ID is not named exactly once.
    """
    parts, before = [], ""
    try:
        found = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"template {text!r}: {error}; write {{{{ and }}}} for braces that are text") from None
    for literal, name, layout, conversion in found:
        before += literal
        if name is None:
            continue
        if layout or conversion or not _NAME.fullmatch(name):
            raise ValueError(f"template {text!r}: {{{name}}} is no field; between braces stands one name")
        parts.append((before, name))
        before = ""
    template = Template(text, tuple(parts), before)
    if (n_sids := template.fields.count(SID)) != 1:
        raise ValueError(f"template {text!r} names {{{SID}}} {n_sids} times; it must name it once")
    if len(set(template.fields)) < len(template.fields):
        raise ValueError(f"template {text!r} names a field twice")
    return template
