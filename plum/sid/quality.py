"""How healthy a set of Semantic IDs is: uniqueness, bucket sizes, codebook usage, perplexity, and thresholds for them.

Health is a diagnosis, not a forecast of recall. What prefixes mean is measured in :mod:`plum.sid.agreement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from plum.errors import PlumError
from plum.sid.prefixes import prefix_groups

_SIZES = {"1": 1, "2": 2, "3-5": 5, "6-10": 10}
"""Classes of bucket sizes and the largest size of each; larger ones are ">10"."""
_ROUNDING = 1e-9  # of a threshold: the perplexity of equally used codes equals their number up to rounding


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of healthy Semantic IDs; None turns one off.

    Attributes:
        min_usage: smallest share of usable codes (no more than there are items) that a level uses.
        min_perplexity_share: smallest perplexity of a level, as a share of the codes it could use.
        max_bucket: most items per Semantic ID.
        min_uniqueness: smallest share of items with a Semantic ID of their own.
    """

    min_usage: float | None = None
    min_perplexity_share: float | None = None
    max_bucket: int | None = None
    min_uniqueness: float | None = None


def level_health(codes: np.ndarray, sizes: Sequence[int]) -> list[dict[str, float]]:
    """Usage and perplexity of each level.

    Args:
        codes: (N, L) int64.
        sizes: codes per level.

    Returns:
        Per level ``size``, ``usage`` (share of codes that some item has), ``dead`` (number of codes that none has) and
        ``perplexity`` (the exponential of the entropy of code frequencies: the number of equally used codes that would
        be as diverse).
    """
    levels = []
    for level, size in enumerate(sizes):
        share = np.bincount(codes[:, level], minlength=size) / max(1, len(codes))
        used = share[share > 0]
        perplexity = float(np.exp(-(used * np.log(used)).sum()))
        usage = {"usage": len(used) / size, "dead": int(size) - len(used)}
        levels.append({"size": int(size), **usage, "perplexity": perplexity})
    return levels


def uniqueness(codes: np.ndarray) -> dict[str, float]:
    """How well SIDs tell items apart.

    Args:
        codes: (N, L) int64 of at least one item.

    Returns:
        ``uniqueness``: share of items with a SID of their own (PLUM section 2.1); ``collision_rate``: its complement;
        ``max_items_per_sid``: the largest bucket.
    """
    sizes = _bucket_sizes(codes)
    alone = float((sizes == 1).mean())
    return {"uniqueness": alone, "collision_rate": 1 - alone, "max_items_per_sid": int(sizes.max())}


def buckets(codes: np.ndarray) -> dict[str, Any]:
    """The distribution of bucket sizes: its tail, which the mean hides.

    All figures count items, not SIDs: a bucket of 40 weighs 40 times one of 1.

    Args:
        codes: (N, L) int64 of at least one item.

    Returns:
        ``share``: of items whose SID has ``1``, ``2``, ``3-5``, ``6-10`` and ``>10`` items, including themselves;
        ``p95``, ``p99``: the smallest size that the buckets of at least 95% (99%) of items do not exceed;
        ``max``: the largest bucket. Example: codes [[0], [0], [1]] -> shares 1/3 of ``1`` and 2/3 of ``2``, the other
        figures 2.
    """
    sizes = _bucket_sizes(codes)
    places = np.searchsorted(list(_SIZES.values()), sizes, side="left")
    counts = np.bincount(places, minlength=len(_SIZES) + 1)
    p95, p99 = np.percentile(sizes, [95, 99], method="inverted_cdf")
    share = dict(zip([*_SIZES, ">10"], (counts / len(sizes)).tolist(), strict=True))
    return {"share": share, "p95": int(p95), "p99": int(p99), "max": int(sizes.max())}


def tree(codes: np.ndarray, sizes: Sequence[int], most: int = 64) -> dict[str, Any] | None:
    """How the items of each first code are distributed over second codes, for a figure.

    Args:
        codes: (N, L) int64.
        sizes: codes per level, L of them.
        most: number of first codes to show, those with most items, ties by code; and of second codes of each.

    Returns:
        ``counts``: a row per shown first code, most items first. A row holds the item counts of its second codes, in
        falling order (so a column is not a code), padded with zeros. ``codes``: the first codes of the rows; ``sizes``:
        codes of both levels; ``items``: N; ``left_out``: items outside ``counts``. None with fewer than two levels.
        Example: codes [[0, 3], [1, 2], [1, 0], [1, 2]] -> counts [[2, 1], [1, 0]], codes [1, 0].
    """
    if len(sizes) < 2:
        return None
    shown = np.argsort(-np.bincount(codes[:, 0], minlength=sizes[0]), kind="stable")[:most]
    place = np.full(sizes[0], -1, dtype=np.int64)
    place[shown] = np.arange(len(shown))
    row = place[codes[:, 0]]
    table = np.zeros((len(shown), sizes[1]), dtype=np.int64)
    np.add.at(table, (row[row >= 0], codes[row >= 0, 1]), 1)
    table = -np.sort(-table, axis=1)[:, :most]
    table = table[:, : max(1, int(table.any(axis=0).sum()))]
    return {
        "counts": table.tolist(),
        "codes": shown.tolist(),
        "sizes": [int(size) for size in sizes[:2]],
        "items": len(codes),
        "left_out": len(codes) - int(table.sum()),
    }


def same_content(codes: np.ndarray, vectors: Sequence[np.ndarray]) -> int:
    """The largest group of items with identical content in the fullest Semantic ID: no tokenizer can separate them.

    Args:
        codes: (N, L) int64 of at least one item.
        vectors: M arrays (N, D_m), the items' content.

    Returns:
        Its size. Example: codes [[0], [0], [0], [1]], vectors [[5], [5], [6], [5]] -> 2.
    """
    sizes = _bucket_sizes(codes)
    fullest = np.flatnonzero((codes == codes[sizes.argmax()]).all(axis=1))
    content = np.concatenate([modality[fullest] for modality in vectors], axis=1)
    return int(np.unique(content, axis=0, return_counts=True)[1].max())


def refuse_unhealthy(quality: Mapping[str, Any], n_items: int, thresholds: Thresholds) -> None:
    """Stop on Semantic IDs that miss a threshold.

    Args:
        quality: ``levels`` of :func:`level_health` and the result of :func:`uniqueness`, for the codes before the rule
            for collisions. Only entries with a threshold are read. If ``same_content`` (of :func:`same_content`) is
            half of the items or more, the message gives it as the cause of uneven codes.
        n_items: N.
        thresholds: to check.

    Raises:
        PlumError: naming all missed thresholds, and for each the setting to change.
    """
    missed = [
        *_low_levels(quality, n_items, thresholds),
        *_large_bucket(quality, thresholds.max_bucket),
        *_low_uniqueness(quality, thresholds.min_uniqueness),
    ]
    if len(missed) == 1:
        raise PlumError(*missed[0])
    if missed:
        found = [f"\n    {i}. {breach.what}: {breach.found}" for i, breach in enumerate(missed, 1)]
        fixes = [f"\n    {i}. {breach.fix}" for i, breach in enumerate(missed, 1)]
        raise PlumError(f"the Semantic IDs miss {len(missed)} thresholds", "".join(found), "".join(fixes))


class _Breach(NamedTuple):
    """A missed threshold in the three parts of a :class:`PlumError`."""

    what: str
    found: str
    fix: str


def _low_levels(quality: Mapping[str, Any], n_items: int, thresholds: Thresholds) -> list[_Breach]:
    """Thresholds of single levels; all levels that miss one are one breach."""
    unused, uneven, missed = [], [], []
    usage, evenness = thresholds.min_usage, thresholds.min_perplexity_share
    for number, level in enumerate([] if usage is None and evenness is None else quality["levels"]):
        usable = min(level["size"], n_items)
        name, perplexity = f"level {number}", f"perplexity {level['perplexity']:.1f}"
        if usage is not None and round(level["usage"] * level["size"]) < usage * usable:
            unused.append(f"{name}: {level['usage']:.1%} of {level['size']} codes, {perplexity}")
        if evenness is not None and level["perplexity"] < evenness * usable * (1 - _ROUNDING):
            uneven.append(f"{name}: {perplexity} of {usable}")
    if unused:
        fix = (
            "look for constant or repeated item content, lower tokenize.learning_rate, or set tokenize.codebook_sizes "
            "to fewer codes; tokenize.min_usage is the threshold"
        )
        what = f"codebooks collapsed: a level uses less than {usage:.0%} of its codes"
        missed.append(_Breach(what, "; ".join(unused), fix))
    if uneven:
        fix = (
            "look for items with the same content, keep tokenize.kmeans_init and tokenize.reset_dead_codes on, lower "
            "tokenize.learning_rate, or set tokenize.codebook_sizes to fewer codes"
        )
        alike = quality.get("same_content", 0)
        if 2 * alike >= n_items:
            uneven.append(f"{alike:,} of {n_items:,} items have the same content")
            fix = (
                "add fields in which these items differ to features.modalities, or leave them out of the data: "
                "no other setting tells them apart"
            )
        fix += "; tokenize.min_perplexity_share is the threshold"
        what = f"items crowd onto few codes: a level's perplexity is below {evenness:.1%} of the codes it could use"
        missed.append(_Breach(what, "; ".join(uneven), fix))
    return missed


def _large_bucket(quality: Mapping[str, Any], most: int | None) -> list[_Breach]:
    if most is None or quality["max_items_per_sid"] <= most:
        return []
    fix = (
        "look for items with the same or no content, give features more modalities, or set tokenize.codebook_sizes to "
        "more codes or levels; tokenize.max_bucket is the threshold"
    )
    found = f"{quality['max_items_per_sid']:,} items have the same codes"
    return [_Breach(f"a Semantic ID has more than {most:,} items", found, fix)]


def _low_uniqueness(quality: Mapping[str, Any], least: float | None) -> list[_Breach]:
    if least is None or quality["uniqueness"] >= least:
        return []
    fix = (
        "set tokenize.codebook_sizes to more codes or levels, train longer by tokenize.max_steps, or give features "
        "more modalities; tokenize.min_uniqueness is the threshold"
    )
    what = f"less than {least:.1%} of items have codes of their own"
    return [_Breach(what, f"uniqueness {quality['uniqueness']:.1%}", fix)]


def _bucket_sizes(codes: np.ndarray) -> np.ndarray:
    """Number of items (N,) with each item's codes, including itself."""
    bucket = prefix_groups(codes)[:, -1]
    return np.bincount(bucket)[bucket]
