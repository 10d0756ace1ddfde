"""Numeric columns of items -> dense vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.features.encoding import Encoded, column_of, refuse_non_finite, save_parts
from plum.rules.values import nearest


@dataclass(frozen=True, eq=False)
class NumericEncoder:
    """Standardised numbers, and flags of missing ones; see :func:`fit_numeric`.

    Attributes:
        fields: F columns.
        mean: (F,) float64.
        scale: standard deviations (F,) float64.
        flagged: (F,) bool, which fields have a flag for missing values.

    Raises:
        ValueError: if numbers of fields differ.
    """

    kind: ClassVar[str] = "numeric"
    fields: Sequence[str]
    mean: np.ndarray
    scale: np.ndarray
    flagged: np.ndarray

    def __post_init__(self) -> None:
        widths = {len(self.fields), len(self.mean), len(self.scale), len(self.flagged)}
        if len(widths) > 1:
            raise ValueError(f"fields, mean, scale and flagged are of {sorted(widths)} fields")
        if self.flagged.dtype != np.bool_:
            raise ValueError(f"flagged is of type {self.flagged.dtype}, not bool")

    def transform(self, items: pd.DataFrame) -> Encoded:
        """Vectors (N, F + flags) of items; items without any of the numbers have none.

        Raises:
            PlumError: if a field is not numeric, or infinite.
        """
        values = _values(items, self.fields)
        missing = np.isnan(values)
        present = ~missing.all(axis=1)
        numbers = np.where(missing, 0.0, (values - self.mean) / self.scale)  # 0: the mean
        vectors = np.concatenate([numbers, missing[:, self.flagged]], axis=1).astype(np.float32)
        vectors[~present] = 0.0
        return Encoded(vectors, present)

    def save(self, folder: Path, name: str) -> None:
        """Write fields (JSON), means and scales (safetensors)."""
        arrays = {"mean": self.mean, "scale": self.scale, "flagged": self.flagged}
        save_parts(folder, name, self.kind, {"fields": list(self.fields)}, arrays)

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> NumericEncoder:
        """Rebuild the encoder that :meth:`save` wrote."""
        return cls(settings["fields"], arrays["mean"], arrays["scale"], arrays["flagged"])


def fit_numeric(items: pd.DataFrame, fields: Sequence[str]) -> NumericEncoder:
    """Standardise each field to mean 0 and variance 1 over the items that have it.

    If an item lacks some of the fields but not all, the missing ones are replaced by the mean, and a further 0/1 column
    per such field flags them.

    Args:
        items: N rows.
        fields: F numeric columns; true and false are 1 and 0.

    Raises:
        PlumError: if a field is missing, not numeric or infinite, no item has it, or all have the same number.
    """
    for field in fields:
        if field not in items:
            raise _no_such_field(field, items)
    values = _values(items, fields)
    for field, numbers in zip(fields, values.T, strict=True):
        known = numbers[~np.isnan(numbers)]
        if not len(known):
            raise PlumError(f"no item has a {field}", f"{len(items):,} items", _drop(field))
        if known.min() == known.max():
            found = f"{known[0]:g} in all {len(known):,} items that have it"
            raise PlumError(f"{field} is the same for all items", found, _drop(field))
    missing = np.isnan(values)
    flagged = missing[~missing.all(axis=1)].any(axis=0)
    return NumericEncoder(tuple(fields), np.nanmean(values, axis=0), np.nanstd(values, axis=0), flagged)


def _drop(field: str) -> str:
    return f"leave {field} out of features.modalities.*.fields"


def _no_such_field(field: str, items: pd.DataFrame) -> PlumError:
    known = [str(name) for name in items if _numbers(items[name]) is not None]
    near = nearest(field, known, n=1)
    found = f"did you mean {near[0]}?" if near else f"numeric columns of the items: {', '.join(known) or 'none'}"
    return PlumError(f"the items have no column {field!r}", found, "fix features.modalities.*.fields")


def _values(items: pd.DataFrame, fields: Sequence[str]) -> np.ndarray:
    """(N, F) float64, NaN where there is no number."""
    values = np.empty((len(items), len(fields)))
    for place, field in enumerate(fields):
        found = column_of(items, field)
        numbers = _numbers(found)
        if numbers is None:
            example = found.dropna().iloc[0]
            raise PlumError(f"{field} is not a column of numbers", f"{example!r}, for example", _drop(field))
        known = np.where(np.isnan(numbers), 0.0, numbers)
        refuse_non_finite(known[:, None], field, column_of(items, "item_id").tolist())
        values[:, place] = numbers
    return values


def _numbers(values: pd.Series) -> np.ndarray | None:
    """(N,) float64, NaN where there is none; None unless all values are numbers or booleans."""
    if values.isna().all():
        return np.full(len(values), np.nan)
    if values.dtype == object:  # true, false and None, for example
        values = values.convert_dtypes()
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_complex_dtype(values):
        return None
    return values.to_numpy(dtype=np.float64, na_value=np.nan)
