"""`plum inspect`: what an item's Semantic ID means, shown by the items that share its prefixes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from plum.config.items import BEHAVIOUR
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.rules.lookup import ItemNames
from plum.run import artifacts, shapes
from plum.run.manifest import has_file
from plum.run.stage import StageRun
from plum.sid.neighbours import Shared, at_each_prefix, with_prefixes
from plum.sid.table import SidTable
from plum.stages import inputs
from plum.vectors.unit import joined

BLOCK = 8192
"""Items compared at a time."""

_TOKENS = re.compile(r"(<\|sid_\d+_\d+\|>\s*)+")
_TOKEN = re.compile(r"<\|sid_(\d+)_(\d+)\|>")
_CODES = re.compile(r"[\[(]?\s*(\d+(?:\s*[-,\s]\s*\d+)*)\s*[\])]?")


@dataclass(frozen=True)
class Item:
    """An item of the catalogue; ``popularity`` is its training interactions, ``codes`` its Semantic ID."""

    item_id: str
    title: str | None
    popularity: int
    codes: list[int]


@dataclass(frozen=True)
class Prefix:
    """A prefix of a Semantic ID.

    Attributes:
        codes: of the prefix.
        total: number of items that share it, without the inspected one.
        items: the most popular of them.
    """

    codes: list[int]
    total: int
    items: list[Item]


@dataclass(frozen=True)
class Alike(Item):
    """An item of similar content.

    Attributes:
        cosine: of the two items' content.
        shared: length of their Semantic IDs' common prefix.
    """

    cosine: float
    shared: int


@dataclass(frozen=True)
class Inspected:
    """The result of an inspection.

    Attributes:
        item: the inspected item; None for a Semantic ID.
        topics, creator: of the item.
        codes: the item's Semantic ID, or the given codes.
        sizes: codes per level.
        disambiguated: whether the last level is the disambiguation code.
        prefixes: an entry for each length of ``codes``.
        alike: the items nearest to the item in content; None if the run has no content, or for a Semantic ID.
        mean_cosines: of two items of the catalogue, by modality of content.
        note: another possible meaning of the request.
    """

    item: Item | None
    topics: list[str]
    creator: str | None
    codes: list[int]
    sizes: list[int]
    disambiguated: bool
    prefixes: list[Prefix]
    alike: list[Alike] | None
    mean_cosines: dict[str, float]
    note: str | None


def inspect(config: RunConfig, asked: str, n: int = 5) -> Inspected:
    """Inspect an item, a Semantic ID, or a prefix of one.

    Args:
        config: of a run with Semantic IDs.
        asked: an item id; a title, as :class:`plum.rules.lookup.ItemNames` finds it; codes, as ``12-7-3``, ``12,7,3``
            or ``<|sid_0_12|><|sid_1_7|>``; or words of a title. The first of these that matches is used.
        n: most items to list at each length.

    Raises:
        PlumError: if there is no such item or code, several titles have these words, or the run has no Semantic IDs.
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, found {n}")
    needed = [artifacts.ITEMS, artifacts.SPLIT, artifacts.SEMANTIC_IDS, artifacts.QUALITY]
    StageRun(config.workdir, "inspect", {}, config.seed, needed)  # refuses files that don't belong together
    data = inputs.read_prepared(config.workdir)
    table = inputs.read_sid_table(config.workdir, data.items)
    quality = artifacts.read_json(config.workdir / artifacts.QUALITY, shapes.Levels)
    catalogue = _Catalogue(data.items, table, data.popularity)
    meant = _meaning(asked, catalogue)
    if meant.row is None:
        item, topics, creator, alike = None, [], None, None
        found = with_prefixes(table.codes, meant.codes, catalogue.popularity, n)
    else:
        item = catalogue.items_of([meant.row])[0]
        about = data.items.iloc[meant.row]
        topics = [str(topic) for topic in about["topics"]] if isinstance(about["topics"], list | np.ndarray) else []
        creator = about["creator"] if isinstance(about["creator"], str) else None
        found = at_each_prefix(table.codes, meant.row, catalogue.popularity, n)
        alike = _alike(config.workdir, catalogue, meant.row, n)
    prefixes = [_prefix(shared, meant.codes, catalogue) for shared in found]
    disambiguated = bool(quality.get("disambiguated", False))
    cosines = {} if alike is None else _mean_cosines(config.workdir)
    about_codes = meant.codes, list(table.sizes), disambiguated, prefixes
    return Inspected(item, topics, creator, *about_codes, alike, cosines, meant.note)


class _Meaning(NamedTuple):
    """A row of the catalogue and its codes; or no row, and the given codes. See :class:`Inspected` for the note."""

    row: int | None
    codes: list[int]
    note: str | None = None


@dataclass(frozen=True)
class _Catalogue:
    """N items, their Semantic IDs, and their training interactions (N,)."""

    frame: pd.DataFrame
    table: SidTable
    popularity: np.ndarray

    def items_of(self, rows: Sequence[int]) -> list[Item]:
        """Catalogue rows as items."""
        chosen = self.frame.iloc[list(rows)]
        return [
            Item(item_id, title if isinstance(title, str) else None, int(self.popularity[row]), self.codes_of(row))
            for row, item_id, title in zip(rows, chosen["item_id"].tolist(), chosen["title"].tolist(), strict=True)
        ]

    def codes_of(self, row: int) -> list[int]:
        """The Semantic ID of a row."""
        codes: list[int] = self.table.codes[row].tolist()
        return codes


def spelt(codes: Sequence[int]) -> str:
    """Codes in the short form. Example: [12, 7, 3] -> 12-7-3."""
    return "-".join(map(str, codes))


def _meaning(asked: str, catalogue: _Catalogue) -> _Meaning:
    """The meaning of a request: an item id, a whole title, codes, or words of a title; the first that matches."""
    codes = _parsed(asked.strip())
    legal = codes is not None and not _mistake(codes, catalogue.table.sizes)
    names = ItemNames(catalogue.frame, catalogue.popularity)
    tokens = _TOKENS.fullmatch(asked.strip()) is not None
    found = names.find(asked, words=not (legal or tokens))
    if len(found.rows) == 1:
        note = None
        if legal and codes is not None:
            spelt_out = "".join(f"<|sid_{level}_{code}|>" for level, code in enumerate(codes))
            note = f"{asked!r} is read as an item's {found.by}; as a Semantic ID it would be '{spelt_out}'"
        return _Meaning(found.rows[0], catalogue.codes_of(found.rows[0]), note)
    if found.rows:
        raise names.several(asked, found)
    if codes is None:
        best = catalogue.codes_of(int(catalogue.popularity.argmax()))
        raise names.unknown(asked, f", or codes such as {spelt(best)}")
    if mistake := _mistake(codes, catalogue.table.sizes):
        raise PlumError(
            f"no Semantic ID begins with {asked!r}: {mistake}",
            f"codebook sizes {list(catalogue.table.sizes)}; no item has this id, or this in its title",
            "give codes from 0 to their level's size minus 1, or an item",
        )
    return _Meaning(None, codes)


def _parsed(asked: str) -> list[int] | None:
    """Parse codes; None for other text.

    Raises:
        PlumError: for tokens that are not in the order of their levels.
    """
    if _TOKENS.fullmatch(asked):
        pairs = [(int(level), int(code)) for level, code in _TOKEN.findall(asked)]
        if [level for level, _ in pairs] != list(range(len(pairs))):
            raise PlumError(
                f"{asked!r} is not a prefix of a Semantic ID",
                f"tokens of levels {', '.join(str(level) for level, _ in pairs)}",
                "give the tokens of levels 0, 1, and so on",
            )
        return [code for _, code in pairs]
    match = _CODES.fullmatch(asked)
    return [int(code) for code in re.findall(r"\d+", match[1])] if match else None


def _mistake(codes: Sequence[int], sizes: Sequence[int]) -> str | None:
    """Why codes can't be a prefix of a Semantic ID; None if they can."""
    if len(codes) > len(sizes):
        return f"{len(codes)} codes for {len(sizes)} levels"
    return next(
        (f"level {level} has no code {code}" for level, code in enumerate(codes) if code >= sizes[level]),
        None,
    )


def _prefix(shared: Shared, codes: Sequence[int], catalogue: _Catalogue) -> Prefix:
    return Prefix(list(codes[: shared.length]), shared.total, catalogue.items_of(shared.rows.tolist()))


def _alike(workdir: Path, catalogue: _Catalogue, row: int, n: int) -> list[Alike] | None:
    """The n items with the largest cosine, ties by catalogue row; none for an item without content."""
    content = _content(workdir, len(catalogue.frame))
    if content is None:
        return None
    cosines = _cosines(content, row)
    cosines[row] = -np.inf
    nearest_rows = np.argsort(-cosines, kind="stable")[:n]
    rows: list[int] = nearest_rows[np.isfinite(cosines[nearest_rows])].tolist()
    own = catalogue.table.codes[row]
    shared = (catalogue.table.codes[rows] == own).cumprod(axis=1).sum(axis=1)
    return [
        Alike(**vars(item), cosine=float(cosines[place]), shared=int(length))
        for item, place, length in zip(catalogue.items_of(rows), rows, shared, strict=True)
    ]


def _content(workdir: Path, n_items: int) -> list[np.ndarray] | None:
    """Memory-mapped vectors (N, D_m) of the content modalities; None if the run has none of this catalogue."""
    if not has_file(workdir, artifacts.FEATURES_SUMMARY):
        return None
    made = inputs.read_modalities(workdir)
    names = [name for name, entry in made.items() if entry["encoder"] not in BEHAVIOUR]
    if not names or any(made[name]["shape"][0] != n_items for name in names):
        return None
    return [inputs.read_vectors(workdir, name, n_items, mapped=True) for name in names]


def _mean_cosines(workdir: Path) -> dict[str, float]:
    """What stage features measured, by modality of content."""
    return {
        name: entry["mean_cosine"]
        for name, entry in inputs.read_modalities(workdir).items()
        if entry["encoder"] not in BEHAVIOUR and entry.get("mean_cosine") is not None
    }


def _cosines(content: Sequence[np.ndarray], row: int) -> np.ndarray:
    """Cosine (N,) of every item's content with one item's, -inf if either has none."""
    query = joined([vectors[row : row + 1] for vectors in content])[0]
    cosines = np.full(len(content[0]), -np.inf, dtype=np.float32)
    for start in range(0, len(cosines), BLOCK):
        block = joined([vectors[start : start + BLOCK] for vectors in content])
        lengths = np.linalg.norm(block, axis=1) * np.linalg.norm(query)
        there = lengths > 0
        cosines[start : start + BLOCK][there] = (block @ query)[there] / lengths[there]
    return cosines
