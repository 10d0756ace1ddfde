"""A run's trained tokenizer: it assigns Semantic IDs to new items without changing those of old items."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from plum.errors import PlumError
from plum.features.encoding import refuse_non_finite
from plum.run.saved import read_arrays, read_settings, refuse_other_shapes
from plum.run.shapes import TokenizerSettings
from plum.run.writing import write_tensors, write_text
from plum.sid.codebooks import BLOCK
from plum.sid.kmeans import codes_of
from plum.sid.random_codes import random_codes
from plum.sid.rqvae import RQVAE, Content
from plum.sid.standardise import Isotropy, Standardisation, weighed

logger = logging.getLogger(__name__)

WEIGHTS = "rqvae.safetensors"
SETTINGS = "tokenizer.json"
VERSION = 2
AGAIN = "make the Semantic IDs again with `plum tokenize --force`"

Method = Literal["rqvae", "rqkmeans", "random"]
Collision = Literal["share", "suffix", "reassign"]


class Modality(NamedTuple):
    """A modality as in the tokenizer's training.

    Attributes:
        name: in the run's features.
        standardisation: of its vectors (N, D_m).
        complete: whether every item of the catalogue had it.
        weight: beside the others.
    """

    name: str
    standardisation: Standardisation
    complete: bool
    weight: float = 1.0

    @property
    def width(self) -> int:
        """D_m."""
        return len(self.standardisation.mean)


@dataclass(frozen=True)
class Shape:
    """Shape of an RQ-VAE; see ``plum.sid.rqvae.RQVAE``."""

    latent_dim: int
    hidden_dim: int
    ema: bool


@dataclass(frozen=True)
class Rules:
    """The other settings that Semantic IDs depend on.

    Attributes:
        seed: of the run, for random codes.
        collision: the rule for items with equal codes.
        capacity: most items per Semantic ID, for ``reassign``.
        table_sizes: codes per level of the Semantic IDs, L of them, or L + 1 with a disambiguation code.
    """

    seed: int
    collision: Collision
    capacity: int
    table_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Frozen:
    """A trained tokenizer.

    Attributes:
        method: rqvae, rqkmeans or random.
        modalities: its inputs, M of them, in order.
        codebooks: L arrays (C, D).
        rules: further settings.
        shape: of the model; None without one.
        model: for rqvae, on its device.
    """

    method: Method
    modalities: tuple[Modality, ...]
    codebooks: Sequence[np.ndarray]
    rules: Rules
    shape: Shape | None = None
    model: RQVAE | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes per level, L of them, without a disambiguation code."""
        return tuple(len(book) for book in self.codebooks)

    def assign(
        self,
        modalities: Sequence[np.ndarray],
        present: np.ndarray | None = None,
        item_ids: Sequence[str] | None = None,
        block: int = BLOCK,
    ) -> np.ndarray:
        """Codes of items, before the rule for collisions.

        Besides input and codes, only one block is in memory, so that a memory-mapped input may exceed it.

        Args:
            modalities: M arrays (N, D_m) as the features stage makes them, ``np.memmap`` for example.
            present: (N, M) bool, which items have which modality; None if all have all. If all training items had a
                modality, an item that lacks it gets the mean instead.
            item_ids: N ids, for random codes; other methods need none.
            block: items at a time.

        Returns:
            (N, L) int64. Training items get the same codes as in training.

        Raises:
            PlumError: if vectors have another width than in the training, or hold NaN or infinity.
            ValueError: if numbers of modalities or of rows differ, or ids are missing.
        """
        if self.method == "random":
            if item_ids is None:
                raise ValueError("random codes are drawn by item_id: give item_ids")
            return random_codes(item_ids, self.sizes, self.rules.seed)
        codes = np.empty((_n_rows(modalities, present), len(self.codebooks)), dtype=np.int64)
        for start, content in self._standardised(modalities, present, block):
            codes[start : start + block] = self._codes(content)
        return codes

    def vectors(
        self, modalities: Sequence[np.ndarray], present: np.ndarray | None = None, block: int = BLOCK
    ) -> np.ndarray:
        """The vectors of items that are quantised, (N, D) float32; arguments as :meth:`assign`.

        Raises:
            ValueError: for random codes, which quantise nothing.
        """
        if self.method == "random":
            raise ValueError("random codes quantise nothing")
        parts = [self._vectors(content) for _, content in self._standardised(modalities, present, block)]
        return np.concatenate(parts) if parts else np.zeros((0, self.codebooks[0].shape[1]), dtype=np.float32)

    @torch.no_grad()
    def _codes(self, content: Content) -> np.ndarray:
        if self.model is None:
            return codes_of(self._weighed(content), self.codebooks)
        return self.model.quantize(self.model.encode(*content)).codes.cpu().numpy()

    @torch.no_grad()
    def _vectors(self, content: Content) -> np.ndarray:
        return self._weighed(content) if self.model is None else self.model.encode(*content).cpu().numpy()

    def _weighed(self, content: Content) -> np.ndarray:
        return weighed([x.numpy() for x in content.modalities], [modality.weight for modality in self.modalities])

    def _standardised(
        self, modalities: Sequence[np.ndarray], present: np.ndarray | None, block: int
    ) -> Iterator[tuple[int, Content]]:
        """Blocks of content on the model's device, each with its first row."""
        n_rows = _n_rows(modalities, present)
        if len(modalities) != len(self.modalities):
            raise ValueError(f"{len(modalities)} modalities for a tokenizer of {len(self.modalities)}")
        for vectors, modality in zip(modalities, self.modalities, strict=True):
            if vectors.shape[1] != modality.width:
                raise PlumError(
                    f"vectors of modality {modality.name!r} don't fit the tokenizer",
                    f"width {vectors.shape[1]}, trained on width {modality.width}",
                    "use the encoder of the run that trained the tokenizer",
                )
        self._warn_unlearned(present)
        if self.model is not None:
            self.model.eval()
        device = torch.device("cpu") if self.model is None else self.model.projection.weight.device
        for start in range(0, n_rows, block):
            there = None if present is None else present[start : start + block]
            tensors = [
                torch.from_numpy(_standardised_block(modality, vectors[start : start + block], there, column, start))
                for column, (modality, vectors) in enumerate(zip(self.modalities, modalities, strict=True))
            ]
            yield start, Content([tensor.to(device) for tensor in tensors], self._learned(there, device))

    def _warn_unlearned(self, present: np.ndarray | None) -> None:
        if present is None:
            return
        for modality, column in zip(self.modalities, present.T, strict=True):
            if modality.complete and not column.all():
                lacking = int((~column).sum())
                logger.warning(
                    "%s modality %s, which all training items had: %s",
                    "1 item lacks" if lacking == 1 else f"{lacking:,} items lack",
                    modality.name,
                    "it counts as an average one" if lacking == 1 else "they count as average ones",
                )

    def _learned(self, present: np.ndarray | None, device: torch.device) -> Tensor | None:
        """Presence (B, M) for the model; True where training had no gaps, because no vector was learned for them."""
        if present is None:
            return None
        told = present | np.array([modality.complete for modality in self.modalities])
        return None if told.all() else torch.from_numpy(told).to(device)

    def save(self, folder: Path) -> None:
        """Write ``rqvae.safetensors`` and ``tokenizer.json``."""
        if self.model is not None:
            tensors = {name: tensor.cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        else:
            tensors = {f"codebooks.{level}": torch.from_numpy(book) for level, book in enumerate(self.codebooks)}
        for modality in self.modalities:
            tensors[f"standardise.{modality.name}.mean"] = torch.from_numpy(modality.standardisation.mean)
            scale = torch.tensor(modality.standardisation.scale, dtype=torch.float64)
            tensors[f"standardise.{modality.name}.scale"] = scale
            if (transform := modality.standardisation.transform) is not None:
                tensors[f"standardise.{modality.name}.transform"] = torch.from_numpy(transform)
        write_tensors(folder / WEIGHTS, tensors)
        settings = {
            "version": VERSION,
            "method": self.method,
            "sizes": self.sizes,
            "modalities": [
                {
                    "name": modality.name,
                    "width": modality.width,
                    "complete": modality.complete,
                    "isotropy": modality.standardisation.isotropy,
                    "weight": modality.weight,
                }
                for modality in self.modalities
            ],
            "shape": None if self.shape is None else asdict(self.shape),
            "rules": asdict(self.rules),
        }
        write_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")


def load_frozen(folder: Path) -> Frozen:
    """Read the tokenizer that :meth:`Frozen.save` wrote; its model is on the CPU.

    Raises:
        PlumError: if a file is missing, damaged or of another version, or the two don't belong together.
    """
    settings = read_settings(folder / SETTINGS, VERSION, AGAIN, TokenizerSettings)
    arrays = read_arrays(folder / WEIGHTS, "a tokenizer's weights", AGAIN)
    try:
        modalities = tuple(_modality(entry, arrays) for entry in settings["modalities"])
        codebooks = [arrays[f"codebooks.{level}"] for level in range(len(settings["sizes"]))]
        _refuse_other_sizes(settings, modalities, codebooks)
        rules = Rules(**settings["rules"] | {"table_sizes": tuple(settings["rules"]["table_sizes"])})
        model = shape = None
        if (settings["shape"] is None) == (settings["method"] == "rqvae"):
            raise ValueError(f"method {settings['method']!r}, shape {settings['shape']}")
        if settings["shape"] is not None:
            shape = Shape(**settings["shape"])
            model = _model_for(settings, shape, folder / WEIGHTS, arrays)
            model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
            model.eval()
        return Frozen(settings["method"], modalities, codebooks, rules, shape, model)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PlumError(f"{folder / SETTINGS} and {WEIGHTS} don't belong together", str(error), AGAIN) from None


def _modality(entry: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> Modality:
    """A modality of ``tokenizer.json``; its arrays are taken out of ``arrays``."""
    name = entry["name"]
    isotropy: Isotropy = entry["isotropy"]
    transform = arrays.pop(f"standardise.{name}.transform") if isotropy in ("whiten", "all-but-the-top") else None
    mean, scale = arrays.pop(f"standardise.{name}.mean"), float(arrays.pop(f"standardise.{name}.scale"))
    return Modality(name, Standardisation(mean, scale, isotropy, transform), entry["complete"], entry["weight"])


def _refuse_other_sizes(
    settings: Mapping[str, Any], modalities: Sequence[Modality], codebooks: Sequence[np.ndarray]
) -> None:
    """Refuse arrays that are not as wide and long as the settings say.

    Raises:
        ValueError: naming the first.
    """
    for entry, modality in zip(settings["modalities"], modalities, strict=True):
        if modality.standardisation.mean.shape != (entry["width"],):
            found = f"shape {modality.standardisation.mean.shape}"
            raise ValueError(f"the mean of modality {entry['name']} has {found}, not width {entry['width']}")
        transform = modality.standardisation.transform
        if transform is not None and transform.shape != (entry["width"], entry["width"]):
            raise ValueError(f"the transform of modality {entry['name']} has shape {transform.shape}")
    for level, (size, book) in enumerate(zip(settings["sizes"], codebooks, strict=True)):
        if book.ndim != 2 or len(book) != size:
            raise ValueError(f"the codebook of level {level} has shape {book.shape}, not {size} codes")


def _model_for(settings: Mapping[str, Any], shape: Shape, path: Path, arrays: Mapping[str, np.ndarray]) -> RQVAE:
    """An untrained model that the arrays of the file ``path`` fit, which is known before memory is taken."""
    widths = [entry["width"] for entry in settings["modalities"]]
    with torch.random.fork_rng():  # initial weights are overwritten: don't advance the caller's generator
        with torch.device("meta"):
            planned = RQVAE(widths, settings["sizes"], shape.latent_dim, shape.hidden_dim, shape.ema)
        shapes = {name: tuple(tensor.shape) for name, tensor in planned.state_dict().items()}
        refuse_other_shapes(path, arrays, shapes, AGAIN)
        return RQVAE(widths, settings["sizes"], shape.latent_dim, shape.hidden_dim, shape.ema)


def _n_rows(modalities: Sequence[np.ndarray], present: np.ndarray | None) -> int:
    lengths = {len(vectors) for vectors in modalities} | ({len(present)} if present is not None else set())
    if len(lengths) != 1:
        raise ValueError(f"modalities and presence must have the same number of rows, found {sorted(lengths)}")
    return lengths.pop()


def _standardised_block(
    modality: Modality, vectors: np.ndarray, present: np.ndarray | None, column: int, first_row: int
) -> np.ndarray:
    """A standardised block (B, D_m) of a modality."""
    there = None if present is None else present[:, column]
    rows = np.arange(len(vectors)) if there is None else np.flatnonzero(there)
    known = vectors if there is None else vectors[rows]
    refuse_non_finite(known, f"modality {modality.name!r}", None, first_row + rows)
    return modality.standardisation.apply(vectors, there)
