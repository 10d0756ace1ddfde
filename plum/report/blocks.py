"""What a report consists of: sections of blocks, each of them text already; the templates only lay out.

HTML and Markdown are made of the same blocks, so that neither says what the other does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class Text:
    """A paragraph; a quiet one explains what stands beside it."""

    kind: ClassVar[str] = "text"
    text: str
    quiet: bool = True


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Facts:
    """Names with what is known of them; in a narrow window, long ones stand below their names."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]
    long: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, a smaller text beside it, and whether it stands out, as good or (in red) as bad."""

    value: str
    small: str = ""
    best: bool = False
    bad: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table: its heading, its cells, and whether it stands out or is set apart from the rows above."""

    name: str
    cells: Sequence[Cell]
    marked: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        label: what it holds, for readers who cannot see it.
        head: the heading above the rows' names.
        columns: the headings of the other columns.
        rows: each with as many cells as there are columns.
        left: columns of text, which are not flush right.
        look: classes of the style sheet: "dense", "narrow", "tall" (scrolls on a screen), "wordy" (cells wrap), "main".
    """

    kind: ClassVar[str] = "table"
    label: str
    head: str
    columns: Sequence[str]
    rows: Sequence[Row]
    left: Collection[str] = ()
    look: str = ""


@dataclass(frozen=True)
class Picture:
    """An inline picture and what it shows."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side, as many as fit the width."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Columns:
    """Groups of blocks side by side where the window has the width for it, else below each other.

    Attributes:
        groups: what stands together.
        wide: whether a group needs more than half of a common window.
    """

    kind: ClassVar[str] = "columns"
    groups: Sequence[Sequence[Any]]
    wide: bool = False


@dataclass(frozen=True)
class Code:
    """Lines that are shown as they are."""

    kind: ClassVar[str] = "code"
    label: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Recommended:
    """One place of a list that a user got: the item, and whether it is a target."""

    title: str
    hit: bool


@dataclass(frozen=True)
class Example:
    """A user's history, target and lists, the most important list first."""

    kind: ClassVar[str] = "example"
    user: str
    history: Sequence[str]
    target: str
    lists: Sequence[tuple[str, Sequence[Recommended]]]


@dataclass(frozen=True)
class Section:
    """A part of the report that is folded at first sight.

    Attributes:
        anchor: unlike that of any other section.
        title: of the section.
        gist: a few words beside the title, for readers who decide whether to unfold it.
        blocks: what it holds; a section without any is left out.
    """

    anchor: str
    title: str
    gist: str = ""
    blocks: Sequence[Any] = field(default_factory=list)


def pictures(found: Iterable[Picture | None]) -> list[Pictures]:
    """A block of the pictures that there are; no block without any."""
    there = [picture for picture in found if picture is not None]
    return [Pictures(there)] if there else []
