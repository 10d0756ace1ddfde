"""The index of the Semantic IDs that stage tokenize writes, and what is read as one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
from sealed import seal

from plum.config.file import load_config
from plum.decoding.trie import Trie, fingerprint
from plum.errors import PlumError
from plum.run import artifacts
from plum.run.manifest import has_file
from plum.sid.table import SidTable
from plum.stages import features, inputs, prepare, tokenize


def tokenized(workdir: Path, collision: str) -> Path:
    config = tiny_run.write(workdir.with_suffix(".yaml"), tiny_run.pipeline(workdir))
    settings = [f"tokenize.collision={collision}", "tokenize.codebook_sizes=[8, 4]", "tokenize.method=rqkmeans"]
    settings += ["tokenize.capacity=2"] if collision == "reassign" else []
    loaded = load_config(config, settings)
    for stage in (prepare, features, tokenize):
        stage.run(loaded)
    return workdir


@pytest.fixture(scope="module", params=["share", "suffix", "reassign"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as far as its Semantic IDs. Not to be changed."""
    return tokenized(tmp_path_factory.mktemp(request.param) / "run", request.param)


@pytest.fixture
def workdir(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def table_of(workdir: Path) -> SidTable:
    return inputs.read_sid_table(workdir, inputs.read_prepared(workdir).items)


def test_the_index_leads_to_every_item_the_most_popular_of_a_sid_first(whole: Path) -> None:
    table, popularity = table_of(whole), inputs.read_prepared(whole).popularity
    trie = inputs.read_index(whole, table)
    assert trie.sizes == table.sizes
    assert (trie.n_leaves == trie.n_items) == (table.n_levels == 3)
    expected = sorted(range(table.n_items), key=lambda row: (*table.codes[row], -popularity[row], row))
    assert trie.items.tolist() == expected


def test_reassigned_items_share_a_sid_up_to_the_capacity(tmp_path: Path) -> None:
    workdir = tokenized(tmp_path / "run", "reassign")
    quality = artifacts.read_json(workdir / "tokenize/quality.json")
    assert quality["max_items_per_sid"] > 2  # of 60 items and 32 Semantic IDs, before any item moved
    assert quality["reassigned"] > 0
    assert np.unique(table_of(workdir).codes, axis=0, return_counts=True)[1].max() == 2


def test_it_is_among_the_outputs_of_the_stage(whole: Path) -> None:
    assert has_file(whole, artifacts.SID_INDEX)


def test_an_index_of_other_semantic_ids_is_refused(workdir: Path) -> None:
    table = table_of(workdir)
    other = SidTable(table.codes[::-1], table.sizes)
    with pytest.raises(PlumError, match=r"other Semantic IDs(.|\n)*plum tokenize --force"):
        inputs.read_index(workdir, other)


def test_a_missing_or_cut_index_is_refused(workdir: Path) -> None:
    table, path = table_of(workdir), workdir / artifacts.SID_INDEX
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PlumError, match=r"is not what stage tokenize wrote(.|\n)*plum tokenize --workdir"):
        inputs.read_index(workdir, table)
    seal(workdir)
    with pytest.raises(PlumError, match=r"can't be read(.|\n)*plum tokenize --force"):
        inputs.read_index(workdir, table)
    path.unlink()
    with pytest.raises(PlumError, match=r"is missing(.|\n)*plum tokenize --force"):
        inputs.read_index(workdir, table)


def test_a_damage_that_leaves_a_trie_is_refused(workdir: Path) -> None:
    """Two items in each other's place: only the Semantic IDs themselves tell."""
    table, path = table_of(workdir), workdir / artifacts.SID_INDEX
    trie = inputs.read_index(workdir, table)
    items = trie.items.copy()
    items[[0, -1]] = items[[-1, 0]]
    of = fingerprint(table.codes, table.sizes)
    Trie(trie.sizes, trie.child_start, trie.child_code, trie.item_start, items).save(path, of)
    seal(workdir)
    with pytest.raises(PlumError, match="is not under its Semantic ID"):
        inputs.read_index(workdir, table)


def test_a_lost_index_is_made_again_with_the_same_bytes(tmp_path: Path) -> None:
    workdir = tokenized(tmp_path / "run", "share")
    path = workdir / artifacts.SID_INDEX
    before = path.read_bytes()
    path.unlink()
    tokenized(workdir, "share")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "n_items", "row", "level"),
    [
        ({(5, 1): None, (9, 0): None}, 2, 5, 1),
        ({(5, 1): 1.5}, 1, 5, 1),
        ({(7, 1): float("inf")}, 1, 7, 1),
        ({(row, 0): str(row) for row in range(60)}, 60, 0, 0),
        ({(row, 0): row % 2 == 0 for row in range(60)}, 60, 0, 0),
    ],
    ids=["missing", "fraction", "infinite", "text", "truth"],
)
def test_codes_that_are_no_whole_numbers_are_refused(
    workdir: Path, damage: dict[tuple[int, int], Any], n_items: int, row: int, level: int
) -> None:
    """Neither a traceback nor, as a cast would give, the code of another item."""
    path = workdir / artifacts.SEMANTIC_IDS
    table = pd.read_parquet(path)
    columns: dict[str, list[Any]] = {str(name): values.tolist() for name, values in table.items()}
    for (place, which), value in damage.items():
        columns[f"code_{which}"][place] = value
    pd.DataFrame(columns).to_parquet(path)
    seal(workdir)
    with pytest.raises(PlumError) as caught:
        table_of(workdir)
    assert f"{n_items} items with codes that are no whole numbers" in caught.value.what
    assert f"item {table['item_id'][row]!r} has " in str(caught.value.found)
    assert f"at level {level}" in str(caught.value.found)
    assert "plum tokenize --force" in str(caught.value.fix)


def test_whole_codes_of_any_type_of_number_are_read(workdir: Path) -> None:
    expected = table_of(workdir).codes
    path = workdir / artifacts.SEMANTIC_IDS
    table = pd.read_parquet(path)
    table.astype({"code_0": "UInt8", "code_1": "float64"}).to_parquet(path)
    seal(workdir)
    assert (table_of(workdir).codes == expected).all()


def test_a_table_without_item_ids_is_refused(workdir: Path) -> None:
    path = workdir / artifacts.SEMANTIC_IDS
    pd.read_parquet(path).drop(columns="item_id").to_parquet(path)
    seal(workdir)
    with pytest.raises(PlumError, match="not of this catalogue"):
        table_of(workdir)
