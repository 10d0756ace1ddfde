"""Stage features: item content -> one dense matrix per modality."""

from __future__ import annotations

import logging
from pathlib import Path

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

logger = logging.getLogger(__name__)

_KNOWN = "items that are known before validation begins"


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
        dense = trained.dense_retriever(config, artifacts.DENSE, len(catalogue))
        return fit_learnt(dense.item_vectors()[known], train, item_ids)
    if modality.encoder == "numeric":
        return fit_numeric(items, modality.fields)
    return fit_tfidf(items, modality.fields, modality.dimensions, config.seed)


def _write(folder: Path, item_ids: pd.Series, made: dict[str, tuple[Encoder, Encoded]], config: RunConfig) -> None:
    summary = {}
    for name, (encoder, encoded) in made.items():
        write_array(folder / f"{name}.npy", encoded.vectors)
        encoder.save(folder / Path(artifacts.ENCODERS).name, name)
        summary[name] = {
            "encoder": config.features.modalities[name].encoder,
            "shape": list(encoded.vectors.shape),
            "present": float(encoded.present.mean()),
        }
    present = {name: encoded.present for name, (_, encoded) in made.items()}
    artifacts.write_table(folder / Path(artifacts.PRESENT).name, pd.DataFrame({"item_id": item_ids, **present}))
    artifacts.write_json(folder / Path(artifacts.FEATURES_SUMMARY).name, {"modalities": summary})
