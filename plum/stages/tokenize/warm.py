"""Where a warm start starts from: whether the other run's weights meet vectors of the space that they learned."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.run import artifacts
from plum.run.stage import read_manifest, sha256
from plum.sid.frozen import load_frozen
from plum.sid.standardise import Standardisation

logger = logging.getLogger(__name__)

SAME_SPACE = 0.1
"""A modality's space is the same if the vectors of items in both runs have moved by less (``Standardisation.moved``).
On MovieLens latest-small, from nine tenths of the items to all, the vectors of titles (TF-IDF and SVD) move by 0.84,
those of 19 topics (without SVD) by less than 0.001."""
SAMPLE = 10_000
"""Most items whose vectors are compared."""


def vector_files(run: Path) -> list[Path]:
    """The vectors of a run's items, so far as they are there: the tokenizer alone is enough to start from."""
    found = sorted((run / artifacts.FEATURES).glob("*.npy"))
    return [run / artifacts.PRESENT, *found] if (run / artifacts.PRESENT).exists() else []


def _refuse_other_vectors(run: Path, modalities: Collection[str]) -> None:
    """Refuse vectors of a run that its tokenizer does not know: made again since, changed or damaged.

    Raises:
        PlumError: naming the first file.
    """
    made_from = read_manifest(run / artifacts.TOKENIZE).inputs
    names = [artifacts.PRESENT, *(f"{artifacts.FEATURES}/{name}.npy" for name in modalities)]
    for name in names:
        if (run / name).exists() and sha256(run / name) != made_from.get(name):
            raise PlumError(
                f"tokenize.warm_start: {run / name} is not what the tokenizer of that run was trained on",
                None,
                f"run `{artifacts.COMMANDS[artifacts.TOKENIZE]}` there again, or remove {run / artifacts.FEATURES}",
            )


class Origin:
    """The run that a warm start starts from, seen from another catalogue.

    Vectors of items that are in both runs tell whether a modality's space is the same, whatever encoder it is of: an
    SVD that is fitted to another catalogue turns them all, a fixed model or a file of its vectors leaves them as they
    were, and what is new of a few items does not count.
    """

    def __init__(
        self, run: Path, standardisations: dict[str, Standardisation], present: pd.DataFrame | None, rows: np.ndarray
    ) -> None:
        """Take what :meth:`read` finds.

        Args:
            run: its folder.
            standardisations: of its tokenizer, by modality.
            present: which of its N_old items have which modality; None if it has no features.
            rows: (N,) of the present catalogue's items there, -1 for those that it lacks.
        """
        self._run, self._standardisations, self._present, self._rows = run, standardisations, present, rows
        self._moved: dict[str, float] = {}

    @classmethod
    def read(cls, run: Path, item_ids: pd.Series) -> Origin:
        """Read the run in folder ``run``, for a catalogue of N ``item_ids``.

        Raises:
            PlumError: if it has no tokenizer, or its vectors are no longer those that the tokenizer was trained on.
        """
        modalities = load_frozen(run / artifacts.TOKENIZE).modalities
        standardisations = {modality.name: modality.standardisation for modality in modalities}
        if not vector_files(run):
            return cls(run, standardisations, None, np.full(len(item_ids), -1))
        _refuse_other_vectors(run, standardisations)
        present = artifacts.read_table(run / artifacts.PRESENT)
        return cls(run, standardisations, present, pd.Index(present["item_id"]).get_indexer(item_ids))

    def standardisation(self, name: str, vectors: np.ndarray, present: np.ndarray) -> Standardisation | None:
        """How the weights' vectors of a modality were standardised; None if these here are of another space.

        Args:
            name: of the modality.
            vectors: (N, D_m), as stage features made them.
            present: (N,) bool, which items have it.
        """
        old = self._standardisations.get(name)
        if old is None or len(old.mean) != vectors.shape[1]:
            return None  # the weights are refused
        self._moved[name] = self._how_far(name, old, vectors, present)
        return None if self._moved[name] >= SAME_SPACE else old

    def warn_of_other_spaces(self) -> None:
        """Say which modalities the weights know little of, and what to do."""
        known = {name: f"{name} ({moved:.2f})" for name, moved in self._moved.items() if moved >= SAME_SPACE}
        unknown = [name for name, moved in self._moved.items() if np.isnan(moved)]
        if known:
            logger.warning(
                "tokenize: warm start: the space of modality %s was fitted anew, so the weights of %s say little of it "
                "(in brackets: how far vectors of items in both runs moved, as a share of their distance from the "
                "mean). Take vectors of a space that stays: encoder sentence-transformers with the same model, or "
                "encoder file with vectors of a model of your own",
                ", ".join(known.values()),
                self._run,
            )
        if unknown:
            logger.warning(
                "tokenize: warm start: whether modality %s is of the space that the weights of %s know can't be told, "
                "for no item here has a vector there; it is taken to be",
                ", ".join(unknown),
                self._run,
            )

    def _how_far(self, name: str, old: Standardisation, vectors: np.ndarray, present: np.ndarray) -> float:
        """See ``Standardisation.moved``; NaN if it can't be told."""
        path = self._run / artifacts.FEATURES / f"{name}.npy"
        if self._present is None or name not in self._present or not path.exists():
            return float("nan")
        there = self._present[name].to_numpy(dtype=bool)
        both = np.flatnonzero(present & (self._rows >= 0))
        both = both[there[self._rows[both]]]
        both = both[:: max(1, -(-len(both) // SAMPLE))]
        before = np.load(path, mmap_mode="r", allow_pickle=False)
        if before.shape != (len(there), vectors.shape[1]):
            return float("nan")
        return old.moved(before[self._rows[both]], vectors[both])
