"""Reading what earlier stages wrote, in the form that parts take."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.config.base import Section
from plum.config.dense import WITHOUT_EFFECT
from plum.config.items import BEHAVIOUR, OF_THE_TOKENIZER, ModalityConfig
from plum.config.language_model import ADDED, SCRATCH, LanguageModelConfig
from plum.config.run import EvalConfig, RunConfig
from plum.data.histories import Histories
from plum.data.tables import ITEM_COLUMNS
from plum.decoding.trie import Trie, fingerprint
from plum.errors import PlumError
from plum.evaluation.metrics import per_user_metrics
from plum.features.encoding import refuse_repeated
from plum.retrievers.protocol import Retriever
from plum.run import artifacts, saved, shapes
from plum.run.folders import is_complete
from plum.run.manifest import has_file, read_manifest
from plum.sid.table import SidTable
from plum.stages import training
from plum.vectors.unit import joined

logger = logging.getLogger(__name__)

SPLIT_COLUMNS = ("user_id", "item_id", "position", "part")


@dataclass(frozen=True)
class Prepared:
    """The prepared data of a run.

    Attributes:
        items: items.parquet; its row order is the catalogue's.
        histories: the split.
    """

    items: pd.DataFrame
    histories: Histories

    @property
    def popularity(self) -> np.ndarray:
        """Training interactions (N,) of each item."""
        return self.histories.popularity(len(self.items))

    def only(self, kept: np.ndarray) -> Prepared:
        """The same data as if the catalogue were some of its items; ``kept`` (N,) bool."""
        if kept.all():
            return self
        return Prepared(self.items[kept].reset_index(drop=True), self.histories.only(kept))


def read_prepared(workdir: Path, columns: Sequence[str] = ITEM_COLUMNS, only: bool = False) -> Prepared:
    """Read the catalogue and the split of a run.

    Args:
        workdir: the run.
        columns: that the catalogue must have.
        only: read these columns of the catalogue alone.

    Raises:
        PlumError: if they are damaged, lack a column, or don't belong together.
    """
    items = artifacts.read_table(workdir / artifacts.ITEMS, columns if only else None, needed=columns)
    again = artifacts.made_again_by(workdir / artifacts.ITEMS)
    refuse_repeated(items["item_id"].tolist(), str(workdir / artifacts.ITEMS), again)
    split = artifacts.read_table(workdir / artifacts.SPLIT, needed=SPLIT_COLUMNS)
    if not pd.api.types.is_integer_dtype(split["position"]):
        found = f"values of type {split['position'].dtype}"
        raise PlumError(f"{workdir / artifacts.SPLIT}: column position holds no whole numbers", found, again)
    return Prepared(items, Histories.from_split(split, items["item_id"]))


def known_files(workdir: Path) -> list[str]:
    """The file that :func:`read_known` reads, if the run has it."""
    return [artifacts.KNOWN] if has_file(workdir, artifacts.KNOWN) else []


def read_known(workdir: Path, item_ids: pd.Series) -> np.ndarray:
    """Which items of the catalogue, (N,) bool, may be learnt from; all under leave-one-out.

    Under the temporal protocol, everything that is fitted or counted is so over the items that are known before
    validation begins (:func:`plum.data.splits.known_items`).

    Args:
        workdir: the run.
        item_ids: N, of its catalogue.

    Raises:
        PlumError: if the file is damaged or of another catalogue, or no item is known.
    """
    if not known_files(workdir):
        return np.ones(len(item_ids), dtype=bool)
    path = workdir / artifacts.KNOWN
    again = artifacts.made_again_by(path)
    table = artifacts.read_table(path, ["item_id", "known"])
    if not table["item_id"].equals(item_ids):
        found = f"{len(table):,} rows, {len(item_ids):,} items; ids or their order differ"
        raise PlumError(f"{path} is not of this catalogue", found, again)
    if table["known"].dtype != np.bool_:
        raise PlumError(f"{path}: column known is not true or false", f"type {table['known'].dtype}", again)
    known = table["known"].to_numpy(dtype=bool, copy=True)
    if not known.any():
        raise PlumError(
            "no item is known before validation begins, so nothing can be learnt from items",
            f"{len(known):,} items, none with a training interaction",
            "lower data.split.valid_share and test_share, or use --set data.split.protocol=leave-one-out",
        )
    return known


Questions = tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]
"""Users, their histories and their targets; see ``Histories.questions``."""


def validation_sample(data: Prepared, limit: int, seed: int) -> Questions:
    """At most ``limit`` of the validation users, drawn by the seed, in their order."""
    users, histories, targets = data.histories.questions("valid")
    chosen = np.arange(len(users))
    if len(users) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(users), limit, replace=False))
    return users[chosen], [histories[i] for i in chosen], [targets[i] for i in chosen]


def train_times(workdir: Path, parts: Sequence[str] = ("train",)) -> np.ndarray | None:
    """Seconds (E,) int64 of the training interactions, in the order of ``Histories.train``; None if there are no times.

    With other ``parts``, of theirs, user by user. Some sources give the order of a user's interactions alone.
    """
    if artifacts.read_json(workdir / artifacts.DATA_SUMMARY, shapes.Times)["timestamps_are_positions"]:
        return None
    log, split = read_log_and_split(workdir)
    order = np.lexsort((split["position"].to_numpy(), split["user_id"].to_numpy(dtype=str)))
    return log["timestamp"].to_numpy()[order][np.isin(split["part"].to_numpy(dtype=str)[order], parts)]


def read_log_and_split(workdir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The interactions of a run and its split, which has the same rows in the same order.

    Raises:
        PlumError: if they are damaged, or don't belong together.
    """
    log = artifacts.read_table(workdir / artifacts.INTERACTIONS, needed=("user_id", "item_id", "timestamp", "rating"))
    split = artifacts.read_table(workdir / artifacts.SPLIT, needed=SPLIT_COLUMNS)
    if len(log) != len(split):
        raise PlumError(
            f"{workdir / artifacts.SPLIT} is not of {artifacts.INTERACTIONS}",
            f"{len(split):,} rows, {len(log):,} interactions",
            artifacts.made_again_by(workdir / artifacts.SPLIT),
        )
    return log, split


def content_vectors(workdir: Path) -> np.ndarray | None:
    """What items are made of, (N, D) float32: all modalities joined but those of behaviour.

    None if there is no other.
    """
    return joined_vectors(workdir, but=BEHAVIOUR)


def joined_vectors(workdir: Path, but: Sequence[str]) -> np.ndarray | None:
    """All modalities joined, (N, D) float32, but those of some encoders; None if there is no other."""
    made = read_modalities(workdir)
    names = [name for name, entry in made.items() if entry["encoder"] not in but]
    if not names:
        return None
    return joined([read_vectors(workdir, name, made[name]["shape"][0]) for name in names])


def read_modalities(workdir: Path) -> dict[str, dict[str, Any]]:
    """The modalities that stage features made, with their ``encoder`` and ``shape``; none if it has not run."""
    path = workdir / artifacts.FEATURES_SUMMARY
    if not path.exists():
        return {}
    made: dict[str, dict[str, Any]] = artifacts.read_json(path, shapes.Features)["modalities"]
    return made


def read_vectors(workdir: Path, modality: str, n_items: int, mapped: bool = False) -> np.ndarray:
    """The vectors (N, D) float32 of a modality.

    Args:
        workdir: the run.
        modality: its name.
        n_items: N.
        mapped: map the file into memory instead of loading it.

    Raises:
        PlumError: if they are damaged or of another catalogue.
    """
    path = workdir / artifacts.FEATURES / f"{modality}.npy"
    return saved.read_vectors(path, n_items, artifacts.made_again_by(path), mapped)


def recorded(config: RunConfig, stage: str) -> dict[str, Any]:
    """The settings that the result of a stage depends on, as its manifest holds them; of every stage but eval.

    One place for the stages and for :func:`warn_outdated`, which would speak of settings that no one changed if the
    two differed. What came later and changes nothing by default is not recorded while it does not.
    """
    settings: dict[str, Section | None] = {
        artifacts.DATA: config.data,
        artifacts.FEATURES: config.features,
        artifacts.TOKENIZE: config.tokenize,
        artifacts.CPT: config.cpt,
        artifacts.FINETUNE: config.finetune,
        artifacts.DENSE: config.eval.dense,
        artifacts.LEM: config.eval.lem,
    }
    section = settings[stage]
    values = section.model_dump(mode="json") if section else {}
    if stage in (artifacts.CPT, artifacts.FINETUNE):
        values = training.recorded(values, stage, config.cpt.base == SCRATCH)
    if stage == artifacts.FINETUNE and not config.taught_by_dense:
        del values["teacher_weight"]
    if stage == artifacts.FINETUNE and not config.taught_by_trials:
        del values["teacher"]
    if stage == artifacts.DATA and config.data.split.protocol == "temporal":
        values["fitted_on"] = "known items"  # a run of an earlier version does not say which these are
    if stage == artifacts.FEATURES:
        for modality in values["modalities"].values():
            for name in OF_THE_TOKENIZER:
                del modality[name]
    if stage == artifacts.TOKENIZE and (modalities := _told_to_tokenizer(config)):
        values["modalities"] = modalities
    for name in WITHOUT_EFFECT:
        values.pop(name, None)
    if isinstance(section, LanguageModelConfig):
        for name in ADDED:
            if values[name] == type(section).model_fields[name].default:
                del values[name]
    if stage in (artifacts.FINETUNE, artifacts.DENSE, artifacts.LEM):
        values |= _selection(config.eval, decoder=stage == artifacts.FINETUNE)
    return values


def _told_to_tokenizer(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The modalities whose settings for stage tokenize differ from the defaults, and these settings."""
    default = ModalityConfig()
    told = {
        name: {field: getattr(modality, field) for field in OF_THE_TOKENIZER}
        for name, modality in config.features.modalities.items()
    }
    usual = {field: getattr(default, field) for field in OF_THE_TOKENIZER}
    return {name: settings for name, settings in told.items() if settings != usual}


def is_built_on_dense(workdir: Path) -> bool:
    """Whether plum learnt from the dense baseline, by its Semantic IDs or in fine-tuning."""
    return any(is_made_of(workdir, stage, artifacts.DENSE) for stage in (artifacts.FEATURES, artifacts.FINETUNE))


def is_taught_by_trials(workdir: Path) -> bool:
    """Whether plum learnt in fine-tuning from all trials of the dense baseline's search."""
    taught = is_made_of(workdir, artifacts.FINETUNE, artifacts.DENSE)
    return taught and read_manifest(workdir / artifacts.FINETUNE).config.get("teacher") == "trials"


def has_mean_of_trials(config: RunConfig) -> bool:
    """Whether the models of all trials of the dense baseline's search are kept, so that their mean can be scored."""
    kept = artifacts.DENSE in config.eval.baselines and config.eval.dense.n_kept > 0
    return kept or is_taught_by_trials(config.workdir)


def is_made_of(workdir: Path, stage: str, other: str) -> bool:
    """Whether the folder that a stage of the run has written was made of files of another one's folder."""
    if not is_complete(workdir / stage):
        return False
    return any(name.startswith(f"{other}/") for name in read_manifest(workdir / stage).inputs)


def warn_outdated(config: RunConfig, *stages: str) -> None:
    """Say which folders of the run were made with other settings than the present ones: a stage runs none before it."""
    for stage in stages:
        manifest = read_manifest(config.workdir / stage)
        if manifest.config != recorded(config, stage) or manifest.seed != config.seed:
            logger.warning(
                "%s/ was made with other settings than the current ones and is used as it is; update it with `%s` or "
                "`plum run`",
                stage,
                artifacts.COMMANDS[stage],
            )


def read_sid_table(workdir: Path, items: pd.DataFrame) -> SidTable:
    """Read the Semantic IDs of a run, rows in the catalogue's order.

    Raises:
        PlumError: if they are not exactly the catalogue's items, or a code is no whole number.
    """
    table = artifacts.read_table(workdir / artifacts.SEMANTIC_IDS)
    if "item_id" not in table or not table["item_id"].equals(items["item_id"]):
        path = workdir / artifacts.SEMANTIC_IDS
        found = f"{len(table):,} Semantic IDs, {len(items):,} items; ids or their order differ"
        raise PlumError(f"{path} is not of this catalogue", found, artifacts.made_again_by(path))
    codes = table.drop(columns="item_id")
    sizes = _read_sizes(workdir, len(items), len(codes.columns))
    whole = pd.DataFrame({name: _whole(column) for name, column in codes.items()}).to_numpy(dtype=bool)
    if not whole.all():
        n_items = int((~whole).any(axis=1).sum())
        row, level = np.argwhere(~whole)[0]
        code = codes.iloc[row : row + 1, level].tolist()[0]
        raise PlumError(
            f"{workdir / artifacts.SEMANTIC_IDS}: {n_items:,} items with codes that are no whole numbers",
            f"item {items['item_id'].iloc[row]!r} has {code!r} at level {level}",
            "make the Semantic IDs again with `plum tokenize --force`",
        )
    return SidTable(codes.to_numpy(dtype=np.int64), sizes)


def _read_sizes(workdir: Path, n_items: int, n_levels: int) -> tuple[int, ...]:
    """Codes per level; no level has more than there are items, or memory would follow a damaged number."""
    path = workdir / artifacts.QUALITY
    sizes = tuple(level["size"] for level in artifacts.read_json(path, shapes.Levels)["levels"])
    if len(sizes) != n_levels or max(sizes) > max(n_items, 1):
        raise PlumError(
            f"{path} is not of {artifacts.SEMANTIC_IDS}",
            f"codes per level {list(sizes)}; {n_levels} levels of {n_items:,} items there",
            artifacts.made_again_by(path),
        )
    return sizes


def _whole(column: pd.Series) -> np.ndarray:
    """Which values (N,) are whole numbers; text is not, whatever it spells."""
    if not (pd.api.types.is_integer_dtype(column) or pd.api.types.is_float_dtype(column)):
        return np.zeros(len(column), dtype=bool)
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return (numbers == np.floor(numbers)) & (np.abs(numbers) < 1 << 53)  # beyond, a float holds no single number


def read_codebooks(workdir: Path) -> list[np.ndarray]:
    """The codewords (C, D) of each level of a run's tokenizer; a disambiguation code has none."""
    path = workdir / artifacts.RQVAE
    fix = artifacts.made_again_by(path)
    tensors = saved.read_arrays(path, "a tokenizer's weights", fix)
    books = [tensors[f"codebooks.{level}"] for level in range(len(tensors)) if f"codebooks.{level}" in tensors]
    if not books or any(book.ndim != 2 or book.shape[1:] != books[0].shape[1:] for book in books):
        found = f"shapes {[book.shape for book in books]}" if books else f"arrays {', '.join(tensors) or 'none'}"
        raise PlumError(f"{path} holds no codebooks", found, fix)
    return books


def check_beams(config: EvalConfig, n_levels: int) -> None:
    """Refuse a beam width per level for another number of levels.

    Args:
        config: how retrievers are compared.
        n_levels: levels of the Semantic IDs, the disambiguation code counted.

    Raises:
        PlumError: if they don't fit.
    """
    if not isinstance(config.beams, int) and len(config.beams) != n_levels:
        raise PlumError(
            f"eval.beams gives {len(config.beams)} beam widths",
            f"the Semantic IDs have {n_levels} levels",
            "give one number, or one per level",
        )


def read_index(workdir: Path, table: SidTable) -> Trie:
    """Read the index of a run's Semantic IDs, and check that it leads to every item of ``table`` by its own SID.

    Raises:
        PlumError: if it is missing, damaged or of other Semantic IDs.
    """
    trie = Trie.load(workdir / artifacts.SID_INDEX, fingerprint(table.codes, table.sizes))
    trie.verify(table.codes)
    return trie


def validation_metrics(
    retriever: Retriever, histories: Sequence[np.ndarray], targets: Sequence[np.ndarray], filter_seen: bool
) -> dict[str, float]:
    """Recall@10 and NDCG@10, by which every trained retriever picks its best weights, under the headline's rule."""
    found = retriever.recommend(histories, 10, histories if filter_seen else None)
    per_user = per_user_metrics(found.items, targets, [10])
    return {name: float(per_user[name].mean()) for name in ("recall@10", "ndcg@10")}


def _selection(config: EvalConfig, decoder: bool) -> dict[str, bool | str]:
    """What the choice of weights depends on beside a stage's own configuration, where it is not the default.

    Args:
        config: how retrievers are compared.
        decoder: whether the stage's model is decoded.
    """
    chosen: dict[str, bool | str] = {} if config.filter_seen else {"filter_seen": False}
    return chosen if config.scores_over == "codes" or not decoder else chosen | {"scores_over": config.scores_over}
