"""What may lie beside Amazon's prepared sequences about items: titles, attributes, and names of attributes."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from plum.data.encodings import undecodable
from plum.data.files import Source, damage_reported, empty_file, refuse_other_contents
from plum.data.lines import lines
from plum.data.markup import plain_text
from plum.data.missing import prose_or_none
from plum.data.rows import warn
from plum.data.sequences import LineProblems
from plum.data.tables import RowProblem, refuse_many_problems
from plum.errors import PlumError

log = logging.getLogger(__name__)

_FIELDS = 3
_BRANDED, _NAMED = 100, 0.05
"""Items with title and brand, at least, of which at least this share name it: 77% in Sports and 83% in Beauty; with the
titles of the other set, .1% and less."""


class Titled(NamedTuple):
    """A line about an item: its ASIN, and its title without markup; None for what is not there."""

    code: str | None
    text: str | None


def read_titles(
    path: Path, items: Sequence[str], of: str, max_bad_share: float
) -> tuple[dict[str, Titled], list[RowProblem]]:
    """Read ``NAME_titles.tsv``, lines of item id, ASIN and title; nothing if it is not there.

    Unusable are lines that don't have three fields, lack the id, repeat one, or have one that is no item's.

    Args:
        path: the file.
        items: ids of the catalogue.
        of: the file that these are from, for messages.
        max_bad_share: share of unusable lines, from 0 to 1, over which the file is refused.

    Raises:
        PlumError: if the file is damaged, of other items, or too many lines are unusable.
    """
    rows, problems = _table(path, items, "the item", of, max_bad_share)
    if rows is None:
        return {}, []
    texts = prose_or_none([plain_text(text) or None for _, text in rows.values()])
    codes = [code.strip() or None for code, _ in rows.values()]
    titled = {item: Titled(code, text) for item, code, text in zip(rows, codes, texts, strict=True)}
    bare = len(items) - sum(one.text is not None for one in titled.values())
    if bare:
        log.warning("%s: %s of %s items have no title", path.name, f"{bare:,}", f"{len(items):,}")
    return titled, problems


def refuse_foreign_titles(path: Path, titles: Mapping[str, Titled], creators: Mapping[str, str], of: str) -> None:
    """Refuse titles that don't name the items' brands: all sets number their items from 1, so ids can't tell.

    Args:
        path: of the titles.
        titles: of :func:`read_titles`.
        creators: item -> brand.
        of: the file that the items are from, for messages.

    Raises:
        PlumError: if of many items with title and brand hardly any title holds the brand.
    """
    both = [(brand, titles[item].text or "") for item, brand in creators.items() if item in titles]
    named = sum(brand.lower() in text.lower() for brand, text in both)
    if len(both) >= _BRANDED and named < _NAMED * len(both):
        raise PlumError(
            f"{path.name} holds titles of other items, or the attributes do",
            f"of {len(both):,} items with a title and a brand, {named:,} have the brand in the title",
            f"get the files that belong to {of}, or take {path.name} away: the data can be used without it",
        )


def read_names(
    path: Path, attributes: Collection[str], max_bad_share: float
) -> tuple[dict[str, str | None], list[RowProblem]]:
    """Read ``NAME_attribute_names.tsv``, lines of attribute id, name and number of items; nothing if it is not there.

    Args and Raises as in :func:`read_titles`.

    Returns:
        Attribute -> name without markup, None for an attribute without one; and the unusable lines.
    """
    if not attributes:
        return {}, []
    rows, problems = _table(path, attributes, "the attribute", "the attributes of the items", max_bad_share)
    if rows is None:
        return {}, []
    names = dict(zip(rows, prose_or_none([plain_text(name) or None for name, _ in rows.values()]), strict=True))
    bare = sum(names.get(attribute) is None for attribute in attributes)
    if bare:
        example = min((one for one in attributes if names.get(one) is None), key=lambda one: (len(one), one))
        log.warning(
            "%s: %s of %s attributes have no name and stay numbers (first: attr_%s)",
            *(path.name, f"{bare:,}", f"{len(attributes):,}", example),
        )
    return names, problems


def _table(
    path: Path, known: Collection[str], what: str, of: str, max_bad_share: float
) -> tuple[dict[str, tuple[str, str]] | None, list[RowProblem]]:
    """Lines of an id and two texts, separated by tabs: id -> texts, None without a file; and the unusable lines."""
    if not path.is_file():
        return None, []
    source, wanted, rows, n_lines = Source(path), set(known), dict[str, tuple[str, str]](), 0
    problems = LineProblems(source)
    refuse_other_contents(source, "utf-8")
    with damage_reported(source):
        try:
            for number, line in enumerate(lines(source, "utf-8"), 1):
                fields = line.rstrip("\r\n").split("\t")
                if not any(field.strip() for field in fields):
                    continue
                n_lines += 1
                key = fields[0].strip()
                if len(fields) != _FIELDS:
                    problems.add(f"the line does not have {_FIELDS} fields, separated by tabs", number, line)
                elif not key:
                    problems.add(f"{what} is missing", number, line)
                elif key in rows:
                    problems.add(f"{what} repeats an earlier line", number, line)
                elif key not in wanted:
                    problems.add(f"{what} is not in {of}", number, line)
                else:
                    rows[key] = (fields[1], fields[2])
        except UnicodeError as error:
            raise undecodable(source, "utf-8", "get the file again") from error
    if not n_lines:
        raise empty_file(source)
    found = problems.told()
    fix = f"get the file that belongs to {of}, or take this one away: the data can be used without it"
    refuse_many_problems(found, n_lines, max_bad_share, fix)
    warn(found)
    return rows, found


def read_attributes(path: Path) -> dict[str, list[str]]:
    """Read ``NAME_item2attributes.json``: item -> ids of its attributes; nothing, with a warning, if it is not there.

    Raises:
        PlumError: if it holds something else.
    """
    if not path.is_file():
        log.warning("%s is not there: items will have no topics", path)
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {str(item): _attribute_ids(held) for item, held in table.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        what = f"{path.name} is not a JSON object of item -> attribute ids"
        raise PlumError(what, str(error), "get it again") from error


def _attribute_ids(held: object) -> list[str]:
    """The list of an item's attribute ids, as text.

    Raises:
        TypeError: for anything else than a list of numbers and texts.
    """
    if not isinstance(held, list) or any(isinstance(one, bool) or not isinstance(one, int | str) for one in held):
        raise TypeError(f"the attributes of an item are {str(held)[:40]!r}")
    return [str(one) for one in held]


def brands(attributes: Mapping[str, Sequence[str]]) -> set[str]:
    """Which attributes are brands, as far as the lists tell; empty if they don't.

    A list is an item's brand, if it has one, and then its categories from the widest on. So a brand begins every list
    that it is in, and few categories, the widest ones, come after it. Without brands it is the widest categories that
    begin the lists, and they are fewer than what comes after them: then no attribute is taken for a brand.

    Args:
        attributes: item -> attribute ids.

    Example:
        >>> sorted(brands({"1": ["7", "1", "2"], "2": ["8", "1", "3"], "3": ["1", "2"]}))
        ['7', '8']
    """
    held = Counter(one for row in attributes.values() for one in row)
    first = Counter(row[0] for row in attributes.values() if row)
    led = {row[0] for row in attributes.values() if len(row) > 1 and first[row[0]] == held[row[0]]}
    follow = {row[1] for row in attributes.values() if len(row) > 1 and row[0] in led}
    return led if len(led) > len(follow) else set()


def contents_of(
    attributes: Mapping[str, Sequence[str]], names: Mapping[str, str | None]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Turn attributes into words.

    Args:
        attributes: item -> attribute ids.
        names: attribute id -> name; empty if there are no names, so that no brand is told either.

    Returns:
        Item -> topics: the names of its attributes, each once, and ``attr_12`` for one without; and item -> creator:
        its brand, if it has one with a name.
    """
    if not names:
        return {item: [f"attr_{one}" for one in held] for item, held in attributes.items()}, {}
    led = brands(attributes)
    topics: dict[str, list[str]] = {}
    creators: dict[str, str] = {}
    for item, held in attributes.items():
        name = names.get(held[0]) if held and held[0] in led else None
        if name is not None:
            creators[item] = name
        rest = held if name is None else held[1:]
        topics[item] = list(dict.fromkeys(names.get(one) or f"attr_{one}" for one in rest))
    return topics, creators
