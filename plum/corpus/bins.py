"""Numbers as tokens: quantile bins of the training part, saved with the model and applied unchanged later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

MISSING = -1


def fit_edges(values: np.ndarray, n_bins: int) -> np.ndarray | None:
    """The borders between bins of about equally many values.

    Args:
        values: any shape; those that are not finite are missing.
        n_bins: bins at most. Fewer different values get one bin each.

    Returns:
        (K-1,) float64, rising; None if there are not two different values, so that no bin could tell anything.

    Example: values 0, 0, 0, 1, 2, 9 in 3 bins -> borders 0.5 and 1.5; the bins hold 0, 0, 0 and 1 and 2, 9.
    """
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[np.isfinite(known)]
    distinct = np.unique(known)
    if len(distinct) < 2:
        return None
    borders = distinct[:-1] / 2 + distinct[1:] / 2  # the i-th is above the i-th value
    borders = np.where(borders > distinct[:-1], borders, distinct[1:])  # between neighbours lies no number
    if len(distinct) <= n_bins:
        return borders
    quantiles = np.quantile(known, np.arange(1, n_bins) / n_bins, method="inverted_cdf")
    places = np.searchsorted(distinct, quantiles)
    return borders[np.unique(np.minimum(places, len(borders) - 1))]  # above the largest value lies no border


@dataclass(frozen=True)
class Bins:
    """The bins of all numbers in a template.

    Attributes:
        edges: field -> borders (K-1,) of its K bins.
    """

    edges: Mapping[str, np.ndarray] = field(default_factory=dict)

    def tokens(self) -> list[str]:
        """Names of the bins' tokens, field by field. Example: ``<|rating_0|>``, ``<|rating_1|>``."""
        return [f"<|{name}_{number}|>" for name, edges in self.edges.items() for number in range(len(edges) + 1)]

    def place(self, name: str, values: np.ndarray) -> np.ndarray:
        """The bin (N,) of each value (N,) of a field; ``MISSING`` for values that are not finite.

        A value on a border is in the upper bin; one beyond all that was seen is in the outermost.
        """
        numbers = np.asarray(values, dtype=np.float64)
        found = np.searchsorted(self.edges[name], numbers, side="right")
        return np.where(np.isfinite(numbers), found, MISSING)

    def as_json(self) -> dict[str, list[float]]:
        """For a file; see ``from_json``."""
        return {name: edges.tolist() for name, edges in self.edges.items()}

    @classmethod
    def from_json(cls, found: Mapping[str, list[float]]) -> Bins:
        """The bins of a file."""
        return cls({name: np.asarray(edges, dtype=np.float64) for name, edges in found.items()})
