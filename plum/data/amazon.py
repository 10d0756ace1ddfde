"""Amazon review data: the 5-core sequences prepared for S3-Rec, and raw reviews of 2014, 2018 and 2023."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from plum.data.amazon_content import Content, content_of, merged
from plum.data.amazon_reviews import parse_line, read_reviews
from plum.data.files import Advice, Source, damage_reported, empty_file, missing_file
from plum.data.filters import RowFilter
from plum.data.interactions import Choice, check_interactions
from plum.data.items import clean, item_frame
from plum.data.jsonl import ObjectReader
from plum.data.lines import open_text
from plum.data.rows import warn
from plum.data.tables import ITEM_COLUMNS, RawTables, RowProblem, refuse_many_problems
from plum.errors import PlumError

log = logging.getLogger(__name__)

# Users, items, interactions of the sequences as published with S3-Rec (CIKM 2020, table 1).
SEQUENCE_COUNTS = {
    "Beauty": (22_363, 12_101, 198_502),
    "Sports_and_Outdoors": (35_598, 18_357, 296_337),
    "Toys_and_Games": (19_412, 11_924, 167_597),
}


def find_sequences(path: Path, name: str) -> Path | None:
    """Find ``NAME.txt`` in ``path``, its sub-folder ``amazon-2014``, or ``path`` itself; None if it isn't there."""
    places = (path, path / f"{name}.txt", path / "amazon-2014" / f"{name}.txt")
    return next((place for place in places if place.is_file()), None)


def load_amazon_sequences(path: Path, name: str, *, max_bad_share: float = 0.01) -> RawTables:
    """Read Amazon 2014 5-core sequences.

    Timestamps are positions, 0 to n-1 within each user, because the files give only the order (by day of review; within
    a day, the order of the file). Times of different users can't be compared. There are no ratings and no titles;
    topics are the attribute ids of an item, such as ``attr_12``. Items with attributes but no interaction are kept. The
    catalogue is in pseudo-random order, because the files number items in the order of the interactions.

    Args:
        path: the folder of ``NAME.txt`` (``user item item ...`` a line) and ``NAME_item2attributes.json``, or the
            data home that holds it as ``amazon-2014``.
        name: such as ``Beauty``.
        max_bad_share: share of unusable lines, from 0 to 1, over which the file is refused.

    Raises:
        PlumError: if a file is missing, empty or damaged, or too many lines are unusable.
    """
    file = find_sequences(path, name)
    if file is None:
        raise missing_file(path / f"{name}.txt")
    source = Source(file)
    users, items, positions, problems, n_lines = _sequences(source)
    refuse_many_problems(problems, n_lines, max_bad_share)
    warn(problems)
    if not users:
        raise PlumError(
            f"{source.name} has no usable line", "; ".join(p.example for p in problems), "get the file again"
        )
    interactions = pd.DataFrame({"user_id": pd.Series(users, dtype="str"), "item_id": pd.Series(items, dtype="str")})
    interactions["timestamp"] = pd.Series(positions, dtype="int64")
    interactions["rating"] = pd.Series(float("nan"), index=interactions.index, dtype="float32")
    interactions["reward"] = pd.Series(1.0, index=interactions.index, dtype="float32")
    attributes = _attributes(file.with_name(f"{file.stem}_item2attributes.json"))
    catalogue = sorted({*items, *attributes}, key=_shuffled)
    table = item_frame({"item_id": catalogue, "topics": [attributes.get(item) or None for item in catalogue]})
    found = (interactions["user_id"].nunique(), interactions["item_id"].nunique(), len(interactions))
    if found != SEQUENCE_COUNTS.get(file.stem, found):
        log.warning(
            "%s: %s users, %s items and %s interactions, but %s, %s and %s were published: the data are incomplete or "
            "were prepared in another way",
            source.name,
            *(f"{count:,}" for count in found + SEQUENCE_COUNTS[file.stem]),
        )
    return RawTables(interactions, table, problems=problems, n_rows=len(interactions), timestamps_are_positions=True)


def _shuffled(item: str) -> bytes:
    """An item's sort key in the catalogue: the hash of its id, which says nothing about the item.

    The files number items by first occurrence, test items included. Catalogue rows break ties: that order would leak.
    """
    return hashlib.sha256(item.encode()).digest()


def _sequences(source: Source) -> tuple[list[str], list[str], list[int], list[RowProblem], int]:
    """Read ``user item item ...`` lines. Returns users, items, positions (n each), problems and the number of lines."""
    users: list[str] = []
    items: list[str] = []
    positions: list[int] = []
    failures: dict[str, list[Any]] = {}
    seen: set[str] = set()
    n_lines = 0
    try:
        with damage_reported(source), source.open() as stream, open_text(stream, "utf-8") as text:
            for line, content in enumerate(text, 1):
                user, *sequence = content.split() or [""]
                if not user:
                    continue
                n_lines += 1
                reason = (
                    "no item after the user" if not sequence else "a second line of the user" if user in seen else ""
                )
                if reason:
                    failures.setdefault(reason, [0, f"line {line}: {content.strip()[:40]!r}"])[0] += 1
                    continue
                seen.add(user)
                users += [user] * len(sequence)
                items += sequence
                positions += range(len(sequence))
    except UnicodeDecodeError as error:
        raise PlumError(f"{source.name} is not text", str(error), "get the file again") from error
    if not n_lines:
        raise empty_file(source)
    return users, items, positions, [RowProblem(source.name, r, n, ex) for r, (n, ex) in failures.items()], n_lines


def _attributes(path: Path) -> dict[str, list[str]]:
    """Read item -> attribute ids, as topics."""
    if not path.is_file():
        log.warning("%s is not there: items will have no topics", path)
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {str(item): [f"attr_{attribute}" for attribute in ids] for item, ids in table.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise PlumError(
            f"{path.name} is not a JSON object of item -> attribute ids", str(error), "get it again"
        ) from error


def load_amazon_reviews(
    reviews: Path,
    metadata: Path | None = None,
    *,
    max_bad_share: float = 0.01,
    keep_unreviewed: bool = False,
    where: RowFilter | None = None,
    keep_repeats: bool = False,
) -> RawTables:
    """Read raw Amazon reviews and metadata of 2014, 2018 or 2023, JSON Lines or CSV of ratings, plain or ``.gz``.

    The keys of the first line tell the year; lines may be literals of Python instead of JSON, as in 2014. CSV has a
    header in 2023; before, its four columns are user, item, rating and time, or item and user first: the ids tell.
    Item ids are ``asin`` (2014, 2018) or ``parent_asin`` (2023; ``asin`` if it is missing). Times of 2023 are
    milliseconds, rounded down to seconds; those of 2014 and 2018 are whole days, so that interactions of one user often
    tie. Categories become topics; brand or store becomes the creator.

    Args:
        reviews: the reviews.
        metadata: of the products; None for no item content. Items without metadata are kept with empty fields.
        max_bad_share: share of unusable rows, from 0 to 1, over which a file is refused.
        keep_unreviewed: keep products without reviews. The metadata of a category hold many times more products than a
            5-core file of reviews.
        where: a rule on the reviews; it may name any of their keys, such as ``verified_purchase``.
        keep_repeats: keep reviews that agree in user, item, rating and time.

    Raises:
        PlumError: if a file is missing, empty or damaged, has unknown keys, or too many rows are unusable.
    """
    source, fields = Source(reviews), () if where is None else where.fields
    rows, unit, only_for_where = read_reviews(source, fields)
    interactions, problems = check_interactions(
        rows,
        timestamp_unit=unit,
        time_advice=f"{Advice.fetch_again('the Amazon reviews').columns}; or read it as source kind logs",
        max_bad_share=max_bad_share,
        rating_required=True,
        choice=Choice(where, only_for_where, keep_repeats),
    )
    reviewed = dict.fromkeys(interactions["item_id"].tolist())
    products: dict[str, Content] = {}
    if metadata is not None:
        products, found = _products(Source(metadata), None if keep_unreviewed else reviewed.keys(), max_bad_share)
        problems = problems + found
        without = len(reviewed.keys() - products.keys())
        if without:
            log.warning(
                "%s: %s of %s reviewed items have no metadata", metadata.name, f"{without:,}", f"{len(reviewed):,}"
            )
    ids = sorted(reviewed) + [item for item in products if item not in reviewed]
    contents = [products.get(item, {}) for item in ids]
    items = item_frame({"item_id": ids, **{name: [one.get(name) for one in contents] for name in ITEM_COLUMNS[1:]}})
    if metadata is not None and (bare := sum(not any(one.values()) for one in contents)):
        log.warning(
            "%s: %s of %s items have no content: neither title, topics, creator nor description",
            metadata.name,
            f"{bare:,}",
            f"{len(ids):,}",
        )
    return RawTables(interactions, items, problems=problems, n_rows=rows.n_read)


def _products(
    source: Source, wanted: Iterable[str] | None, max_bad_share: float
) -> tuple[dict[str, Content], list[RowProblem]]:
    """Read metadata: item id -> content. Of several lines of an item the fullest counts, the others fill its gaps."""
    reader = ObjectReader(source, "utf-8", Advice.fetch_again("the Amazon metadata"), parse_line)
    keep = None if wanted is None else set(wanted)
    products: dict[str, Content] = {}
    n_repeated = n_other = 0
    for line, record in reader:
        item = clean(record.get("parent_asin") or record.get("asin"))
        if item is None:
            reader.fail("no asin or parent_asin", line, str(record))
        elif keep is not None and item not in keep:
            n_other += 1
        else:
            try:
                content = content_of(record)
            except RecursionError:
                reader.fail("lists nested too deeply", line, item)
                continue
            n_repeated += item in products
            products[item] = merged(products[item], content) if item in products else content
    refuse_many_problems(reader.problems, reader.n_read, max_bad_share)
    warn(reader.problems)
    for count, what in (
        (n_other, "products without a review left out"),
        (n_repeated, "further lines of a product already read; the fullest line of each counts"),
    ):
        if count:
            log.info("%s: %s %s", source.name, f"{count:,}", what)
    return products, reader.problems
