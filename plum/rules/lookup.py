"""Which item of the catalogue a reader means by an id, a title, or words of one."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.foreign import one_line
from plum.rules.values import fold, nearest

CANDIDATES = 8
"""Items listed in a message."""

_ARTICLES = "the|a|an|le|la|les|l'|un|une|der|die|das|ein|eine|el|los|las|una|il|lo|gli|i|uno|o|os|as|um|uma|de|het|den"
_TURNED = re.compile(rf"(?P<rest>[^(]+?), (?P<article>{_ARTICLES})(?=$| \()")
_YEAR = re.compile(r" ?\((\d{4})\)$")
_WORD = re.compile(r"\w+")


class Found(NamedTuple):
    """What was found, and by what: catalogue rows, none if nothing was."""

    by: Literal["id", "title", "words"]
    rows: list[int]


class ItemNames:
    """The ids and titles of a catalogue, prepared when they are first needed and kept.

    Args:
        items: N rows: ``item_id`` (unique) and ``title``, which may be missing.
        popularity: (N,), by which several items are listed.

    Example:
        >>> items = pd.DataFrame({"item_id": ["7", "8"], "title": ["Matrix, The (1999)", "Fargo (1996)"]})
        >>> names = ItemNames(items, np.array([3, 1]))
        >>> names.row_of(" the matrix "), names.row_of("Fargo"), names.row_of("8")
        (0, 1, 1)
    """

    def __init__(self, items: pd.DataFrame, popularity: np.ndarray) -> None:
        self._items, self._popularity = items, popularity

    def row_of(self, asked: str) -> int:
        """The one row that a text means.

        Raises:
            PlumError: if no item has this id, title, or words in its title, or several have.
        """
        found = self.find(asked)
        if not found.rows:
            raise self.unknown(asked)
        if len(found.rows) > 1:
            raise self.several(asked, found)
        return found.rows[0]

    def find(self, asked: str, words: bool = True) -> Found:
        """The rows that a text means, by the first of these that any item satisfies.

        1. its id is the text, or the text but for blanks around it, case, and the spelling of accents in Unicode;
        2. so is its title;
        3. so is its title, read without year and with its article in front: "Matrix, The (1999)" is "the matrix";
        4. plum shows its id, or its title, as the text, with control characters as escapes;
        5. its title contains the text;
        6. its title contains the words of the text, in any order, accents and punctuation left out.

        Args:
            asked: the text.
            words: whether to go on to 5 and 6.
        """
        if not (wanted := _plain(asked)):
            return Found("id", [])
        for exact in (asked, asked.strip()):
            if same := np.flatnonzero((self._items["item_id"] == exact).to_numpy(dtype=bool)).tolist():
                return Found("id", same)
        if rows := _equal(self._ids, wanted):
            return Found("id", rows)
        if rows := _equal(self._titles, wanted) or self._by_parts(wanted):
            return Found("title", rows)
        if "\\" in wanted and (shown := self._as_shown(wanted)):
            return shown
        if words and (rows := [row for row, title in enumerate(self._titles) if wanted in title]):
            return Found("words", rows)
        return Found("words", self._by_words(wanted) if words else [])

    def several(self, asked: str, found: Found) -> PlumError:
        """That a text means several items, with their ids."""
        rows = found.rows
        first = sorted(rows, key=lambda row: (-self._popularity[row], row))[:CANDIDATES]
        chosen = self._items.iloc[first]
        pairs = zip(chosen["item_id"].tolist(), chosen["title"].tolist(), strict=True)
        listed = [f"{item_id} {title!r}" if isinstance(title, str) else str(item_id) for item_id, title in pairs]
        more = f", and {len(rows) - len(listed):,} more" if len(rows) > len(listed) else ""
        means = {
            "id": f"the id {asked!r} but for case or the spelling of accents",
            "title": f"the title {asked!r}",
            "words": f"{asked!r} in their title",
        }
        return PlumError(
            f"{len(rows):,} items have {means[found.by]}", ", ".join(listed) + more, "give the item id of one of them"
        )

    def unknown(self, asked: str, also: str = "") -> PlumError:
        """That no item is meant by a text, with the nearest ids and titles; ``also`` is what else may be given."""
        ids = self._items["item_id"].tolist()
        titles: dict[str, list[str]] = {}
        for title, item_id in zip(self._items["title"].tolist(), ids, strict=True):
            if isinstance(title, str):
                titles.setdefault(title, []).append(item_id)
        wanted = asked.strip()
        near = [f"id {item_id!r}" for item_id in nearest(wanted, ids)]
        near += [f"{item_id} {title!r}" for title in nearest(wanted, list(titles)) for item_id in titles[title][:3]]
        if not near:
            words = {word for title in titles for word in title.split()}
            near = [f"the word {word!r}" for word in nearest(wanted, words)]
        return PlumError(
            f"no item has the id {asked!r}, or this in its title",
            f"similar: {', '.join(near)}" if near else f"ids look like {ids[0]!r}" if ids else "no items",
            f"give an item id, or words of a title{also}",
        )

    @cached_property
    def _ids(self) -> list[str]:
        return [_plain(item_id) for item_id in self._items["item_id"].tolist()]

    @cached_property
    def _titles(self) -> list[str]:
        """Folded, empty for items without a title."""
        return [_plain(title) if isinstance(title, str) else "" for title in self._items["title"].tolist()]

    @cached_property
    def _parts(self) -> list[tuple[str, str]]:
        """Titles as name and year; see :func:`_parted`."""
        return [_parted(title) for title in self._titles]

    def _by_parts(self, wanted: str) -> list[int]:
        """The titles of this name; the year counts where both have one."""
        name, year = _parted(wanted)
        found = [(row, own) for row, (title, own) in enumerate(self._parts) if title == name and title]
        return [row for row, own in found if not (year and own) or own == year]

    def _as_shown(self, wanted: str) -> Found | None:
        """The rows whose id, or else title, is shown as a folded text, with escapes in it."""
        for column in ("item_id", "title"):
            texts = [one_line(text) if isinstance(text, str) else "" for text in self._items[column].tolist()]
            if rows := [row for row, text in enumerate(texts) if "\\" in text and _plain(text) == wanted]:
                return Found("id" if column == "item_id" else "title", rows)
        return None

    def _by_words(self, wanted: str) -> list[int]:
        words = set(_words(wanted))
        return [row for row, title in enumerate(self._titles) if title and words <= set(_words(title))] if words else []


def _plain(text: str) -> str:
    """Folded, one blank between words and none around them."""
    return fold(" ".join(str(text).split()))


def _equal(known: list[str], wanted: str) -> list[int]:
    return [row for row, text in enumerate(known) if text == wanted]


def _parted(title: str) -> tuple[str, str]:
    """A folded title's name, its article in front, and its year, empty if it has none.

    Example:
        >>> _parted("city of lost children, the (cité des enfants perdus, la) (1995)")
        ('the city of lost children (cité des enfants perdus, la)', '1995')
    """
    name, year = title, ""
    if found := _YEAR.search(title):
        name, year = title[: found.start()], found[1]
    if turned := _TURNED.match(name):
        joint = "" if turned["article"].endswith("'") else " "
        name = turned["article"] + joint + turned["rest"] + name[turned.end() :]
    return name, year


def _words(text: str) -> list[str]:
    bare = "".join(mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark))
    return _WORD.findall(bare)
