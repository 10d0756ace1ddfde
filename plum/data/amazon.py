"""Raw Amazon reviews and product metadata of 2014, 2018 and 2023."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from plum.data.amazon_content import Content, content_of, merged
from plum.data.amazon_reviews import parse_line, read_reviews
from plum.data.files import Advice, Source
from plum.data.filters import RowFilter
from plum.data.interactions import Choice, check_interactions
from plum.data.items import clean, item_frame
from plum.data.jsonl import ObjectReader
from plum.data.rows import warn
from plum.data.tables import ITEM_COLUMNS, RawTables, RowProblem, refuse_many_problems

log = logging.getLogger(__name__)


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
