"""What documents are made of: the catalogue, the histories, and the fields that templates name."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from plum.config.corpus import BehaviourDocuments, CorpusConfig, MetadataDocuments, ReplayDocuments
from plum.config.templates import SID, Template, parse_template
from plum.corpus.bins import Bins, fit_edges
from plum.corpus.fields import GAP, ITEM_FIELDS, OF_INTERACTIONS, check_fields
from plum.corpus.held_out import held_out
from plum.data.histories import Histories
from plum.errors import PlumError
from plum.run import artifacts, shapes, verified
from plum.sid.table import SidTable
from plum.stages import inputs

logger = logging.getLogger(__name__)

SECONDS_PER_HOUR = 3600
ROWS = 1000
"""Items that are read together."""
INPUTS = (artifacts.ITEMS, artifacts.SPLIT, artifacts.SEMANTIC_IDS, artifacts.QUALITY, artifacts.RQVAE)
_IDS = ("user_id", "item_id", "timestamp")


@dataclass(frozen=True)
class Sources:
    """The known part of a run, of which documents are made.

    Attributes:
        workdir: the run.
        known: (N,) bool, which items of the catalogue are known; what follows counts these alone.
        item_ids: (M,) of the known items.
        table: their Semantic IDs.
        histories: with their rows.
        held_users, held_items: (U,) and (M,) bool, whose documents are not trained on.
    """

    workdir: Path
    known: np.ndarray
    item_ids: pd.Series
    table: SidTable
    histories: Histories
    held_users: np.ndarray
    held_items: np.ndarray

    @property
    def items_of_interactions(self) -> np.ndarray:
        """The item's row (E,) of each training interaction, user by user."""
        return np.concatenate([np.zeros(0, np.int64), *self.histories.train])

    def items(self, columns: Sequence[str]) -> Iterator[tuple[np.ndarray, dict[str, list[Any]]]]:
        """Rows of known items and their values in some columns, some items at a time."""
        path, first, row = self.workdir / artifacts.ITEMS, 0, 0
        verified.verify(path)
        again = artifacts.made_again_by(path)
        try:
            for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=list(columns)):
                kept = self.known[first : first + len(batch)]
                first += len(batch)
                values = batch.filter(pa.array(kept)).to_pydict()
                yield np.arange(row, row + int(kept.sum())), values
                row += int(kept.sum())
        except (pa.ArrowException, OSError) as error:
            raise PlumError(f"{path} can't be read", str(error), again) from None


def input_files(workdir: Path, corpus: CorpusConfig) -> list[str]:
    """The run's files that the stage reads; the log only if a template may name a field of it."""
    named = {name for _, section in behaviour(corpus) for name in section_template(section).fields}
    log = [artifacts.INTERACTIONS, artifacts.DATA_SUMMARY] if named - {SID, *ITEM_FIELDS} else []
    return [*INPUTS, *inputs.known_files(workdir), *log]


def read(workdir: Path, corpus: CorpusConfig, seed: int) -> Sources:
    """Read the ids, histories and Semantic IDs; later items have neither interactions to learn from nor texts yet.

    Raises:
        PlumError: if files are damaged, or a template names a field that the data don't have.
    """
    _check_templates(workdir, corpus)
    catalogue = inputs.read_prepared(workdir, ("item_id",), only=True)
    known = inputs.read_known(workdir, catalogue.items["item_id"])
    table = inputs.read_sid_table(workdir, catalogue.items).only(known)
    data = catalogue.only(known)
    users = held_out(len(data.histories.user_ids), corpus.held_out, seed, 0)
    items = held_out(len(data.items), corpus.held_out, seed, 1)
    return Sources(workdir, known, data.items["item_id"], table, data.histories, users, items)


def behaviour(corpus: CorpusConfig) -> list[tuple[str, BehaviourDocuments]]:
    """The kinds of behaviour documents, by name."""
    return [(name, section) for name, section in corpus.documents.items() if isinstance(section, BehaviourDocuments)]


def section_template(section: BehaviourDocuments) -> Template:
    """What stands for each item of a history."""
    return parse_template(section.template)


def templates(section: MetadataDocuments) -> dict[str, list[Template]]:
    """The templates of facts, by name."""
    return {name: [parse_template(text) for text in texts] for name, texts in section.templates.items()}


def item_columns(sources: Sources, names: Collection[str]) -> list[str]:
    """The columns of items among some fields."""
    return [name for name in _columns(sources.workdir / artifacts.ITEMS) if name in names]


def text_columns(sources: Sources, names: Collection[str]) -> list[str]:
    """The columns of items with text among some fields; the log's own come before those of the same name."""
    schema = pq.read_schema(sources.workdir / artifacts.ITEMS)
    others = set(_log_fields(sources.workdir)) - set(ITEM_FIELDS)
    return [
        name for name in item_columns(sources, names) if name not in others and not _is_number(schema.field(name).type)
    ]


def _check_templates(workdir: Path, corpus: CorpusConfig) -> None:
    of_items = [*ITEM_FIELDS, *_columns(workdir / artifacts.ITEMS)]
    of_log = _log_fields(workdir)
    for name, section in corpus.documents.items():
        where = f"cpt.corpus.{name}"
        if isinstance(section, BehaviourDocuments):
            every = list(dict.fromkeys([*of_log, *of_items]))
            check_fields(f"{where}.template", [section_template(section)], every)
        elif isinstance(section, MetadataDocuments):
            for fact, forms in templates(section).items():
                check_fields(f"{where}.templates.{fact}", forms, list(dict.fromkeys(of_items)))


def _log_fields(workdir: Path) -> list[str]:
    """Fields of interactions, which stand before an item's of the same name."""
    return [*OF_INTERACTIONS, *_columns(workdir / artifacts.INTERACTIONS)]


def _columns(path: Path) -> list[str]:
    """Columns of a table of the run that may be fields of a template."""
    try:
        return [name for name in pq.read_schema(path).names if name not in (*_IDS, SID)]
    except (pa.ArrowException, OSError) as error:
        raise PlumError(f"{path} can't be read", str(error), artifacts.made_again_by(path)) from None


def values_of(sources: Sources, names: Collection[str]) -> dict[str, np.ndarray]:
    """Values (E,) of the training interactions in the fields of them that are named, user by user.

    Numbers are float64 with NaN for missing ones, others objects. Those that the data lack are left out: all values are
    missing, or the times are only an order.
    """
    wanted = [name for name in _log_fields(sources.workdir) if name in names]
    if not wanted:
        return {}
    log, split = inputs.read_log_and_split(sources.workdir)
    order = np.lexsort((split["position"].to_numpy(), split["user_id"].to_numpy(dtype=str)))
    rows = order[split["part"].to_numpy(dtype=str)[order] == "train"]
    place = pd.Index(sources.item_ids).get_indexer(log["item_id"].iloc[rows])
    rows = rows[place >= 0]
    found = {name: _plain(log[name].iloc[rows]) for name in wanted if name in log}
    if GAP in wanted and GAP not in found:
        path = sources.workdir / artifacts.DATA_SUMMARY
        if not artifacts.read_json(path, shapes.Times)["timestamps_are_positions"]:
            found[GAP] = _gaps(log["timestamp"].to_numpy()[rows], [len(own) for own in sources.histories.train])
    return {name: values for name, values in found.items() if pd.notna(values).any()}


def _plain(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.to_numpy(dtype=object)


def _gaps(times: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Hours (E,) since the same user's interaction before; NaN for the first ones.

    Example: times 0, 7200, 50 of users with 2 and 1 interactions -> NaN, 2, NaN.
    """
    gaps = np.diff(times, prepend=0) / SECONDS_PER_HOUR
    starts = np.cumsum([0, *lengths[:-1]], dtype=np.int64)
    gaps[starts[np.asarray(lengths) > 0]] = np.nan
    return gaps


def item_numbers(sources: Sources, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Values (M,) float64 of the known items in numeric columns; NaN for missing ones."""
    schema = pq.read_schema(sources.workdir / artifacts.ITEMS)
    others = {*ITEM_FIELDS, *_log_fields(sources.workdir)}
    numeric = [name for name in names if name in schema.names and name not in others]
    numeric = [name for name in numeric if _is_number(schema.field(name).type)]
    if not numeric:
        return {}
    table = artifacts.read_table(sources.workdir / artifacts.ITEMS, numeric)
    return {name: _plain(table[name])[sources.known] for name in numeric}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def numbers_and_bins(
    sources: Sources, corpus: CorpusConfig, given: Bins
) -> tuple[dict[str, np.ndarray], Mapping[str, np.ndarray], Bins]:
    """What the templates of histories name: numbers (E,) and texts (E,) of the interactions, and the numbers' bins.

    Bins are quantiles over the training interactions, or ``given`` with a base that was trained on them; a number that
    is the same everywhere has none and is left out.
    """
    sections = behaviour(corpus)
    names = list(dict.fromkeys(name for _, section in sections for name in section_template(section).fields))
    values = values_of(sources, names)
    rows = sources.items_of_interactions
    held = sources.held_items  # what they are must not be told by histories
    values |= {name: np.where(held, np.nan, numbers)[rows] for name, numbers in item_numbers(sources, names).items()}
    numbers = {name: found for name, found in values.items() if found.dtype == np.float64}
    edges = {}
    for _, section in sections:
        for name in section_template(section).fields:
            if name in numbers and name not in edges:
                borders = given.edges.get(name, fit_edges(numbers[name], section.bins))
                if borders is None:
                    logger.info("cpt: {%s} is the same everywhere and is left out", name)
                else:
                    edges[name] = borders
    texts = {name: found for name, found in values.items() if name not in numbers}
    return {name: numbers[name] for name in edges}, texts, Bins(edges)


def replay_files(corpus: CorpusConfig) -> list[Path]:
    """The files of general text."""
    sections = corpus.documents.values()
    return [path for section in sections if isinstance(section, ReplayDocuments) for path in section.files]
