"""The file ``config.yaml`` of a run: how it is written, and whether one was cut short.

Its last line is the SHA-256 of those before it. A file that was edited, as users do who start a pipeline from it, keeps
that line, and is read as it is. One without the line was cut short: what is left of it may be another configuration.
"""

from __future__ import annotations

import hashlib
import re

HEADER = "# Written by plum, whole if the last line says so: the configuration of this run, with defaults and settings"
BEFORE_0_8 = "# Written by plum: the whole configuration of this run, defaults and settings included"
"""The first line of earlier versions, which wrote no last line."""

_END = "# The end of this configuration; SHA-256 of the lines before: "
_ENDED = re.compile(rf"^{re.escape(_END)}[0-9a-f]{{64}}$", re.MULTILINE)


def sealed(text: str) -> str:
    """A configuration with its first and last line."""
    whole = f"{HEADER}\n{text}"
    return f"{whole}{_END}{_digest(whole)}\n"


def is_plums(content: bytes) -> bool:
    """Whether plum wrote a file, or the beginning of it."""
    whole = (HEADER.encode(), BEFORE_0_8.encode())
    return any(content.startswith(line) or line.startswith(content) for line in whole)


def is_cut_short(text: str) -> bool:
    """Whether a file that plum wrote lacks its end; no other file does."""
    return text.startswith(HEADER) and _ENDED.search(text) is None


def is_edited(text: str) -> bool:
    """Whether a file that plum wrote has been changed since."""
    found = _ENDED.search(text)
    return found is not None and not found.group().endswith(_digest(text[: found.start()]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
