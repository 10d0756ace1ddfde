"""`plum tokenize --assign`: Semantic IDs of new items by a run's frozen tokenizer. The run itself does not change."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from plum.config.run import RunConfig
from plum.data.files import is_file, missing_file
from plum.decoding.trie import Trie, fingerprint
from plum.errors import PlumError
from plum.features.encoding import Encoder, named
from plum.features.given import FileEncoder
from plum.features.registry import load_encoder
from plum.run import artifacts
from plum.run.manifest import read_manifest
from plum.run.stage import StageRun
from plum.run.writing import mapped_array, written
from plum.runtime import pick_device
from plum.serving.new_items import Layout, NewItems, read_new, refuse_lacking
from plum.sid.frozen import Frozen, load_frozen
from plum.sid.placing import Placed, place_new
from plum.sid.prefixes import prefix_groups
from plum.sid.table import bucket_rank
from plum.stages import inputs

logger = logging.getLogger(__name__)

REPORT = "report.json"
SHOWN = 5
"""Examples in the report, and items of each."""

_COMMAND = "tokenize --assign"
_INPUTS = (
    artifacts.ITEMS,
    artifacts.SPLIT,
    artifacts.ENCODERS,
    artifacts.SEMANTIC_IDS,
    artifacts.QUALITY,
    artifacts.RQVAE,
    artifacts.TOKENIZER,
)
_MARK = "new_items"  # in the manifest of a folder that may be replaced


def run(config: RunConfig, new_items: Path, out: Path | None = None, force: bool = False) -> Path:
    """Write Semantic IDs of the catalogue and of new items, by the run's rule for collisions.

    - ``semantic_ids.parquet``: the run's own table, then the new items in the order of their file.
    - ``items.parquet``: the catalogue, then the new items, rows as there.
    - ``index.safetensors``: the trie of all of them, in which new items of a shared SID come last.
    - ``report.json``: counts of new items, of modalities they lack, and of collisions.

    Skipped if the folder was made from the same run and file.

    Args:
        config: of a run with a tokenizer.
        new_items: Parquet, CSV, TSV or JSON Lines with ``item_id`` and any other column of the catalogue; Parquet and
            JSON Lines may hold ``vectors_<modality>``, lists of numbers, for modalities with encoder file. Columns may
            also have the names of the run's source. Items of the catalogue are ignored.
        out: the folder to write; by default ``assigned/`` of the run.
        force: run again even if nothing changed.

    Returns:
        The folder.

    Raises:
        PlumError: if the run has no tokenizer; if the file is unusable or holds no new item; if no new item has
            content, or none has a modality that all training items have; if a larger share than
            ``data.max_bad_share`` finds no place (a smaller share is left out and reported); or if the folder holds
            other files. Nothing is written then.
    """
    if not is_file(new_items):
        raise missing_file(new_items)
    sources = StageRun(config.workdir, _COMMAND, {}, config.seed, _INPUTS, [new_items]).manifest.inputs
    inputs.warn_outdated(config, artifacts.FEATURES, artifacts.TOKENIZE)
    target = config.workdir / artifacts.ASSIGNED if out is None else out.resolve()
    _refuse_foreign(target)
    layout = Layout.of(config.data)
    read_as = layout._asdict() | {"dialect": asdict(layout.dialect)}
    settings = {_MARK: new_items.name, "made_from": sources, "layout": read_as}
    stage = StageRun(target.parent, target.name, settings, config.seed, [])
    if stage.is_complete() and not force:
        logger.info("%s: up to date", _COMMAND)
        return stage.folder
    frozen = load_frozen(config.workdir / artifacts.TOKENIZE)
    encoders = _encoders(config, frozen)
    old = _Old(inputs.read_prepared(config.workdir), frozen, config.workdir)
    vectors = [encoder.column for encoder in encoders.values() if isinstance(encoder, FileEncoder)]
    schema = parquet.read_schema(config.workdir / artifacts.ITEMS)
    new = read_new(new_items, layout, schema, old.data.items["item_id"], vectors)
    with stage.writing(force=True) as folder:
        try:
            tokenized = _tokenized(new, frozen, encoders, layout, folder / "scratch")
            placed = place_new(frozen, old.table.codes, tokenized.codes, tokenized.vectors)
            _leave_out(new, placed.found, frozen.rules.table_sizes[-1], config.data.max_bad_share)
            _write(folder, old, new, placed)
            artifacts.write_json(folder / REPORT, _report(old, new, encoders, tokenized, placed))
            _warn_replaced(stage.folder, folder, len(old.data.items))
        except BaseException:
            shutil.rmtree(folder)  # it has no checkpoint to resume from
            raise
    return stage.folder


class _Old:
    """The run's data, tokenizer and Semantic IDs."""

    def __init__(self, data: inputs.Prepared, frozen: Frozen, workdir: Path) -> None:
        self.data, self.frozen, self.workdir = data, frozen, workdir
        self.table = inputs.read_sid_table(workdir, data.items)

    @property
    def content_codes(self) -> np.ndarray:
        """The table's codes (N, L) without the disambiguation code."""
        return self.table.codes[:, : len(self.frozen.sizes)]


class _Tokenized(NamedTuple):
    """N new items.

    Attributes:
        codes: (N, L), by their content.
        vectors: (N, D), the quantised vectors; None if they are not needed.
        present: (N, M), which items have which of M modalities.
    """

    codes: np.ndarray
    vectors: np.ndarray | None
    present: np.ndarray


def _encoders(config: RunConfig, frozen: Frozen) -> dict[str, Encoder]:
    """The encoders by modality, in the tokenizer's order."""
    folder, device = config.workdir / artifacts.ENCODERS, pick_device(config.device).type
    return {modality.name: load_encoder(folder, modality.name, device) for modality in frozen.modalities}


def _tokenized(
    new: NewItems, frozen: Frozen, encoders: Mapping[str, Encoder], layout: Layout, scratch: Path
) -> _Tokenized:
    """Codes of new items before the rule for collisions; the folder ``scratch`` is created and removed.

    Raises:
        PlumError: if all lack the tokenizer's inputs (random codes need none).
    """
    scratch.mkdir()
    modalities, present = _encode(new, encoders, scratch)
    if frozen.method != "random":
        complete = [modality.name for modality in frozen.modalities if modality.complete]
        refuse_lacking(new, present, encoders, complete, layout)
    gaps = None if present.all() else present
    codes = frozen.assign(modalities, gaps, new.items["item_id"].tolist())
    quantised = frozen.rules.collision == "reassign" and frozen.method != "random"
    vectors = frozen.vectors(modalities, gaps) if quantised else None
    shutil.rmtree(scratch)
    return _Tokenized(codes, vectors, present)


def _encode(new: NewItems, encoders: Mapping[str, Encoder], folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Vectors (N, D_m) of each of M modalities, as memory-mapped files, and presence (N, M)."""
    present = np.zeros((len(new.items), len(encoders)), dtype=bool)
    files: dict[str, np.ndarray] = {}
    stop = 0
    for block in new.blocks() if encoders else ():
        start, stop = stop, stop + len(block)
        for column, (name, encoder) in enumerate(encoders.items()):
            encoded = encoder.transform(block)
            if name not in files:
                shape = len(new.items), encoded.vectors.shape[1]
                files[name] = mapped_array(folder / f"{name}.npy", shape)
            files[name][start:stop], present[start:stop, column] = encoded.vectors, encoded.present
    return list(files.values()), present


def _leave_out(new: NewItems, found: np.ndarray, n_suffixes: int, max_bad_share: float) -> None:
    """Report which of N new items find no free disambiguation code; ``found`` (N,) marks the others.

    Raises:
        PlumError: if more than ``max_bad_share`` of them, or all, find none.
    """
    lost = new.items["item_id"][~found].tolist()
    if len(lost) > max_bad_share * len(found) or len(lost) == len(found):
        raise PlumError(
            f"{len(lost):,} of {len(found):,} new items find no free disambiguation code: the language model has "
            f"tokens for {n_suffixes:,}",
            named(lost),
            "run all stages again with these items in the catalogue, preferably with tokenize.collision share or "
            "reassign; or leave them out with --set data.max_bad_share=SHARE",
        )
    if lost:
        logger.warning("left out, because there is no free disambiguation code: %s", named(lost))


def _report(
    old: _Old,
    new: NewItems,
    encoders: Mapping[str, Encoder],
    tokenized: _Tokenized,
    placed: Placed,
) -> dict[str, Any]:
    """The content of ``report.json``; collisions are of the items that found a place."""
    present, found = tokenized.present, placed.found
    lost, codes = new.items["item_id"][~found].tolist(), tokenized.codes[found]
    told_apart = placed.collided & ~_shared(old.table.codes, placed.codes)[old.table.n_items :]
    return {
        "file": new.path.name,
        "new_items": len(found),
        "without_place": {"items": len(lost), "examples": lost[:SHOWN]},
        "already_in_catalogue": {"items": len(new.known), "examples": new.known[:SHOWN]},
        "unusable_rows": [asdict(problem) for problem in new.problems],
        "columns_left_out": new.left_out,
        "lacking": dict(zip(encoders, (~present).sum(axis=0).tolist(), strict=True)),
        "lacking_any": int((~present).any(axis=1).sum()),
        "without_content": int((~present.any(axis=1)).sum()) if encoders else 0,
        "collisions": {
            "rule": old.frozen.rules.collision,
            "of_content": _newly_sharing(old.content_codes, codes),
            "told_apart": int(told_apart.sum()),
            "of_semantic_ids": _newly_sharing(old.table.codes, placed.codes),
            "examples": _examples(old, new.items[found], codes, placed.codes),
        },
    }


def _newly_sharing(old: np.ndarray, new: np.ndarray) -> dict[str, int]:
    """Number of items that share codes only now: ``new_items``, and ``old_items`` that had codes of their own.

    Args:
        old: (N_old, L) codes.
        new: (N_new, L).
    """
    now, before = _shared(old, new), _shared(old, new[:0])
    return {"new_items": int(now[len(old) :].sum()), "old_items": int((now[: len(old)] & ~before).sum())}


def _shared(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Mask (N_old + N_new,) of the old and new items whose codes another of them has."""
    group = prefix_groups(np.concatenate([old, new]))[:, -1]
    shared: np.ndarray = np.bincount(group)[group] > 1
    return shared


def _examples(old: _Old, items: pd.DataFrame, codes: np.ndarray, placed: np.ndarray) -> list[dict[str, Any]]:
    """The first codes that new items share, with some of their items.

    Args:
        old: the run.
        items: N new items.
        codes: (N, L), by their content.
        placed: (N, L or L + 1), their Semantic IDs.
    """
    n_old = old.table.n_items
    group = prefix_groups(np.concatenate([old.content_codes, codes]))[:, -1]
    examples = []
    for shared in pd.unique(group[n_old:][np.bincount(group)[group[n_old:]] > 1])[:SHOWN]:
        old_rows, rows = np.flatnonzero(group[:n_old] == shared), np.flatnonzero(group[n_old:] == shared)
        found = zip(_named(items, rows[:SHOWN]), placed[rows[:SHOWN]].tolist(), strict=True)
        examples.append(
            {
                "codes": codes[rows[0]].tolist(),
                "items": len(old_rows) + len(rows),
                "old_items": _named(old.data.items, old_rows[:SHOWN]),
                "new_items": [{**one, "semantic_id": semantic_id} for one, semantic_id in found],
            }
        )
    return examples


def _named(items: pd.DataFrame, rows: np.ndarray) -> list[dict[str, Any]]:
    chosen = items.iloc[rows]
    titles = [title if isinstance(title, str) else None for title in chosen["title"].tolist()]
    return [{"item_id": one, "title": title} for one, title in zip(chosen["item_id"].tolist(), titles, strict=True)]


def _write(folder: Path, old: _Old, new: NewItems, placed: Placed) -> None:
    """Write the tables of old and new items, and the index of both."""
    there = artifacts.read_table(old.workdir / artifacts.SEMANTIC_IDS)
    added = pd.DataFrame(placed.codes, columns=there.columns[1:])
    added.insert(0, "item_id", new.items["item_id"].to_numpy()[placed.found])
    both = pd.concat([there, added.astype(there.dtypes.to_dict())], ignore_index=True)
    artifacts.write_table(folder / Path(artifacts.SEMANTIC_IDS).name, both)
    codes = np.concatenate([old.table.codes, placed.codes])
    popularity = np.concatenate([old.data.popularity, np.zeros(len(placed.codes), dtype=np.int64)])
    trie = Trie.build(codes, old.table.sizes, bucket_rank(codes, popularity))
    trie.save(folder / Path(artifacts.SID_INDEX).name, fingerprint(codes, old.table.sizes))
    with parquet.ParquetFile(old.workdir / artifacts.ITEMS) as file:
        items = file.read()
    joined = pa.concat_tables([items, new.table.filter(pa.array(placed.found))], promote_options="permissive")
    if joined.schema != items.schema:  # pandas' metadata of the columns' types no longer holds
        joined = joined.replace_schema_metadata(None)
    with written(folder / Path(artifacts.ITEMS).name) as partial:
        parquet.write_table(joined, partial, compression="zstd")


def _refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder with other files, such as a stage of the run.

    Raises:
        PlumError: if it has other files.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / artifacts.MANIFEST).is_file():
        raise _foreign(folder, None, "give another --out")
    try:
        made = read_manifest(folder).config
    except PlumError as error:
        raise _foreign(folder, error.what, "give another --out, or remove it") from None
    if _MARK not in made:
        raise _foreign(folder, None, "give another --out")


def _foreign(folder: Path, found: str | None, fix: str) -> PlumError:
    return PlumError(f"{folder} would be replaced, but `plum {_COMMAND}` did not write it", found, fix)


def _warn_replaced(there: Path, folder: Path, n_old: int) -> None:
    """Warn of new items of an earlier file whose Semantic IDs get lost or change."""
    name = Path(artifacts.SEMANTIC_IDS).name
    if not (there / name).exists():
        return
    try:
        before = artifacts.read_table(there / name, needed=("item_id",)).set_index("item_id")
    except PlumError as error:  # it is replaced all the same
        logger.warning("%s, so its Semantic IDs can't be compared with those that replace them", error.what)
        return
    now = artifacts.read_table(folder / name).set_index("item_id")
    given = before.index.difference(now.index[:n_old], sort=False)
    kept = given.intersection(now.index, sort=False)
    moved = len(kept)
    if list(before.columns) == list(now.columns):
        moved = int((before.loc[kept] != now.loc[kept]).any(axis=1).sum())
    if moved or len(kept) < len(given):
        logger.warning(
            "%s/ held %s that this file lacks, and %d that get other Semantic IDs now; to keep all Semantic IDs, give "
            "one file with all new items in their first order",
            there.name,
            "1 item" if len(given) - len(kept) == 1 else f"{len(given) - len(kept):,} items",
            moved,
        )
