"""The origin of a warm start: whether this run's vectors are in the space of the other run's weights."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.run import artifacts
from plum.run.hashes import sha256
from plum.run.manifest import read_manifest
from plum.sid.frozen import load_frozen
from plum.sid.standardise import Standardisation
from plum.stages import inputs

logger = logging.getLogger(__name__)

SAME_SPACE = 0.1
"""A modality's space counts as the same if vectors of items in both runs moved by less (``Standardisation.moved``). On
MovieLens latest-small, from nine tenths of the items to all, vectors of titles (TF-IDF and SVD) move by 0.84, those of
19 topics (without SVD) by less than 0.001."""
SAMPLE = 10_000
"""Most items to compare."""


def vector_files(run: Path) -> list[Path]:
    """The existing vector files of a run; a warm start needs only the tokenizer."""
    found = sorted((run / artifacts.FEATURES).glob("*.npy"))
    return [run / artifacts.PRESENT, *found] if (run / artifacts.PRESENT).exists() else []


def _refuse_other_vectors(run: Path, modalities: Collection[str]) -> None:
    """Refuse a run whose vectors have changed since its tokenizer was trained.

    Raises:
        PlumError: naming the first file.
    """
    made_from = read_manifest(run / artifacts.TOKENIZE).inputs
    names = [artifacts.PRESENT, *(f"{artifacts.FEATURES}/{name}.npy" for name in modalities)]
    for name in names:
        if (run / name).exists() and sha256(run / name) != made_from.get(name):
            raise PlumError(
                f"tokenize.warm_start: {run / name} has changed since that run's tokenizer was trained",
                None,
                f"run `{artifacts.COMMANDS[artifacts.TOKENIZE]}` for that run again, or remove "
                f"{run / artifacts.FEATURES}",
            )


class Origin:
    """The run of a warm start, seen from another catalogue.

    Vectors of items in both runs tell whether a modality's space is the same, for any encoder: an SVD fitted to another
    catalogue rotates all of them, a fixed model leaves them unchanged. Changed content of a few items does not matter.
    """

    def __init__(
        self, run: Path, standardisations: dict[str, Standardisation], present: pd.DataFrame | None, rows: np.ndarray
    ) -> None:
        """Initialise from the results of :meth:`read`.

        Args:
            run: its folder.
            standardisations: of its tokenizer, by modality.
            present: which of its N_old items have which modality; None if it has no features.
            rows: (N,) rows of this catalogue's items in the other run, -1 for missing ones.
        """
        self._run, self._standardisations, self._present, self._rows = run, standardisations, present, rows
        self._moved: dict[str, float] = {}

    @classmethod
    def read(cls, run: Path, item_ids: pd.Series) -> Origin:
        """Read the run in folder ``run``, for a catalogue of N ``item_ids``.

        Raises:
            PlumError: if it has no tokenizer, or its vectors have changed since the tokenizer was trained.
        """
        modalities = load_frozen(run / artifacts.TOKENIZE).modalities
        standardisations = {modality.name: modality.standardisation for modality in modalities}
        if not vector_files(run):
            return cls(run, standardisations, None, np.full(len(item_ids), -1))
        _refuse_other_vectors(run, standardisations)
        present = artifacts.read_table(run / artifacts.PRESENT, needed=("item_id",))
        return cls(run, standardisations, present, pd.Index(present["item_id"]).get_indexer(item_ids))

    def standardisation(self, name: str, vectors: np.ndarray, present: np.ndarray) -> Standardisation | None:
        """The other run's standardisation of a modality; None if the vectors here are of another space.

        Args:
            name: of the modality.
            vectors: (N, D_m) of stage features.
            present: (N,) bool, which items have it.
        """
        old = self._standardisations.get(name)
        if old is None or len(old.mean) != vectors.shape[1]:
            return None  # weights_for refuses the weights later
        self._moved[name] = self._how_far(name, old, vectors, present)
        return None if self._moved[name] >= SAME_SPACE else old

    def warn_of_other_spaces(self) -> None:
        """Warn of modalities whose space has changed or is unknown."""
        known = {name: f"{name} ({moved:.2f})" for name, moved in self._moved.items() if moved >= SAME_SPACE}
        unknown = [name for name, moved in self._moved.items() if np.isnan(moved)]
        if known:
            logger.warning(
                "tokenize: warm start: the space of modality %s has changed, so the weights of %s do not fit it (in "
                "brackets: how far vectors of items in both runs moved, relative to their distance from the mean). Use "
                "a fixed space: encoder sentence-transformers with the same model, or encoder file",
                ", ".join(known.values()),
                self._run,
            )
        if unknown:
            logger.warning(
                "tokenize: warm start: no item has a vector of modality %s both here and in %s, so the two spaces "
                "can't be compared; they are assumed to be the same",
                ", ".join(unknown),
                self._run,
            )

    def _how_far(self, name: str, old: Standardisation, vectors: np.ndarray, present: np.ndarray) -> float:
        """See ``Standardisation.moved``; NaN if it can't be computed."""
        path = self._run / artifacts.FEATURES / f"{name}.npy"
        if self._present is None or name not in self._present or not path.exists():
            return float("nan")
        there = self._present[name].to_numpy(dtype=bool)
        both = np.flatnonzero(present & (self._rows >= 0))
        both = both[there[self._rows[both]]]
        both = both[:: max(1, -(-len(both) // SAMPLE))]
        before = inputs.read_vectors(self._run, name, len(there), mapped=True)
        if before.shape[1] != vectors.shape[1]:
            return float("nan")
        return old.moved(before[self._rows[both]], vectors[both])
