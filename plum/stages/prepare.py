"""Stage data: a source -> checked tables and a split."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from plum.config.data import (
    AmazonReviewsSource,
    AmazonSequencesSource,
    DataConfig,
    LogsSource,
    MovieLensSource,
    SplitConfig,
    SyntheticSource,
)
from plum.config.run import RunConfig
from plum.data import amazon, fetch, logs, movielens, splits, synthetic
from plum.data.histories import Histories
from plum.data.moments import Moment, before
from plum.data.tables import RawTables
from plum.errors import PlumError
from plum.run import artifacts
from plum.run.stage import StageRun
from plum.stages import inputs

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
    ordered, ties = splits.order_interactions(tables.interactions, config.data.split.ties, config.data.split.seed)
    cutoffs = _cutoffs(ordered, config.data.split, tables)
    ordered = _core(ordered, config.data.split, cutoffs)
    split = splits.temporal(ordered, *cutoffs) if cutoffs else splits.leave_one_out(ordered)
    valid_from = cutoffs[0] if cutoffs else None
    items = _items(tables, ordered, split, valid_from, config.data)
    report = splits.report_split(split)
    repeated = _check_questions(split, items)
    _warn(report, repeated, config)
    with stage.writing(force) as folder:
        artifacts.write_table(folder / "interactions.parquet", ordered)
        artifacts.write_table(folder / "items.parquet", items)
        artifacts.write_table(folder / "split.parquet", split)
        if tables.users is not None:
            artifacts.write_table(folder / "users.parquet", tables.users)
        # The optimum ranks the next item over the whole catalogue: it is not a bound for other protocols.
        if tables.truth is not None and valid_from is None and len(items) == len(tables.items):
            truth = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in tables.truth.items()}
            save_file(truth, str(folder / "truth.safetensors"))
        summary = {
            "source": config.data.source.model_dump(mode="json"),
            "synthetic": isinstance(config.data.source, SyntheticSource),
            "items": len(items),
            "split": asdict(report),
            "ties": asdict(ties),
            "timestamps_are_positions": tables.timestamps_are_positions,
            "test_users_with_seen_targets_only": repeated,
            "unusable_rows": [asdict(problem) for problem in tables.problems],
        }
        artifacts.write_json(folder / "summary.json", summary)
    logger.info(
        "data: %s users, %s items, %s interactions (%s train, %s valid, %s test), %.1f%% tied in time",
        *(f"{n:,}" for n in (report.users, len(items), report.interactions, report.train, report.valid, report.test)),
        100 * ties.share,
    )
    return stage.folder


def load(config: DataConfig) -> RawTables:
    """Read the configured source.

    Raises:
        PlumError: if it can't be found or read, or too many of its rows are unusable.
    """
    source, bad = config.source, config.max_bad_share
    if isinstance(source, SyntheticSource):
        return synthetic.generate(source.n_users, source.n_items, source.seed)
    if isinstance(source, MovieLensSource):
        path = fetch.locate(source.release, data_home())
        return movielens.load_movielens(path, source.release, max_bad_share=bad)
    if isinstance(source, AmazonSequencesSource):
        folder = fetch.locate(f"amazon-2014/{source.name}", data_home())
        return amazon.load_amazon_sequences(folder, source.name, max_bad_share=bad)
    if isinstance(source, AmazonReviewsSource):
        return amazon.load_amazon_reviews(source.reviews, source.metadata, max_bad_share=bad)
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
        max_bad_share=bad,
    )


def source_files(config: DataConfig) -> list[Path]:
    """The existing files of the source."""
    source = config.source
    if isinstance(source, MovieLensSource):
        path = fetch.locate(source.release, data_home())
        return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    if isinstance(source, AmazonSequencesSource):
        folder = fetch.locate(f"amazon-2014/{source.name}", data_home())
        names = (f"{source.name}.txt", f"{source.name}_item2attributes.json")
        return [folder / name for name in names if (folder / name).is_file()]
    if isinstance(source, AmazonReviewsSource):
        return [path for path in (source.reviews, source.metadata) if path and path.is_file()]
    if isinstance(source, LogsSource):
        return [path for path in (source.interactions, source.items, source.users) if path and path.is_file()]
    return []


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
    items = tables.items
    if config.split.k_core_users or config.split.k_core_items:
        items = items[items["item_id"].isin(ordered["item_id"].unique())].reset_index(drop=True)
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
