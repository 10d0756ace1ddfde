"""Stage features: item content -> one dense matrix per modality."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.config.items import BEHAVIOUR, ModalityConfig
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.features.cooccurrence import fit_cooccurrence
from plum.features.encoding import Encoded, Encoder, encode_apart, refuse_non_finite, refuse_repeated, refuse_useless
from plum.features.given import fit_given
from plum.features.learnt import fit_learnt
from plum.features.numeric import fit_numeric
from plum.features.sentences import SentenceEncoder
from plum.features.text import fit_tfidf, fit_topics, texts_of
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.run.writing import write_array
from plum.runtime import pick_device, seed_everything
from plum.stages import inputs, trained
from plum.vectors.spread import constant_columns, mean_cosine, sharing

logger = logging.getLogger(__name__)

_KNOWN = "items that are known before validation begins"
ALIKE = 0.5
"""A mean cosine of two items above this deserves a warning."""
MANY = 0.01
"""So does a larger share of items with the vectors of another item."""


def run(config: RunConfig, force: bool = False) -> Path:
    """Write vectors, presence, encoders and a summary; skip if up to date.

    Under the temporal protocol, encoders are fitted on the items that are known before validation begins
    (``inputs.read_known``), and encode the others as they do new ones.

    ``<modality>.npy`` (N, D) holds the vectors, ``present.parquet`` which items have which modality,
    ``encoders/<modality>.json`` and ``.safetensors`` the encoder of new items (see
    :func:`plum.features.registry.load_encoder`).

    Raises:
        PlumError: if a modality can't be made of the items, or is the same for all; nothing is written then.
    """
    stage = StageRun(
        config.workdir,
        artifacts.FEATURES,
        inputs.recorded(config, artifacts.FEATURES),
        config.seed,
        [artifacts.ITEMS, *inputs.known_files(config.workdir), *_of_behaviour(config)],
        _files(config),
    )
    if stage.is_complete() and not force:
        logger.info("features: up to date")
        return stage.folder
    seed_everything(config.seed)
    items = artifacts.read_table(config.workdir / artifacts.ITEMS)
    item_ids = items["item_id"].tolist()
    refuse_repeated(item_ids, str(config.workdir / artifacts.ITEMS), "run `plum data prepare --force`")
    known = inputs.read_known(config.workdir, items["item_id"])
    made: dict[str, tuple[Encoder, Encoded]] = {}
    for name, modality in config.features.modalities.items():
        if not _has_content(modality, items[known]):
            _leave_out(name, config, bool(known.all()))
            continue
        encoder = fit_modality(name, modality, items, known, config)
        encoded = encode_apart(encoder, items, known)
        refuse_non_finite(encoded.vectors, f"modality {name!r}", item_ids)
        refuse_useless(Encoded(encoded.vectors[known], encoded.present[known]), name, items["item_id"][known].tolist())
        made[name] = encoder, encoded
        lack = int((~encoded.present).sum())
        logger.info("features: %s, %d items, %d dimensions, %d items lack it", name, *encoded.vectors.shape, lack)
    if not made:
        raise PlumError(
            "the items have no content for Semantic IDs" if known.all() else f"the {_KNOWN} have no content",
            "no title, topics, creator or description",
            "name an items file in data.source.items, or give your own vectors: "
            "features.modalities.NAME with encoder: file and path: VECTORS.npy",
        )
    with stage.writing(force) as folder:
        _write(folder, items["item_id"], made, config)
    return stage.folder


def _files(config: RunConfig) -> list[Path]:
    """Files outside the run: the user's vectors, and models in local folders."""
    files = [modality.path for modality in config.features.modalities.values() if modality.path]
    for modality in config.features.modalities.values():
        if modality.model and Path(modality.model).is_dir():
            files += sorted(path for path in Path(modality.model).rglob("*") if path.is_file())
    return files


def _of_behaviour(config: RunConfig) -> list[str]:
    """The run's files that behaviour encoders read."""
    used = {modality.encoder for modality in config.features.modalities.values()}
    return [
        *([artifacts.SPLIT] if used & set(BEHAVIOUR) else []),
        *(artifacts.DENSE_FILES if artifacts.DENSE in used else []),
    ]


def _has_content(modality: ModalityConfig, items: pd.DataFrame) -> bool:
    """Whether any item has any of the modality's text fields; encoders of other inputs check for themselves."""
    if modality.encoder in ("file", "numeric", *BEHAVIOUR):
        return True
    fields = ["topics"] if modality.encoder == "topics" else modality.fields
    return any(text.strip() for text in texts_of(items, fields))


def _leave_out(name: str, config: RunConfig, all_known: bool) -> None:
    """Leave out a default modality that no item, or no known one, has.

    Raises:
        PlumError: if it is not a default one.
    """
    modality = config.features.modalities[name]
    fields = "topics" if modality.encoder == "topics" else ", ".join(modality.fields)
    nobody = "no item" if all_known else f"none of the {_KNOWN}"
    if not config.features.is_default(name):
        raise PlumError(
            f"{nobody} has modality {name!r}",
            f"{nobody} has {fields}",
            f"drop features.modalities.{name}, or add these fields to the items",
        )
    logger.warning("features: %s has %s; modality %s is left out", nobody, fields, name)


def fit_modality(
    name: str, modality: ModalityConfig, catalogue: pd.DataFrame, known: np.ndarray, config: RunConfig
) -> Encoder:
    """The encoder of a modality, fitted on the items of the catalogue that are known, (N,) bool."""
    if modality.encoder == "file" and modality.path:  # nothing is fitted
        return fit_given(modality.path, catalogue["item_id"].tolist(), name)
    if modality.encoder == "sentence-transformers":  # nor here
        return SentenceEncoder(tuple(modality.fields), str(modality.model), pick_device(config.device).type)
    items = catalogue[known].reset_index(drop=True)
    item_ids = items["item_id"].tolist()
    if modality.encoder == "topics":
        return fit_topics(items, modality.dimensions, config.seed)
    if modality.encoder == "cooccurrence":
        train = inputs.read_prepared(config.workdir).histories.only(known).train
        return fit_cooccurrence(train, item_ids, modality.dimensions, config.seed, modality.window)
    if modality.encoder == "dense":
        train = inputs.read_prepared(config.workdir).histories.only(known).train
        dense = trained.dense_retriever(config, artifacts.DENSE, catalogue)
        return fit_learnt(dense.item_vectors(), train, item_ids)
    if modality.encoder == "numeric":
        return fit_numeric(items, modality.fields)
    return fit_tfidf(items, modality.fields, modality.dimensions, config.seed)


def _write(folder: Path, item_ids: pd.Series, made: dict[str, tuple[Encoder, Encoded]], config: RunConfig) -> None:
    for name, (encoder, encoded) in made.items():
        write_array(folder / f"{name}.npy", encoded.vectors)
        encoder.save(folder / Path(artifacts.ENCODERS).name, name)
    encoded_by_name = {name: encoded for name, (_, encoded) in made.items()}
    present = {name: encoded.present for name, encoded in encoded_by_name.items()}
    artifacts.write_table(folder / Path(artifacts.PRESENT).name, pd.DataFrame({"item_id": item_ids, **present}))
    artifacts.write_json(folder / Path(artifacts.FEATURES_SUMMARY).name, _summary(encoded_by_name, config))


def _summary(made: dict[str, Encoded], config: RunConfig) -> dict[str, Any]:
    """The content of ``features.json``; warns of vectors that tell items badly apart.

    ``mean_cosine`` is over all pairs of items; ``items_sharing_vectors`` have exactly the vectors of another item, in
    the modality, or in all of them.
    """
    summary = {
        name: {
            "encoder": config.features.modalities[name].encoder,
            "shape": list(encoded.vectors.shape),
            "present": float(encoded.present.mean()),
            "mean_cosine": mean_cosine(encoded.vectors, encoded.present),
            "constant_columns": constant_columns(encoded.vectors, encoded.present),
            "items_sharing_vectors": int(sharing([encoded.vectors], encoded.present[:, None]).sum()),
        }
        for name, encoded in made.items()
    }
    for name, told in summary.items():
        _warn_of_modality(name, told)
    present = np.stack([encoded.present for encoded in made.values()], axis=1)
    shared = int(sharing([encoded.vectors for encoded in made.values()], present).sum())
    if shared:
        tell = logger.warning if shared > MANY * len(present) else logger.info
        found = "%d items (%.1f%%) share all their vectors with another item, so their codes will collide"
        tell(f"features: {found}", shared, 100 * shared / len(present))
    return {"modalities": summary, "items_sharing_vectors": shared}


def _warn_of_modality(name: str, told: dict[str, Any]) -> None:
    """Warn of vectors that all point one way, and of columns that say nothing; ``told`` is of ``features.json``."""
    width, constant, cosine = told["shape"][1], told["constant_columns"], told["mean_cosine"]
    if constant:
        logger.warning("features: %d of the %d columns of %s are the same for all items", constant, width, name)
    if width > 1 and cosine is not None and cosine > ALIKE:
        logger.warning(
            "features: the mean cosine of two items' vectors of %s is %.2f: what all have in common outweighs what "
            "tells them apart. features.modalities.%s.isotropy says what is removed for Semantic IDs; searches by "
            "content use the vectors as they are",
            name,
            cosine,
            name,
        )
