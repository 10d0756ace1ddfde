"""Amazon 2014 5-core sequences as prepared for S3-Rec, with the titles and days that may lie beside them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from plum.data.amazon_beside import contents_of, read_attributes, read_names, read_titles, refuse_foreign_titles
from plum.data.amazon_days import read_days
from plum.data.files import Source, missing_file
from plum.data.items import item_frame
from plum.data.rows import warn
from plum.data.sequences import Sequences, pseudo_random, read_sequences
from plum.data.tables import RawTables, RowProblem, refuse_many_problems
from plum.errors import PlumError

log = logging.getLogger(__name__)

# Users, items, interactions of the sequences as published with S3-Rec (CIKM 2020, table 1).
SEQUENCE_COUNTS = {
    "Beauty": (22_363, 12_101, 198_502),
    "Sports_and_Outdoors": (35_598, 18_357, 296_337),
    "Toys_and_Games": (19_412, 11_924, 167_597),
}
BESIDE = ("_item2attributes.json", "_attribute_names.tsv", "_titles.tsv", "_days.txt")
"""Ends of the names of the files that may lie beside ``NAME.txt``."""


def find_sequences(path: Path, name: str) -> Path | None:
    """Find ``NAME.txt`` in ``path``, its sub-folder ``amazon-2014``, or ``path`` itself; None if it isn't there."""
    places = (path, path / f"{name}.txt", path / "amazon-2014" / f"{name}.txt")
    return next((place for place in places if place.is_file()), None)


def load_amazon_sequences(path: Path, name: str, *, max_bad_share: float = 0.01) -> RawTables:
    """Read Amazon 2014 5-core sequences, ``NAME.txt``, and the files beside it that are there.

    - ``NAME_days.txt``: timestamps are the days, in seconds since 1970. Without it they are positions, 0 to n-1 within
      each user, because ``NAME.txt`` gives only the order (by day; within a day, the order of the file): times of
      different users can't be compared.
    - ``NAME_item2attributes.json``: topics are the attributes of an item, by name as far as
      ``NAME_attribute_names.tsv`` has names, else such as ``attr_12``. A brand that has a name is the creator instead,
      if the lists tell which attributes are brands (see :func:`plum.data.amazon_beside.brands`).
    - ``NAME_titles.tsv``: titles, and the extra column ``asin``.

    There are no ratings. Items with attributes but no interaction are kept. The catalogue is in pseudo-random order,
    because the files number items in the order of the interactions.

    Args:
        path: the folder of ``NAME.txt`` (``user item item ...`` a line), or the data home that holds it as
            ``amazon-2014``.
        name: such as ``Beauty``.
        max_bad_share: share of unusable lines, from 0 to 1, over which a file is refused.

    Raises:
        PlumError: if ``NAME.txt`` is missing, a file is empty, damaged or of other data, the days don't fit the
            sequences, or too many lines are unusable.
    """
    file = find_sequences(path, name)
    if file is None:
        raise missing_file(path / f"{name}.txt")
    found = _usable(Source(file), max_bad_share)
    days, of_days = read_days(_beside(file, "_days.txt"), found, max_bad_share)
    interactions = _interactions(found, days)
    items, problems = _catalogue(file, interactions["item_id"], max_bad_share)
    _check_counts(file, interactions)
    return RawTables(
        interactions,
        items,
        problems=[*found.problems, *of_days, *problems],
        n_rows=len(interactions),
        timestamps_are_positions=days is None,
    )


def _beside(file: Path, end: str) -> Path:
    return file.with_name(f"{file.stem}{end}")


def _usable(source: Source, max_bad_share: float) -> Sequences:
    found = read_sequences(source)
    refuse_many_problems(found.problems, found.n_lines, max_bad_share)
    warn(found.problems)
    if not found.users:
        told = "; ".join(problem.example for problem in found.problems)
        raise PlumError(f"{found.name} has no usable line", told, "get the file again")
    return found


def _interactions(found: Sequences, days: np.ndarray | None) -> pd.DataFrame:
    positions = np.concatenate([np.arange(length) for length in found.lengths])
    frame = pd.DataFrame(
        {
            "user_id": pd.Series(found.owners().to_pylist(), dtype="str"),
            "item_id": pd.Series(found.items.to_pylist(), dtype="str"),
            "timestamp": pd.Series(positions if days is None else days, dtype="int64"),
        }
    )
    frame["rating"] = pd.Series(float("nan"), index=frame.index, dtype="float32")
    frame["reward"] = pd.Series(1.0, index=frame.index, dtype="float32")
    return frame


def _catalogue(file: Path, logged: pd.Series, max_bad_share: float) -> tuple[pd.DataFrame, list[RowProblem]]:
    """The items with what the files beside ``NAME.txt`` say of them, and the unusable lines of these files."""
    attributes = read_attributes(_beside(file, "_item2attributes.json"))
    items = set(logged.unique())
    for count, what in (
        (
            len(items - attributes.keys()) if attributes else 0,
            f"of {len(items):,} items of {file.name} have no attributes",
        ),
        (len(attributes.keys() - items), f"items have attributes and are not in {file.name}; they join the catalogue"),
    ):
        if count:
            log.warning("%s_item2attributes.json: %s %s", file.stem, f"{count:,}", what)
    ids = sorted(items | attributes.keys(), key=pseudo_random)
    titles, problems = read_titles(_beside(file, "_titles.tsv"), ids, file.name, max_bad_share)
    numbers = {number for held in attributes.values() for number in held}
    names, unusable = read_names(_beside(file, "_attribute_names.tsv"), numbers, max_bad_share)
    topics, creators = contents_of(attributes, names)
    refuse_foreign_titles(_beside(file, "_titles.tsv"), titles, creators, file.name)
    columns: dict[str, list] = {
        "item_id": ids,
        "title": [titles[item].text if item in titles else None for item in ids],
        "topics": [topics.get(item) or None for item in ids],
        "creator": [creators.get(item) for item in ids],
    }
    if titles:
        columns["asin"] = [titles[item].code if item in titles else None for item in ids]
    return item_frame(columns), [*problems, *unusable]


def _check_counts(file: Path, interactions: pd.DataFrame) -> None:
    """Warn of other numbers than the published ones."""
    found = (interactions["user_id"].nunique(), interactions["item_id"].nunique(), len(interactions))
    if found != SEQUENCE_COUNTS.get(file.stem, found):
        log.warning(
            "%s: %s users, %s items and %s interactions, but %s, %s and %s were published: the data are incomplete or "
            "were prepared in another way",
            file.name,
            *(f"{count:,}" for count in found + SEQUENCE_COUNTS[file.stem]),
        )
