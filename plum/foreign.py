r"""The one door for text that others wrote: titles, ids, names of columns and files, exceptions.

A terminal obeys control characters, and rich obeys square brackets. Whatever plum prints or logs goes through here:
control characters, marks that turn the direction of writing, blanks of no width, and halves of characters are shown as
escapes, ``\x1b`` for ESC, and brackets are brackets. Joiners stay: emoji and several scripts need them.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable
from numbers import Number
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# C0 and C1 but for tab and newline; lines and paragraphs of Unicode; direction; what has no width and joins nothing;
# the byte-order mark; lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_BREAKS = re.compile("[\t\n]")


def visible(text: str) -> str:
    r"""The text with control characters shown as escapes; tabs and newlines stay.

    Example:
        >>> print(visible("a\x1b[2Jb"))
        a\x1b[2Jb
    """
    return _CONTROL.sub(lambda found: _escape(found.group()), text)


def one_line(text: str) -> str:
    """The text with control characters, tabs and newlines shown as escapes, for one line of a log or table."""
    return _BREAKS.sub(lambda found: _escape(found.group()), visible(text))


def cell(value: object, style: str = "") -> Text:
    """A value of the data for a table of rich's: one line, no markup."""
    from rich.text import Text

    return Text(one_line(str(value)), style)


def json_text(text: str) -> str:
    """JSON with the control characters inside its texts escaped as JSON does, also those that it may leave."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _escape(mark: str) -> str:
    number = ord(mark)
    known = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(mark)
    return known or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


class VisibleFormatter(logging.Formatter):
    """Log lines without control characters; the values in them can't begin lines of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        if isinstance(record.args, tuple):
            record = copy.copy(record)
            record.args = tuple(
                value if isinstance(value, Number) else one_line(str(value)) for value in record.args or ()
            )
        return visible(super().format(record))


def terminal(**options: Any) -> Console:
    """A console of rich's that reads no markup and no emoji codes, and sends no control characters of texts."""
    from rich.console import Console
    from rich.segment import Segment

    class Terminal(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                text, style, control = segment
                yield segment if control else Segment(visible(text), style)

    return Terminal(markup=False, emoji=False, highlight=False, **options)
