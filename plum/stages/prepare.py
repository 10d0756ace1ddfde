"""Stage data: a source -> checked tables and a split."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from plum.config.data import (
    AmazonReviewsSource,
    AmazonSequencesSource,
    DataConfig,
    LogsSource,
    MovieLensSource,
    RowChoice,
    SplitConfig,
    SyntheticSource,
)
from plum.config.run import RunConfig
from plum.data import amazon, amazon_sequences, fetch, logs, movielens, splits, synthetic
from plum.data.cautions import giants, ratings_that_differ
from plum.data.dialect import Dialect, file_format
from plum.data.files import is_file
from plum.data.filters import without_consecutive
from plum.data.histories import Histories
from plum.data.moments import Moment, before
from plum.data.parts import find_parts
from plum.data.sequences import sequences_format
from plum.data.tables import RawTables, RowProblem
from plum.errors import PlumError
from plum.rules.language import spell_value
from plum.rules.log_rows import log_rule
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.run.writing import write_tensors
from plum.stages import capacity, inputs

logger = logging.getLogger(__name__)


def data_home() -> Path:
    """The folder of data sets: the environment variable ``PLUM_DATA_HOME``, else ``data/``."""
    return Path(os.environ.get("PLUM_DATA_HOME", "data"))


def run(config: RunConfig, force: bool = False) -> Path:
    """Write interactions, items, users and the split; skip if up to date.

    ``interactions.parquet`` and ``split.parquet`` have the same rows in the same order: by user, then time.
    """
    stage = StageRun(
        config.workdir,
        artifacts.DATA,
        inputs.recorded(config, artifacts.DATA),
        config.seed,
        [],
        source_files(config.data),
    )
    if stage.is_complete() and not force:
        logger.info("data: up to date")
        return stage.folder
    tables = load(config.data)
    _caution(tables.interactions, config.data)
    ordered, split, ties, valid_from = _divided(tables, config.data)
    items = _items(tables, ordered, split, valid_from, config.data)
    report = splits.report_split(split)
    repeated = _check_questions(split, items)
    _warn(report, repeated, config)
    with stage.writing(force) as folder:
        artifacts.write_table(folder / "interactions.parquet", ordered)
        artifacts.write_table(folder / "items.parquet", items)
        artifacts.write_table(folder / "split.parquet", split)
        if valid_from is not None:
            known = splits.known_items(split, items["item_id"])
            artifacts.write_table(folder / Path(artifacts.KNOWN).name, items[["item_id"]].assign(known=known))
        if tables.users is not None:
            artifacts.write_table(folder / "users.parquet", tables.users)
        # The optimum ranks the next item over the whole catalogue: it is not a bound for other protocols.
        if tables.truth is not None and valid_from is None and len(items) == len(tables.items):
            truth = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in tables.truth.items()}
            write_tensors(folder / "truth.safetensors", truth)
        summary = {
            "source": config.data.source.model_dump(mode="json"),
            "synthetic": isinstance(config.data.source, SyntheticSource),
            "items": len(items),
            "split": asdict(report),
            "ties": asdict(ties),
            "timestamps_are_positions": tables.timestamps_are_positions,
            "test_users_with_seen_targets_only": repeated,
            "unusable_rows": [_told(problem) for problem in tables.problems if not problem.asked],
            "filtered_rows": [_told(problem) for problem in tables.problems if problem.asked],
        }
        counts = None if valid_from is None else asdict(splits.report_known(split, items["item_id"]))
        if counts:
            summary["known_items"] = counts
        artifacts.write_json(folder / "summary.json", summary)
    logger.info(
        "data: %s users, %s items, %s interactions (%s train, %s valid, %s test), %.1f%% tied in time",
        *(f"{n:,}" for n in (report.users, len(items), report.interactions, report.train, report.valid, report.test)),
        100 * ties.share,
    )
    if counts:
        logger.info("data: %s", _told_known(counts))
    return stage.folder


def known_items(tables: RawTables, config: DataConfig) -> dict[str, Any] | None:
    """How many items of a source are known before validation begins (``splits.KnownReport``); None for leave-one-out.

    Raises:
        PlumError: if the source can't be split by time.
    """
    if config.split.protocol == "leave-one-out":
        return None
    ordered, split, _, _ = _divided(tables, config)
    return asdict(splits.report_known(split, _in_core(tables.items, ordered, config.split)["item_id"]))


def _divided(
    tables: RawTables, config: DataConfig
) -> tuple[pd.DataFrame, pd.DataFrame, splits.TieReport, Moment | None]:
    """The interactions in order, their split, the ties, and when validation begins (None under leave-one-out)."""
    ordered, ties = splits.order_interactions(tables.interactions, config.split.ties, config.split.seed)
    ordered = _without_repeats(ordered, config)
    cutoffs = _cutoffs(ordered, config.split, tables)
    ordered = _core(ordered, config.split, cutoffs)
    if cutoffs is None:
        return ordered, splits.leave_one_out(ordered), ties, None
    return ordered, splits.temporal(ordered, *cutoffs), ties, cutoffs[0]


def load(config: DataConfig) -> RawTables:
    """Read the configured source.

    Raises:
        PlumError: if it can't be found or read, or too many of its rows are unusable.
    """
    source, bad = config.source, config.max_bad_share
    if isinstance(source, RowChoice):
        return _load_log(source, bad)
    if isinstance(source, SyntheticSource):
        for lack in capacity.of_synthetic(source.n_users, capacity.machine_bytes()):
            raise PlumError("this machine can't hold the made-up data", lack, "correct this key")
        return synthetic.generate(source.n_users, source.n_items, source.seed)
    folder = fetch.locate(f"amazon-2014/{source.name}", data_home())
    return amazon_sequences.load_amazon_sequences(folder, source.name, max_bad_share=bad)


def _load_log(source: MovieLensSource | AmazonReviewsSource | LogsSource, bad: float) -> RawTables:
    """Read a source whose rows a rule can choose; see :func:`load`."""
    where = log_rule(source.where, source.min_rating)
    every = source.deduplicate == "none"
    if isinstance(source, MovieLensSource):
        path = fetch.locate(source.release, data_home())
        return movielens.load_movielens(path, source.release, max_bad_share=bad, where=where)
    if isinstance(source, AmazonReviewsSource):
        return amazon.load_amazon_reviews(
            source.reviews, source.metadata, max_bad_share=bad, where=where, keep_repeats=every
        )
    source = located(source)
    return logs.load_logs(
        source.interactions,
        source.items,
        source.users,
        source.columns,
        source.item_columns,
        topic_separator=source.topic_separator,
        timestamp_unit=source.timestamp_unit,
        timestamp_format=source.timestamp_format,
        encoding=source.encoding,
        dialect=dialect_of(source),
        max_bad_share=bad,
        where=where,
        keep_repeats=every,
        keep_unlisted=source.unlisted_items == "keep",
        sequences=source.layout == "sequences",
    )


def located(source: LogsSource) -> LogsSource:
    """A source whose paths are those of its files, wherever the configuration says that they lie."""
    if not source.in_data_home:
        return source
    names = ("interactions", "items", "users")
    paths = {name: data_home() / path for name in names if (path := getattr(source, name)) is not None}
    return source.model_copy(update=paths)


def dialect_of(source: LogsSource) -> Dialect:
    """What the configuration says of the layout of text files."""
    return Dialect(source.delimiter, source.quoting, source.escape, source.header)


def source_files(config: DataConfig) -> list[Path]:
    """The existing files of the source."""
    source = config.source
    if isinstance(source, MovieLensSource):
        path = fetch.locate(source.release, data_home())
        return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    if isinstance(source, AmazonSequencesSource):
        folder = fetch.locate(f"amazon-2014/{source.name}", data_home())
        named = [folder / f"{source.name}{end}" for end in (".txt", *amazon_sequences.BESIDE)]
        return [path for path in named if path.is_file()]
    if isinstance(source, AmazonReviewsSource):
        return [path for path in (source.reviews, source.metadata) if path and is_file(path)]
    if isinstance(source, LogsSource):
        source = located(source)
        return [path for path in (*parts_of(source), source.items, source.users) if path and is_file(path)]
    return []


def parts_of(source: LogsSource) -> list[Path]:
    """The files of a log whose paths are located.

    Raises:
        PlumError: if a folder or a pattern holds none.
    """
    known = sequences_format if source.layout == "sequences" else file_format
    return find_parts(source.interactions, partial(known, delimiter=source.delimiter))


def _caution(log: pd.DataFrame, config: DataConfig) -> None:
    """Warn of users who are likely to be none, and of ratings of dislike that nothing leaves out."""
    source = config.source
    if not isinstance(source, RowChoice):
        return
    for giant in giants(log["user_id"]):
        rule = _and(source, f"user_id != {spell_value(giant.user)}")
        logger.warning(
            "data: user %r has %.0f%% of the interactions (%s), %.0f times as many as the most active other user. If "
            "that stands for users who are not known, leave it out: --set %s",
            *(giant.user, 100 * giant.share, f"{giant.rows:,}", giant.times),
            shlex.quote(f"data.source.where={rule}"),
        )
    rule_set = log_rule(source.where, source.min_rating)
    found = ratings_that_differ(log["rating"].to_numpy())
    if found is None or log["reward"].nunique() > 1 or (rule_set is not None and "rating" in rule_set.fields):
        return
    if found.negative:
        rule = _and(source, "rating > 0")
        logger.warning(
            "data: %.0f%% of the ratings are negative, and count as interactions like the others: what users dislike "
            "is recommended too. To leave them out: --set %s",
            *(100 * found.negative, shlex.quote(f"data.source.where={rule}")),
        )
    else:
        logger.info(
            "data: ratings run from %g to %g, and all count alike; %.0f%% are below %g. To leave out low ones: --set "
            "data.source.min_rating=%g",
            *(found.low, found.high, 100 * found.below, found.middle, found.least),
        )


def _and(source: RowChoice, rule: str) -> str:
    """A rule added to the one that a source has."""
    return f"({source.where}) and {rule}" if source.where else rule


def _told(problem: RowProblem) -> dict[str, Any]:
    """A note of rows that were left out, as ``summary.json`` has it."""
    return {name: value for name, value in asdict(problem).items() if name != "asked"}


def _told_known(counts: Mapping[str, Any]) -> str:
    """Counts of ``splits.KnownReport`` in words."""
    return (
        f"{counts['known']:,} items are known before validation begins, and all that is fitted is fitted on them; "
        f"{counts['first_later'] + counts['never']:,} ({counts['later_share']:.1%}) are not: "
        f"{counts['first_later']:,} occur later, {counts['never']:,} never"
    )


def _without_repeats(ordered: pd.DataFrame, config: DataConfig) -> pd.DataFrame:
    """The interactions without those that repeat the item just before, if the source is to be read so."""
    if not isinstance(config.source, RowChoice) or config.source.deduplicate != "consecutive":
        return ordered
    kept = without_consecutive(ordered)
    logger.info("data: %s interactions that repeat the one just before left out", f"{len(ordered) - len(kept):,}")
    return kept


def _cutoffs(ordered: pd.DataFrame, config: SplitConfig, tables: RawTables) -> tuple[Moment, Moment] | None:
    """Start times of validation and test under the temporal protocol; None under leave-one-out."""
    if config.protocol == "leave-one-out":
        return None
    if tables.timestamps_are_positions:
        raise PlumError(
            "the temporal protocol needs times, but this source gives only the order of each user's interactions",
            None,
            "use --set data.split.protocol=leave-one-out",
        )
    return splits.temporal_cutoffs(ordered, config.valid_share, config.test_share)


def _core(ordered: pd.DataFrame, config: SplitConfig, cutoffs: tuple[Moment, Moment] | None) -> pd.DataFrame:
    """The k-core. Under the temporal protocol only training interactions count, so that no later count leaks."""
    if not (config.k_core_users or config.k_core_items):
        return ordered
    known = ordered if cutoffs is None else ordered[before(ordered, cutoffs[0])]
    core = splits.k_core(known, config.k_core_users, config.k_core_items)
    kept = ordered["user_id"].isin(core["user_id"].unique()) & ordered["item_id"].isin(core["item_id"].unique())
    return ordered[kept].reset_index(drop=True)


def _in_core(items: pd.DataFrame, ordered: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """The catalogue without the items that a k-core drops."""
    if not (config.k_core_users or config.k_core_items):
        return items
    return items[items["item_id"].isin(ordered["item_id"].unique())].reset_index(drop=True)


def _check_questions(split: pd.DataFrame, items: pd.DataFrame) -> int:
    """Refuse a split without validation or test users, before anything is trained on it.

    Returns:
        Number of test users whose targets are all in their history: if seen items are filtered, every retriever misses
        them.
    """
    histories = Histories.from_split(split, items["item_id"])
    for part, name in (("valid", "validation"), ("test", "test")):
        if not len(histories.questions(part)[0]):
            raise PlumError(
                f"no user of the {name} set has a history before it",
                f"{(split['part'] == part).sum():,} interactions in the set, all of new users",
                "change data.split.valid_share and test_share, or use data.split.protocol=leave-one-out",
            )
    _, past, targets = histories.questions("test")
    return sum(bool(np.isin(target, before).all()) for before, target in zip(past, targets, strict=True))


def _warn(report: splits.SplitReport, repeated: int, config: RunConfig) -> None:
    """Warn of what affects how the figures read."""
    if report.users_without_test:
        logger.warning("data: %s users without a test item only train", f"{report.users_without_test:,}")
    if repeated and config.eval.filter_seen:
        logger.warning(
            "data: all test items of %s users are in their histories. Seen items are filtered, so every retriever "
            "misses them; for logs with repeated interactions use --set eval.filter_seen=false",
            f"{repeated:,}",
        )


def _items(
    tables: RawTables, ordered: pd.DataFrame, split: pd.DataFrame, valid_from: Moment | None, config: DataConfig
) -> pd.DataFrame:
    """The catalogue after k-core; tags are appended to descriptions, except those that would leak."""
    items = _in_core(tables.items, ordered, config.split)
    if tables.tags is None or not config.tags_as_text:
        return items
    tags = tables.tags
    if valid_from is not None:
        tags = tags[before(tags, valid_from)]
    held_out = split.loc[split["part"] != "train", ["user_id", "item_id"]].drop_duplicates()
    marked = tags.merge(held_out, on=["user_id", "item_id"], how="left", indicator=True)
    kept = marked[marked["_merge"] == "left_only"].assign(tag=lambda t: t["tag"].str.lower().str.strip())
    text = kept.drop_duplicates(["item_id", "tag"]).groupby("item_id", sort=True)["tag"].agg("; ".join)
    described = items["item_id"].map(text)
    joined = (
        items["description"]
        .str.cat(described, sep=" ")
        .where(items["description"].notna() & described.notna(), items["description"].fillna(described))
    )
    return items.assign(description=joined.astype(object).where(joined.notna(), None))
