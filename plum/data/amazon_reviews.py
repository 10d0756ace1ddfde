"""Read Amazon reviews of any year, as JSON Lines, lines of Python literals, or CSV of ratings only."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from plum.data.dialect import Delimited
from plum.data.encodings import undecodable
from plum.data.files import Advice, Source, damage_reported
from plum.data.jsonl import ObjectReader, read_jsonl
from plum.data.readers import RawRows, read_delimited
from plum.data.records import records
from plum.errors import PlumError

# Columns of a review by layout; the keys of the first line tell the layout.
_REVIEWS_2014 = {"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "timestamp": "unixReviewTime"}
_REVIEWS_2023 = {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
_ADVICE = Advice.fetch_again("the Amazon reviews")
_ASIN = r"^(B[0-9A-Z]{9}|\d{9}[\dX])$"
_LOOKED_AT = 1_000
"""Rows that tell which column of ratings without a header is the item."""


def read_reviews(source: Source, fields: Sequence[str] = ()) -> tuple[RawRows, str, list[str]]:
    """Read reviews.

    Args:
        source: the file.
        fields: further columns to read, as a rule names them.

    Returns:
        Rows with ``user_id``, ``item_id``, ``rating``, ``timestamp`` and the further columns; the unit of their times;
        the names of the further columns.

    Raises:
        PlumError: if the file is missing, empty, damaged, or in another layout.
    """
    if ".csv" in source.path.suffixes:
        return _read_ratings(source, fields)
    keys = _first_keys(source)
    columns, unit = _layout(source, keys)
    further = [name for name in fields if name not in columns]
    wanted = columns | {name: name for name in further}
    return read_jsonl(source, wanted, advice=_advice(further), parse=parse_line), unit, further


def parse_line(text: str) -> Any:
    """Parse a line of JSON, or of Python literals as in the files of 2014.

    Raises:
        ValueError, SyntaxError: if it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text.strip())


def _first_keys(source: Source) -> list[str]:
    for _, record in ObjectReader(source, "utf-8", _ADVICE, parse_line):
        return list(record)
    raise PlumError(f"{source.name} holds no JSON object", None, "get the file again")


def _layout(source: Source, keys: Sequence[str]) -> tuple[dict[str, str], str]:
    """Our columns -> the file's, and the unit of its times."""
    if "reviewerID" in keys:
        return _REVIEWS_2014, "s"
    if "user_id" in keys:
        return _REVIEWS_2023 if "parent_asin" in keys else _REVIEWS_2023 | {"item_id": "asin"}, "ms"
    raise PlumError(
        f"{source.name} has an unknown layout, not one of Amazon reviews",
        f"keys of line 1: {', '.join(keys)}",
        "expected reviewerID, asin, overall, unixReviewTime (2014, 2018) or user_id, parent_asin, rating, "
        "timestamp (2023); read other layouts as source kind logs",
    )


def _advice(further: Sequence[str]) -> Advice:
    if not further:
        return _ADVICE
    return Advice("name keys of the reviews in data.source.where", _ADVICE.encoding)


def _read_ratings(source: Source, fields: Sequence[str]) -> tuple[RawRows, str, list[str]]:
    """Read a CSV of ratings, with a header as in 2023 or without one as before."""
    try:
        with damage_reported(source):
            rows = [record.fields for record in islice(records(source, Delimited()), _LOOKED_AT)]
    except UnicodeError as error:
        raise undecodable(source, "utf-8", _ADVICE.encoding) from error
    first = rows[0] if rows else []
    if {"user_id", "rating", "timestamp"} <= set(first):
        columns, unit = _layout(source, first)
        further = [name for name in fields if name not in columns]
        wanted = columns | {name: name for name in further}
        return read_delimited(source, Delimited(), wanted, advice=_advice(further)), unit, further
    names = ("user_id", "item_id", "rating", "timestamp")
    if len(first) not in (0, len(names)):
        raise PlumError(
            f"{source.name} has an unknown layout, not one of Amazon ratings",
            f"line 1: {', '.join(first[:8])}",
            "expected user, item, rating and time, or a header with user_id, parent_asin, rating, timestamp; read "
            "other layouts as source kind logs",
        )
    if further := [name for name in fields if name not in names]:
        found = f"its columns: {', '.join(names)}"
        raise PlumError(f"{source.name} has no column {further[0]!r}", found, "change data.source.where")
    head = [row for row in rows if len(row) == len(names)]
    if head and _share_of_items(head, 0) > _share_of_items(head, 1):
        names = ("item_id", "user_id", "rating", "timestamp")
    layout = Delimited(names=names)
    return read_delimited(source, layout, {name: name for name in names}, advice=_ADVICE), "auto", []


def _share_of_items(rows: Sequence[Sequence[str]], column: int) -> float:
    """Share of the values of a column that are ids of products."""
    return float(pc.mean(pc.match_substring_regex(pa.array([row[column] for row in rows]), _ASIN)).as_py())
