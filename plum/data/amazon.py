"""Amazon review data: the 5-core sequences prepared for S3-Rec, and raw reviews of 2014, 2018 and 2023."""

from __future__ import annotations

import ast
import hashlib
import html
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from plum.data.files import Advice, Source, damage_reported, empty_file, missing_file
from plum.data.items import clean, item_frame, split_topics
from plum.data.jsonl import ObjectReader, read_jsonl
from plum.data.readers import RawRows, open_text
from plum.data.rows import check_interactions, warn
from plum.data.tables import RawTables, RowProblem, refuse_many_problems
from plum.errors import PlumError

log = logging.getLogger(__name__)

# Users, items, interactions of the sequences as published with S3-Rec (CIKM 2020, table 1).
SEQUENCE_COUNTS = {
    "Beauty": (22_363, 12_101, 198_502),
    "Sports_and_Outdoors": (35_598, 18_357, 296_337),
    "Toys_and_Games": (19_412, 11_924, 167_597),
}

# Columns of a review by layout; the keys of the first line tell the layout.
_REVIEWS_2014 = {"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
_REVIEWS_2023 = {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "timestamp": "timestamp"}


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
    reviews: Path, metadata: Path | None = None, *, max_bad_share: float = 0.01, keep_unreviewed: bool = False
) -> RawTables:
    """Read raw Amazon reviews and metadata of 2014, 2018 or 2023, JSON Lines, plain or ``.gz``.

    The keys of the first line tell the year. Item ids are ``asin`` (2014, 2018) or ``parent_asin`` (2023; ``asin`` if
    it is missing). Times of 2023 are milliseconds, rounded down to seconds; those of 2014 and 2018 are whole days, so
    that interactions of one user often tie. Categories become topics; brand or store becomes the creator.

    Args:
        reviews: the reviews.
        metadata: of the products; None for no item content. Items without metadata are kept with empty fields.
        max_bad_share: share of unusable rows, from 0 to 1, over which a file is refused.
        keep_unreviewed: keep products without reviews. The metadata of a category hold many times more products than a
            5-core file of reviews.

    Raises:
        PlumError: if a file is missing, empty or damaged, has unknown keys, or too many rows are unusable.
    """
    source = Source(reviews)
    keys, advice = _first_keys(source), Advice.fetch_again("the Amazon reviews")
    if "reviewerID" in keys:
        columns, unit = _REVIEWS_2014, "s"
    elif "user_id" in keys:
        columns = _REVIEWS_2023 if "parent_asin" in keys else _REVIEWS_2023 | {"item_id": "asin"}
        unit = "ms"
    else:
        raise PlumError(
            f"{source.name} has an unknown layout, not one of Amazon reviews",
            f"keys of line 1: {', '.join(keys)}",
            "expected reviewerID, asin, overall, unixReviewTime (2014, 2018) or user_id, parent_asin, rating, "
            "timestamp (2023); read other layouts as source kind logs",
        )
    rows: RawRows = read_jsonl(source, columns, advice=advice)
    interactions, problems = check_interactions(
        rows,
        timestamp_unit=unit,
        time_advice=f"{advice.columns}; or read it as source kind logs",
        max_bad_share=max_bad_share,
        rating_required=True,
    )
    reviewed = dict.fromkeys(interactions["item_id"].tolist())
    products: dict[str, dict[str, Any]] = {}
    if metadata is not None:
        products, found = _products(Source(metadata), None if keep_unreviewed else reviewed.keys(), max_bad_share)
        problems = problems + found
        without = len(reviewed.keys() - products.keys())
        if without:
            log.warning(
                "%s: %s of %s reviewed items have no metadata", metadata.name, f"{without:,}", f"{len(reviewed):,}"
            )
    ids = sorted(reviewed) + [item for item in products if item not in reviewed]
    fields = ("title", "topics", "creator", "description")
    columns_of_items: dict[str, list[Any]] = {name: [products.get(i, {}).get(name) for i in ids] for name in fields}
    items = item_frame({"item_id": ids, **columns_of_items})
    return RawTables(interactions, items, problems=problems, n_rows=rows.n_read)


def _first_keys(source: Source) -> list[str]:
    for _, record in ObjectReader(source, "utf-8", Advice.fetch_again("the Amazon reviews"), parse_line):
        return list(record)
    raise PlumError(f"{source.name} holds no JSON object", None, "get the file again")


def parse_line(text: str) -> Any:
    """Parse a line of JSON, or of Python literals as in the 2014 metadata.

    Raises:
        ValueError, SyntaxError: if it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text.strip())


def _products(
    source: Source, wanted: Iterable[str] | None, max_bad_share: float
) -> tuple[dict[str, Any], list[RowProblem]]:
    """Read metadata: item id -> title, topics, creator, description. Of several lines of an item the first counts."""
    reader = ObjectReader(source, "utf-8", Advice.fetch_again("the Amazon metadata"), parse_line)
    keep = None if wanted is None else set(wanted)
    products: dict[str, Any] = {}
    n_repeated = n_other = n_markup = 0
    for line, record in reader:
        item = clean(record.get("parent_asin") or record.get("asin"))
        if item is None:
            reader.fail("no asin or parent_asin", line, str(record))
        elif keep is not None and item not in keep:
            n_other += 1
        elif item in products:
            n_repeated += 1
        else:
            title = _prose(record.get("title"))
            if title and "getTime()" in title:  # 2018: the page's script where the title should be
                title, n_markup = None, n_markup + 1
            categories = record.get("categories") or record.get("category")
            products[item] = {
                "title": title,
                "topics": split_topics([_prose(topic) for topic in _flat(categories)], "|"),
                "creator": _prose(record.get("brand")) or _prose(record.get("store")),
                "description": _prose(record.get("description")),
            }
    refuse_many_problems(reader.problems, reader.n_read, max_bad_share)
    warn(reader.problems)
    for count, what in (
        (n_other, "products without a review left out"),
        (n_repeated, "further lines of a product already read left out"),
        (n_markup, "titles are page scripts, treated as missing"),
    ):
        if count:
            log.info("%s: %s %s", source.name, f"{count:,}", what)
    return products, reader.problems


def _flat(value: Any) -> list[Any]:
    """Flatten lists of lists: items of 2014 have several category paths."""
    if isinstance(value, list):
        return [leaf for part in value for leaf in _flat(part)]
    return [] if value is None else [value]


def _prose(value: Any) -> str | None:
    """Give a text or list of texts as one text, HTML entities resolved and blanks collapsed; None if there is none."""
    return clean(" ".join(html.unescape(" ".join(str(leaf) for leaf in _flat(value))).split()))
