"""The protocol of item encoders, their files (without pickle), and checks of their vectors.

An encoder is fitted once on the catalogue and kept with the run. It encodes new items into the same space, so that a
frozen tokenizer can assign them Semantic IDs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.run.writing import write_arrays, write_text

VERSION = 1
AGAIN = "make the features again with `plum tokenize --force`"
BLOCK = 1 << 14
"""Rows compared at a time, so that temporaries stay small."""
ROUNDING = 1e-6
"""Vectors that differ by less than this share of their length differ by rounding."""
SHOWN = 3
"""How many ids a message lists."""


class Encoded(NamedTuple):
    """One modality of N items.

    Attributes:
        vectors: (N, D) float32, zeros for items that lack the modality.
        present: (N,) bool, which items have it: a known word, a known topic, a number, a row in the file, or a partner
            in the training histories.
    """

    vectors: np.ndarray
    present: np.ndarray


class Encoder(Protocol):
    """A fitted modality."""

    def transform(self, items: pd.DataFrame) -> Encoded:
        """Encode items, each independently of the other rows.

        Args:
            items: N rows with the columns of ``items.parquet``; a missing column counts as empty.
        """
        ...

    def save(self, folder: Path, name: str) -> None:
        """Write ``<name>.json`` and ``<name>.safetensors``, which :func:`plum.features.registry.load_encoder` reads."""
        ...


def encode_apart(encoder: Encoder, items: pd.DataFrame, known: np.ndarray) -> Encoded:
    """Encode the known items and the others in two calls.

    So no vector of a known item depends on another item, not even by the rounding of a batch.

    Args:
        encoder: fitted on the known items.
        items: N rows.
        known: (N,) bool.
    """
    if known.all():
        return encoder.transform(items)
    first = encoder.transform(items[known].reset_index(drop=True))
    rest = encoder.transform(items[~known].reset_index(drop=True))
    vectors = np.empty((len(items), first.vectors.shape[1]), dtype=first.vectors.dtype)
    present = np.empty(len(items), dtype=bool)
    for rows, part in ((known, first), (~known, rest)):
        vectors[rows], present[rows] = part
    return Encoded(vectors, present)


def save_parts(
    folder: Path, name: str, kind: str, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write the two files of an encoder.

    Args:
        folder: created if needed.
        name: of the modality.
        kind: of the encoder.
        settings: values for JSON.
        arrays: everything else.
    """
    text = json.dumps({"version": VERSION, "kind": kind, **settings})
    write_text(folder / f"{name}.json", text + "\n")
    # safetensors writes the bytes in memory order, which is wrong for a transposed array.
    write_arrays(folder / f"{name}.safetensors", {key: np.ascontiguousarray(array) for key, array in arrays.items()})


def column_of(items: pd.DataFrame, name: str) -> pd.Series:
    """A column (N,) of items; empty values if it does not exist."""
    return items[name] if name in items else pd.Series([None] * len(items), index=items.index, dtype=object)


def refuse_useless(encoded: Encoded, name: str, item_ids: Sequence[str]) -> None:
    """Refuse a modality that carries no information for Semantic IDs.

    Args:
        encoded: of the N items of the catalogue.
        name: of the modality, for messages.
        item_ids: N ids, for messages.

    Raises:
        PlumError: if it holds NaN or infinity, no item has it, or all items that have it have the same vector, but for
            rounding.
    """
    refuse_non_finite(encoded.vectors, f"modality {name!r}", item_ids)
    n_present = int(encoded.present.sum())
    if not n_present:
        raise PlumError(
            f"no item has modality {name!r}", f"{len(encoded.present):,} items", f"drop features.modalities.{name}"
        )
    first = encoded.vectors[encoded.present.argmax()]
    if _differing(encoded, first, ROUNDING * float(np.linalg.norm(first.astype(np.float64)))):
        return
    n_differing = _differing(encoded, first, 0.0)
    rounded = f"; {n_differing:,} of them differ by less than a millionth of its length" if n_differing else ""
    raise PlumError(
        f"modality {name!r} is the same for all items",
        f"all {n_present:,} items that have it have the same vector{rounded}",
        f"drop features.modalities.{name}, or encode fields in which items differ",
    )


def _differing(encoded: Encoded, vector: np.ndarray, least: float) -> int:
    """How many items with the modality lie farther than ``least`` from a vector."""
    count = 0
    for start in range(0, len(encoded.vectors), BLOCK):
        block = encoded.vectors[start : start + BLOCK]
        distances = np.linalg.norm(block - vector.astype(np.float64), axis=1)
        count += int((distances > least)[encoded.present[start : start + BLOCK]].sum())
    return count


def refuse_non_finite(
    vectors: np.ndarray, where: str, item_ids: Sequence[str] | None, rows: Sequence[int] | np.ndarray | None = None
) -> None:
    """Refuse NaN and infinity in (N, D) vectors.

    Args:
        vectors: (N, D).
        where: their source, for messages.
        item_ids: N ids, for messages; None if unknown.
        rows: their N row numbers in the source, for messages; by default 0 to N - 1.

    Raises:
        PlumError: with the number of bad rows, and the first of them with their items.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
    if bad:
        numbers = range(len(vectors)) if rows is None else rows
        ids = [""] * len(vectors) if item_ids is None else [f" (item {item_id!r})" for item_id in item_ids]
        shown = ", ".join(f"row {numbers[place]}{ids[place]}" for place in bad[:SHOWN])
        more = ", ..." if len(bad) > SHOWN else ""
        raise PlumError(
            f"{where} holds NaN, infinity or numbers beyond single precision",
            f"{len(bad):,} row{'' if len(bad) == 1 else 's'}: {shown}{more}",
            "fix these vectors",
        )


def refuse_repeated(item_ids: Sequence[str], where: str, fix: str) -> None:
    """Refuse repeated ids.

    Raises:
        PlumError: naming the first.
    """
    ids = pd.Series(list(item_ids), dtype=object)
    repeated = ids[ids.duplicated()].unique().tolist()
    if repeated:
        raise PlumError(f"{where} holds item ids more than once", named(repeated), fix)


def named(item_ids: Sequence[str]) -> str:
    """Describe ids for a message: their number and the first ones.

    Example:
        >>> named(["a", "b", "c", "d"])
        "4 ids: 'a', 'b', 'c', ..."
    """
    shown = ", ".join(map(repr, item_ids[:SHOWN]))
    more = ", ..." if len(item_ids) > SHOWN else ""
    return f"{len(item_ids):,} id{'' if len(item_ids) == 1 else 's'}: {shown}{more}"
