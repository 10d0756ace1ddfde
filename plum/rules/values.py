"""The values of rules: folded texts, numbers, dates, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection
from datetime import datetime, timedelta, timezone

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d{1,30}")
_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)([T ](?P<minute>\d\d:\d\d)(?P<second>:\d\d)?(?P<fraction>\.\d{1,6})?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SPANS = {"fraction": 1, "second": 1_000_000, "minute": 60_000_000, "date": 86_400_000_000}  # the finest part counts
_MANY = 5_000  # more names than this are pre-filtered before the search for the nearest


def fold(text: str) -> str:
    """Normalise a text for comparison: case folded, accents in one spelling."""
    return unicodedata.normalize("NFC", text.casefold())


def nearest(wanted: str, known: Collection[str], n: int = 3) -> list[str]:
    """Up to n of the known names that are most like the wanted one, ignoring case; the nearest first."""
    folded = fold(wanted)
    if len(known) > _MANY:  # comparing with each of a million titles would take minutes
        alike = [name for name in known if abs(len(name) - len(wanted)) <= 2 and fold(name[:1]) == folded[:1]]
        known = sorted(alike, key=lambda name: fold(name[:3]) != folded[:3])[:_MANY]
    names = {fold(name): name for name in known}
    return [names[match] for match in difflib.get_close_matches(folded, list(names), n=n)]


def number(text: str) -> int | float | None:
    """Parse a number; None for other text.

    Example:
        >>> number("1990"), number("-1.5e3"), number("7b2f")
        (1990, -1500.0, None)
    """
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None


def moment(text: str) -> tuple[int, int] | None:
    """Start and end of the day, minute or second that a text names; None for text that is not a date.

    Returns:
        Microseconds since 1970; UTC if no zone is given. The end is exclusive.

    Example:
        >>> moment("1970-01-02"), moment("1970-01-01T00:01Z"), moment("1970")
        ((86400000000, 172800000000), (60000000, 120000000), None)
    """
    match = _MOMENT.fullmatch(text)
    if not match:
        return None
    clock = (match["minute"] or "00:00") + (match["second"] or ":00") + (match["fraction"] or ".").ljust(7, "0")
    zone = (match["zone"] or "Z").replace("Z", "+00:00")
    try:
        start = datetime.fromisoformat(f"{match['date']}T{clock}{zone}")
    except ValueError:  # February 30
        return None
    micros = (start - _EPOCH) // timedelta(microseconds=1)
    return micros, micros + next(span for part, span in _SPANS.items() if match[part])
