"""`plum tokenize --assign` in Python: nobody old moves, content decides, mistakes cost nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny_run
from pyarrow import parquet

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.decoding.trie import Trie, fingerprint
from plum.errors import PlumError
from plum.features.by_id import VectorsById
from plum.features.cooccurrence import CooccurrenceEncoder
from plum.features.encoding import Encoder
from plum.features.numeric import NumericEncoder
from plum.run import artifacts
from plum.serving import assign, new_items
from plum.stages import inputs, pipeline, prepare, tokenize

TABLES = ("semantic_ids.parquet", "items.parquet", "index.safetensors", "report.json")
Retokenize = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def sharing(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run whose items share Semantic IDs. Not to be changed: write elsewhere."""
    return retokenized(finished_run, tmp_path_factory.mktemp("sharing") / "run", "tokenize.collision=share")


def retokenized(run: Path, copy: Path, *settings: str) -> RunConfig:
    shutil.copytree(run, copy)
    config = tiny_run.config_of(copy, *settings)
    tokenize.run(config)
    return config


def catalogue(config: RunConfig) -> pd.DataFrame:
    return pd.read_parquet(config.workdir / artifacts.ITEMS)


def sids(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "semantic_ids.parquet").set_index("item_id")


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def copies(config: RunConfig, *rows: int, prefix: str = "new ") -> pd.DataFrame:
    """Items of the catalogue under new ids; all if no rows are given."""
    items = catalogue(config)
    chosen = items.iloc[list(rows) or slice(None)].reset_index(drop=True)
    return chosen.assign(item_id=prefix + chosen["item_id"])


def saved(items: pd.DataFrame, path: Path) -> Path:
    items.to_parquet(path, index=False)
    return path


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in TABLES}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_codes(codes: pd.DataFrame) -> Counter[tuple[int, ...]]:
    return Counter(codes.itertuples(index=False, name=None))


def test_old_items_stay_as_they_are_to_the_byte(run_copy: Path, tmp_path: Path) -> None:
    config = tiny_run.config_of(run_copy, "data.max_bad_share=0.99")
    before = everything(run_copy)
    folder = assign.run(config, saved(copies(config), tmp_path / "new.parquet"))
    assert folder == run_copy / "assigned"
    assert {name: before.get(name) for name in before} == {
        name: content for name, content in everything(run_copy).items() if not name.startswith("assigned/")
    }
    for name in (artifacts.SEMANTIC_IDS, artifacts.ITEMS):
        old, both = parquet.read_table(run_copy / name), parquet.read_table(folder / Path(name).name)
        assert both.slice(0, 60).equals(old)
        assert both.schema.equals(old.schema, check_metadata=True)
    placed = sids(folder).index[60:].tolist()
    assert placed == [new for new in copies(config)["item_id"] if new in placed]
    assert pd.read_parquet(folder / "items.parquet")["item_id"].tolist() == sids(folder).index.tolist()


def test_the_content_of_an_old_item_gives_its_codes(sharing: RunConfig, tmp_path: Path) -> None:
    folder = assign.run(sharing, saved(copies(sharing), tmp_path / "new.parquet"), tmp_path / "out")
    found = sids(folder)
    np.testing.assert_array_equal(found.iloc[60:].to_numpy(), found.iloc[:60].to_numpy())
    report = report_of(folder)
    alone = sum(count == 1 for count in by_codes(found.iloc[:60]).values())
    assert 0 < alone < 60
    expected = {"new_items": 60, "old_items": alone}
    assert report["collisions"]["of_content"] == report["collisions"]["of_semantic_ids"] == expected
    assert report["collisions"]["told_apart"] == 0


def test_each_new_item_is_judged_by_itself(sharing: RunConfig, tmp_path: Path) -> None:
    """What stands beside it in the file makes no difference."""
    few, all_of_them = copies(sharing, 7, 3, 50), copies(sharing)
    one = sids(assign.run(sharing, saved(few, tmp_path / "few.parquet"), tmp_path / "few"))
    other = sids(assign.run(sharing, saved(all_of_them, tmp_path / "all.parquet"), tmp_path / "all"))
    assert one.index[60:].tolist() == few["item_id"].tolist()
    assert one.loc[few["item_id"]].equals(other.loc[few["item_id"]])


def test_two_runs_write_the_same_files(sharing: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(copies(sharing, 0, 1, 2), tmp_path / "new.parquet")
    folder = assign.run(sharing, path, tmp_path / "one")
    assert assign.run(sharing, path, tmp_path / "other") == tmp_path / "other"
    assert digests(folder) == digests(tmp_path / "other")
    written = (folder / "report.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO, "plum"):
        assign.run(sharing, path, tmp_path / "one")
    assert (folder / "report.json").stat().st_mtime_ns == written
    assert "up to date" in caplog.text
    assign.run(sharing, path, tmp_path / "one", force=True)
    assert (folder / "report.json").stat().st_mtime_ns != written
    assert digests(folder) == digests(tmp_path / "other")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*TABLES, "manifest.json"])


def test_what_changed_is_done_again(sharing: RunConfig, tmp_path: Path) -> None:
    path = saved(copies(sharing, 0), tmp_path / "new.parquet")
    before = digests(assign.run(sharing, path, tmp_path / "out"))
    saved(copies(sharing, 1), path)
    assert digests(assign.run(sharing, path, tmp_path / "out")) != before


def test_the_index_leads_to_old_and_new_items(sharing: RunConfig, tmp_path: Path) -> None:
    folder = assign.run(sharing, saved(copies(sharing), tmp_path / "new.parquet"), tmp_path / "out")
    codes = sids(folder).to_numpy()
    trie = Trie.load(folder / "index.safetensors", fingerprint(codes, (16, 8)))
    trie.verify(codes)
    popularity = np.concatenate([inputs.read_prepared(sharing.workdir).popularity, np.zeros(60)])
    for start, end in zip(trie.item_start[-1][:-1], trie.item_start[-1][1:], strict=True):
        rows = trie.items[start:end].tolist()
        assert rows == sorted(rows, key=lambda row: (-popularity[row], row))


def test_collisions_are_counted_and_shown(sharing: RunConfig, tmp_path: Path) -> None:
    old = pd.read_parquet(sharing.workdir / artifacts.SEMANTIC_IDS)
    counts = old.groupby(["code_0", "code_1"])["item_id"].transform("size")
    alone, crowded = int(counts.eq(1).to_numpy().argmax()), int(counts.gt(1).to_numpy().argmax())
    items = pd.concat([copies(sharing, alone), copies(sharing, alone, prefix="again "), copies(sharing, crowded)])
    folder = assign.run(sharing, saved(items, tmp_path / "new.parquet"), tmp_path / "out")
    collisions = report_of(folder)["collisions"]
    assert collisions["rule"] == "share"
    assert collisions["of_semantic_ids"] == {"new_items": 3, "old_items": 1}  # the crowded ones shared theirs before
    first, second = collisions["examples"]
    assert first["codes"] == old.iloc[alone, 1:].tolist()
    assert [one["item_id"] for one in first["old_items"]] == [old["item_id"][alone]]
    assert [one["item_id"] for one in first["new_items"]] == items["item_id"].tolist()[:2]
    assert (first["items"], second["items"]) == (3, int(counts[crowded]) + 1)
    title = catalogue(sharing)["title"][alone]
    assert {one["title"] for one in [*first["old_items"], *first["new_items"]]} == {title}


def test_what_items_lack_is_counted(sharing: RunConfig, tmp_path: Path) -> None:
    items = copies(sharing, 0, 1, 2, 3)
    items.loc[0, "topics"] = None
    items.loc[[1, 2], ["title", "creator", "description"]] = None
    items.loc[2, "topics"] = None
    items.loc[3, ["title", "creator", "description"]] = "xyzzy", None, "plugh"  # no word that the encoder knows
    report = report_of(assign.run(sharing, saved(items, tmp_path / "new.parquet"), tmp_path / "out"))
    assert report["lacking"] == {"text": 3, "topics": 2}
    assert (report["lacking_any"], report["without_content"], report["new_items"]) == (4, 1, 4)


def test_items_of_the_catalogue_are_left_as_they_are(
    sharing: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = catalogue(sharing).iloc[[5, 2]].assign(title="Another title", topics=None)
    items = pd.concat([known[:1], copies(sharing, 8), known[1:]])
    with caplog.at_level(logging.WARNING, "plum"):
        folder = assign.run(sharing, saved(items, tmp_path / "new.parquet"), tmp_path / "out")
    assert sids(folder).index[60:].tolist() == copies(sharing, 8)["item_id"].tolist()
    assert pd.read_parquet(folder / "items.parquet")["title"][:60].equals(catalogue(sharing)["title"])
    assert report_of(folder)["already_in_catalogue"] == {"items": 2, "examples": known["item_id"].tolist()}
    assert "2 ids: 'i0005', 'i0002'" in caplog.text
    with pytest.raises(PlumError, match="holds no new item"):
        assign.run(sharing, saved(known, tmp_path / "new.parquet"), tmp_path / "out")


def test_suffixes_tell_new_items_apart_while_there_are_any(
    run_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run.config_of(run_copy)
    old = pd.read_parquet(run_copy / artifacts.SEMANTIC_IDS)
    buckets = old.groupby(["code_0", "code_1"])["code_2"]
    size, highest = int(old["code_2"].max()) + 1, buckets.transform("max").to_numpy()
    room, full = int((highest < size - 2).argmax()), int((highest == size - 1).argmax())
    items = pd.concat([copies(config, room), copies(config, room, prefix="again ")])
    folder = assign.run(config, saved(items, tmp_path / "new.parquet"))
    expected = [[*old.iloc[room, 1:3], highest[room] + step] for step in (1, 2)]
    assert sids(folder).iloc[60:].to_numpy().tolist() == expected
    report = report_of(folder)
    assert report["collisions"]["of_semantic_ids"] == {"new_items": 0, "old_items": 0}
    assert (report["collisions"]["of_content"]["new_items"], report["collisions"]["told_apart"]) == (2, 2)
    assert report["collisions"]["examples"][0]["new_items"][1]["semantic_id"] == expected[1]
    before = everything(run_copy)
    path = saved(pd.concat([copies(config, full), items]), tmp_path / "more.parquet")
    with pytest.raises(PlumError, match=r"1 of 3 new items find no free disambiguation code(.|\n)*new i"):
        assign.run(config, path)
    assert everything(run_copy) == before
    with caplog.at_level(logging.WARNING, "plum"):
        assign.run(tiny_run.config_of(run_copy, "data.max_bad_share=0.4"), path)
    assert "left out, because there is no free disambiguation code: 1 id" in caplog.text
    assert sids(folder).iloc[60:].to_numpy().tolist() == expected
    assert report_of(folder)["without_place"] == {"items": 1, "examples": copies(config, full)["item_id"].tolist()}
    alone = saved(copies(config, full), tmp_path / "full.parquet")
    with pytest.raises(PlumError, match="1 of 1 new items"):
        assign.run(tiny_run.config_of(run_copy, "data.max_bad_share=1.0"), alone)


def test_reassigned_items_take_free_places(finished_run: Path, tmp_path: Path) -> None:
    config = retokenized(finished_run, tmp_path / "run", "tokenize.collision=reassign", "tokenize.min_usage=0")
    folder = assign.run(config, saved(copies(config, *range(20)), tmp_path / "new.parquet"))
    found = sids(folder)
    assert max(by_codes(found).values()) == 1
    assert found.iloc[:60].equals(sids(config.workdir / artifacts.TOKENIZE))
    collisions = report_of(folder)["collisions"]
    assert collisions["told_apart"] == collisions["of_content"]["new_items"] > 0


@pytest.mark.parametrize("method", ["random", "rqkmeans"])
def test_the_controls_assign_as_well(finished_run: Path, tmp_path: Path, method: str) -> None:
    config = retokenized(finished_run, tmp_path / "run", f"tokenize.method={method}", "tokenize.collision=share")
    path = saved(copies(config), tmp_path / "new.parquet")
    found = sids(assign.run(config, path))
    same = (found.iloc[:60].to_numpy() == found.iloc[60:].to_numpy()).all(axis=1)
    assert same.all() if method == "rqkmeans" else same.mean() < 0.2
    again = sids(assign.run(config, path, tmp_path / "out"))
    assert again.equals(found)


def test_only_items_that_collide_are_told_apart(finished_run: Path, tmp_path: Path) -> None:
    settings = ("tokenize.method=random", "tokenize.collision=suffix", "data.max_bad_share=0.9")
    config = retokenized(finished_run, tmp_path / "run", *settings)
    folder = assign.run(config, saved(copies(config), tmp_path / "new.parquet"))
    found = sids(folder)
    collide = found.duplicated(["code_0", "code_1"], keep=False).to_numpy()[60:]
    report = report_of(folder)
    assert len(collide) == 60 - report["without_place"]["items"]
    assert report["collisions"]["told_apart"] == report["collisions"]["of_content"]["new_items"] == collide.sum()
    assert 0 < collide.sum() < len(collide)
    assert not found.duplicated().any()


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "pq", "csv.gz"])
def test_text_files_say_the_same_as_parquet(sharing: RunConfig, tmp_path: Path, suffix: str) -> None:
    items = copies(sharing)
    wanted = assign.run(sharing, saved(items, tmp_path / "new.parquet"), tmp_path / "wanted")
    path = tmp_path / f"new.{suffix}"
    if suffix == "jsonl":
        items.to_json(path, orient="records", lines=True)
    elif suffix == "pq":
        items.to_parquet(path)
    else:
        text = items.assign(topics=["|".join(topics) for topics in items["topics"]])
        text.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    folder = assign.run(sharing, path, tmp_path / "out")
    for name in TABLES[:2]:
        assert parquet.read_table(folder / name).equals(parquet.read_table(wanted / name)), name
    assert report_of(folder) | {"file": "new.parquet"} == report_of(wanted)


def columns_of(**values: Any) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ["n1", "n2"], "title": ["Palette", "Canvas"]} | values)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("new.parquet", columns_of(item_id=["n1", "n1"]), "item ids more than once"),
        ("new.parquet", columns_of().rename(columns={"item_id": "asin"}), "no column 'item_id'"),
        ("new.parquet", columns_of()[:0], "no usable row"),
        ("new.parquet", columns_of(item_id=["n1", None]), "item_id is missing"),
        ("new.parquet", columns_of(creator=[{"born": 3}, {"born": 4}]), "creator"),
        ("new.parquet", b"PAR1 nothing", "not a complete Parquet file"),
        ("new.parquet", b"", "not a complete Parquet file"),
        ("new.csv", b"", "is empty"),
        ("new.csv", b"item_id,title\n", "no usable row"),
        ("new.csv", b"item_id,title\nn1,a\nn1,b\n", "item ids more than once"),
        ("new.csv", b"title\nPalette\n", "no column 'item_id'"),
        ("new.csv", b"item_id,title\nn1,\xff\n", "is not utf-8"),
        ("new.jsonl", b"{", "no JSON object"),
        ("new.xlsx", b"x", "unknown format"),
        ("gone.parquet", None, "does not exist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_can_not_be_used_is_told_and_nothing_written(
    sharing: RunConfig, tmp_path: Path, name: str, content: pd.DataFrame | bytes | None, told: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        content.to_parquet(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PlumError, match=told):
        assign.run(sharing, tmp_path / name, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_no_other_folder_is_replaced(run_copy: Path, tmp_path: Path) -> None:
    config = tiny_run.config_of(run_copy, "data.max_bad_share=0.99")
    path = saved(copies(config, 0, 1, 2, 3), tmp_path / "new.parquet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    before = everything(tmp_path)
    for out in (tmp_path / "mine", run_copy / "tokenize", run_copy, path):
        with pytest.raises(PlumError, match=r"would be replaced(.|\n)*--out"):
            assign.run(config, path, out)
    assert everything(tmp_path) == before


def test_a_run_without_a_tokenizer_is_told(run_copy: Path, tmp_path: Path) -> None:
    config = tiny_run.config_of(run_copy)
    path = saved(copies(config, 0), tmp_path / "new.parquet")
    shutil.rmtree(run_copy / "tokenize")
    with pytest.raises(PlumError, match=r"tokenize/, which is not there(.|\n)*plum tokenize"):
        assign.run(config, path)
    assert not (run_copy / "assigned").exists()


def test_items_that_lose_what_an_earlier_file_gave_them_are_told(
    sharing: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assign.run(sharing, saved(copies(sharing, 0, 1, 2), tmp_path / "monday.parquet"), tmp_path / "out")
    with caplog.at_level(logging.WARNING, "plum"):
        assign.run(sharing, saved(copies(sharing, 0, 1, 2, 3), tmp_path / "tuesday.parquet"), tmp_path / "out")
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "plum"):
        assign.run(sharing, saved(copies(sharing, 0, 1, 2), tmp_path / "friday.parquet"), tmp_path / "out")
    assert "out/ held 1 item that this file lacks, and 0 that get other Semantic IDs now" in caplog.text
    items = copies(sharing, 0, 1, 9)
    bare = items["item_id"] != items["item_id"][2]
    items.loc[bare, ["title", "topics", "creator", "description"]] = None
    with caplog.at_level(logging.WARNING, "plum"):
        assign.run(sharing, saved(items, tmp_path / "sunday.parquet"), tmp_path / "out")
    assert "out/ held 1 item that this file lacks, and 2 that get other Semantic IDs now" in caplog.text


@pytest.fixture(scope="module")
def own_logs(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run over logs in columns of other names, with numbers and given vectors as content. Not to be changed."""
    home = tmp_path_factory.mktemp("own")
    random = np.random.default_rng(0)
    ids = [f"a{number:02}" for number in range(40)]
    rows = [(f"u{user}", ids[(user * step) % 40], 1000 + step) for user in range(1, 25) for step in range(1, 8)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(home / "log.csv", index=False)
    words = ["red", "green", "blue", "old", "new", "big"]
    items = pd.DataFrame(
        {
            "asin": ids,
            "name": [" ".join(random.choice(words, 3)) for _ in ids],
            "year": random.integers(1990, 2020, 40),
            "price": random.normal(10, 3, 40).round(2),
            "tags": [list(random.choice(words, 2)) for _ in ids],
        }
    )
    items.to_parquet(home / "items.parquet")
    vectors = pd.DataFrame({"item_id": ids, "image": list(random.normal(size=(40, 5)).astype(np.float32))})
    vectors.to_parquet(home / "image.parquet")
    source = {
        "kind": "logs",
        "interactions": str(home / "log.csv"),
        "items": str(home / "items.parquet"),
        "item_columns": {"item_id": "asin", "title": "name"},
    }
    values = tiny_run.pipeline(home / "run", source)
    values["features"]["modalities"] = {
        "text": {"dimensions": 4},
        "numbers": {"encoder": "numeric", "fields": ["year", "price"]},
        "image": {"encoder": "file", "path": str(home / "image.parquet")},
    }
    values["tokenize"] |= {"collision": "share", "codebook_sizes": [8, 8]}
    config = validate(values, "own.yaml")
    prepare.run(config)
    pipeline.run_tokenize(config)
    return config


def arrivals(config: RunConfig) -> pd.DataFrame:
    """The source's own items under new ids, with their vectors."""
    home = config.workdir.parent
    items = pd.read_parquet(home / "items.parquet").rename(columns={"asin": "item_id", "name": "title"})
    vectors = pd.read_parquet(home / "image.parquet")["image"]
    return items.assign(item_id="n" + items["item_id"], vectors_image=vectors)


def stored_codes(config: RunConfig, table: pd.DataFrame) -> np.ndarray:
    """The codes of the old items that new ones are copies of."""
    old = sids(config.workdir / artifacts.TOKENIZE)
    return old.loc[table["item_id"].str[1:]].to_numpy()


@pytest.mark.parametrize("form", ["parquet", "fixed", "jsonl", "own names"])
def test_given_vectors_and_numbers_of_new_items(own_logs: RunConfig, tmp_path: Path, form: str) -> None:
    items, path = arrivals(own_logs), tmp_path / "new.parquet"
    if form == "jsonl":
        path = tmp_path / "new.jsonl"
        items.to_json(path, orient="records", lines=True, double_precision=15)
    elif form == "fixed":
        table = pa.Table.from_pandas(items)
        vectors = table.column("vectors_image").cast(pa.list_(pa.float32(), 5))
        parquet.write_table(table.set_column(table.column_names.index("vectors_image"), "vectors_image", vectors), path)
    else:
        saved(items.rename(columns={"item_id": "asin", "title": "name"}) if form == "own names" else items, path)
    folder = assign.run(own_logs, path, tmp_path / "out")
    np.testing.assert_array_equal(sids(folder).iloc[40:].to_numpy(), stored_codes(own_logs, items))
    assert report_of(folder)["lacking"] == {"text": 0, "numbers": 0, "image": 0}
    assert report_of(folder)["columns_left_out"] == []
    both = pd.read_parquet(folder / "items.parquet")
    assert "vectors_image" not in both
    for name in ("title", "year", "price"):
        np.testing.assert_array_equal(both[name][40:], both[name][:40])
    assert [list(tags) for tags in both["tags"][40:]] == [list(tags) for tags in both["tags"][:40]]


def test_the_size_of_blocks_changes_nothing(
    own_logs: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = catalogue(own_logs)[["item_id", "title"]][:3]
    items = pd.concat([arrivals(own_logs)[:11], known, arrivals(own_logs)[11:]])
    items.loc[items["item_id"].isin(["na04", "na30"]), "vectors_image"] = None
    items = pd.concat([items[:7], items[:1].assign(item_id=None), items[7:]])
    data = own_logs.data.model_copy(update={"max_bad_share": 0.1})
    own_logs = own_logs.model_copy(update={"data": data})
    path = tmp_path / "new.parquet"
    parquet.write_table(pa.Table.from_pandas(items, preserve_index=False), path, row_group_size=9)
    whole = assign.run(own_logs, path, tmp_path / "whole")
    monkeypatch.setattr(new_items, "BLOCK", 4)
    assert digests(assign.run(own_logs, path, tmp_path / "blocks")) == digests(whole)
    assert report_of(whole)["lacking"]["image"] == 2
    assert [problem["count"] for problem in report_of(whole)["unusable_rows"]] == [1]
    has = arrivals(own_logs)[lambda table: ~table["item_id"].isin(["na04", "na30"])]
    np.testing.assert_array_equal(sids(whole).loc[has["item_id"]].to_numpy(), stored_codes(own_logs, has))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("vectors_image", [1.0, 2.0], "vectors_image of item 'na00' is not a vector"),
        ("vectors_image", [1.0, 2.0, 3.0, 4.0, float("nan")], r"vectors_image holds NaN"),
        ("year", "long ago", "column 'year' is"),
        ("price", float("inf"), "price holds NaN, infinity"),
    ],
)
def test_content_that_can_not_be_used_leaves_nothing(
    own_logs: RunConfig, tmp_path: Path, column: str, value: Any, told: str
) -> None:
    items = arrivals(own_logs)[:1]
    items[column] = pd.Series([value], index=items.index)
    path = saved(items, tmp_path / "new.parquet")
    with pytest.raises(PlumError, match=told):
        assign.run(own_logs, path, tmp_path / "out")
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name != ".lock") == ["new.parquet"]


def test_columns_are_held_as_the_catalogue_holds_them(
    own_logs: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = arrivals(own_logs)["vectors_image"].tolist()
    few = [
        {"item_id": "n1", "title": "red old", "year": 2001, "stock": 7, "vectors_image": image[0].tolist()},
        {"item_id": "n2", "year": 1999.5},
    ]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, few)))
    with caplog.at_level(logging.WARNING, "plum"):
        folder = assign.run(own_logs, tmp_path / "new.jsonl", tmp_path / "out")
    assert "left out columns that the catalogue does not have: stock" in caplog.text
    assert "1 item lacks modality image, which all training items had: it counts as an average" in caplog.text
    both, old = pd.read_parquet(folder / "items.parquet"), catalogue(own_logs)
    assert both.columns.tolist() == old.columns.tolist()
    assert both["year"].tolist()[-2:] == [2001.0, 1999.5]
    assert (
        both["year"][:40].astype(int).tolist() == pd.read_parquet(own_logs.workdir / artifacts.ITEMS)["year"].tolist()
    )
    assert both["price"].isna().tolist() == [False] * 40 + [True, True]
    assert both["title"].iloc[-1] is None or pd.isna(both["title"].iloc[-1])


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_each_column_may_have_our_name_or_the_source_s(own_logs: RunConfig, tmp_path: Path, form: str) -> None:
    """Also where the source's mapping has a column that the file does not have."""
    mapped = {"item_id": "asin", "title": "name", "creator": "brand", "topics": "genres"}
    source = own_logs.data.source.model_copy(update={"item_columns": mapped})
    layout = new_items.Layout.of(own_logs.data.model_copy(update={"source": source}))
    known = catalogue(own_logs)
    items = pd.DataFrame({"item_id": ["n1"], "name": ["red old"], "genres": ["x|y"], "description": ["d"], "year": [3]})
    path = tmp_path / f"new.{form}"
    if form == "jsonl":
        items.to_json(path, orient="records", lines=True)
    else:
        items.to_parquet(path) if form == "parquet" else items.to_csv(path, index=False)
    schema = parquet.read_schema(own_logs.workdir / artifacts.ITEMS)
    found = new_items.read_new(path, layout, schema, known["item_id"], ["vectors_image"])
    assert found.items["item_id"].tolist() == ["n1"]
    assert found.items["title"].tolist() == ["red old"]
    assert found.items["description"].tolist() == ["d"]
    assert found.items["creator"].isna().all()
    assert [list(topics) for topics in found.items["topics"]] == [["x", "y"]]
    assert found.left_out == []


def layout_of(**columns: str) -> new_items.Layout:
    return new_items.Layout(columns, "|", "utf-8", 0.01)


ITEMS = pa.schema([(name, pa.string()) for name in ("item_id", "title", "creator", "description")])


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_column_has_one_meaning(tmp_path: Path, form: str) -> None:
    """The source's: where it calls creators titles, a title is no title."""
    items = pd.DataFrame({"item_id": ["n1"], "title": ["Ann"], "creator": ["x"]})
    path = tmp_path / f"new.{form}"
    items.to_parquet(path) if form == "parquet" else items.to_csv(path, index=False)
    found = new_items.read_new(path, layout_of(title="name", creator="title"), ITEMS, pd.Series(["a"]), [])
    assert found.items["creator"].tolist() == ["Ann"]
    assert found.items["title"].isna().all()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("new.csv", "name\nred\n", r"no column 'asin' \(our item_id\)"),
        ("new.jsonl", '{"name": "red"}', r"no column 'asin' \(our item_id\)"),
        ("new.csv", "asin,name,name\nn1,red,blue\n", "column 'name' is twice"),
        ("new.csv", "asin;name\nn1;red\n", "separated by ';'"),
        ("new.parquet", "asin,name\nn1,red\n", "not a complete Parquet file"),
    ],
)
def test_what_is_wrong_with_columns_of_other_names_is_told(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    layout = layout_of(item_id="asin", title="name", creator="brand")
    with pytest.raises(PlumError, match=told):
        new_items.read_new(tmp_path / name, layout, ITEMS, pd.Series(["a"]), [])


@pytest.mark.parametrize(
    ("form", "renamed", "dropped", "told"),
    [
        (
            "parquet",
            {"vectors_image": "picture"},
            [],
            r"has modality image, which all training items had(.|\n)*left out: picture",
        ),
        ("csv", {}, ["vectors_image"], r"has modality image(.|\n)*give 'vectors_image' \(lists of numbers, which Par"),
        ("parquet", {"title": "nmae"}, [], r"has modality text(.|\n)*left out: nmae(.|\n)*'title' or 'name'"),
        ("parquet", {}, ["year", "price"], r"has modality numbers(.|\n)*give 'year', 'price'"),
        ("csv", {"title": "t"}, ["vectors_image", "year", "price"], r"has any content(.|\n)*'vectors_image'"),
    ],
)
def test_a_modality_that_all_new_items_lack_is_told_and_nothing_written(
    own_logs: RunConfig, tmp_path: Path, form: str, renamed: dict[str, str], dropped: list[str], told: str
) -> None:
    path = tmp_path / f"new.{form}"
    items = arrivals(own_logs).drop(columns=["tags", *dropped]).rename(columns=renamed)
    items.to_parquet(path) if form == "parquet" else items.to_csv(path, index=False)
    with pytest.raises(PlumError, match=told):
        assign.run(own_logs, path, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != ".lock"] == [path.name]


def test_words_that_are_all_new_are_no_reason_to_refuse(
    own_logs: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = arrivals(own_logs).assign(title="Zxqyv", tags=None)
    assert report_of(assign.run(own_logs, saved(items, tmp_path / "new.parquet")))["new_items"] == len(items)
    assert f"{len(items)} items lack modality text" in caplog.text


def test_random_codes_need_no_content(finished_run: Path, tmp_path: Path) -> None:
    settings = ("tokenize.method=random", "tokenize.collision=share")
    config = retokenized(finished_run, tmp_path / "run", *settings)
    folder = assign.run(config, saved(pd.DataFrame({"item_id": ["n1", "n2"]}), tmp_path / "new.parquet"))
    assert report_of(folder)["new_items"] == 2


@pytest.mark.parametrize(
    ("values", "kind", "held"),
    [
        ([1, 2], pa.float64(), [1.0, 2.0]),
        ([1, 2], pa.string(), ["1", "2"]),
        ([1.0, 2.0], pa.int64(), [1, 2]),
        ([1.5, 2.0], pa.int64(), [1.5, 2.0]),
        ([None, None], pa.timestamp("us"), [None, None]),
        ([1.5, 2.0], pa.string(), None),
        ([2, 1], pa.bool_(), None),
        ([True, False], pa.string(), None),
        ([2020, 2021], pa.timestamp("us"), None),
        ([datetime(2020, 1, 1)], pa.int64(), None),
        ([datetime(2020, 1, 1)], pa.string(), None),
        ([1e300], pa.float32(), None),
        (["many"], pa.int64(), None),
        ([["a"]], pa.string(), None),
    ],
)
def test_columns_are_held_in_the_catalogues_type_or_refused(
    values: list[Any], kind: pa.DataType, held: list[Any] | None
) -> None:
    items, schema = pd.DataFrame({"more": values}), pa.schema([("more", kind)])
    if held is None:
        with pytest.raises(PlumError, match=r"column 'more' is .*, and .* in the catalogue"):
            new_items._as_in_catalogue(items, schema, "new.csv")
    else:
        assert new_items._as_in_catalogue(items, schema, "new.csv").column("more").to_pylist() == held


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_text_of_a_text_column_stays_as_it_stands(tmp_path: Path, form: str) -> None:
    items = pd.DataFrame({"item_id": ["n1", "n2"], "code": ["1.50", "007"], "flag": ["False", "True"]})
    path = tmp_path / f"new.{form}"
    items.to_csv(path, index=False) if form == "csv" else items.to_parquet(path)
    schema = pa.schema([("item_id", pa.string()), ("code", pa.string()), ("flag", pa.string())])
    new = new_items.read_new(path, layout_of(), schema, pd.Series(["a"]), [])
    assert new.table.to_pydict() == items.to_dict("list")


def new_of(present: list[list[bool]]) -> tuple[new_items.NewItems, np.ndarray]:
    items = pd.DataFrame({"item_id": [f"n{row}" for row in range(len(present))]})
    return new_items.NewItems(Path("new.csv"), items, pa.table({}), np.arange(len(items)), [], [], [], []), np.array(
        present
    )


def test_co_occurrence_that_new_items_can_not_have_is_no_reason_to_refuse() -> None:
    together = CooccurrenceEncoder(VectorsById(["a"], np.ones((1, 2), dtype=np.float32)))
    numbers = NumericEncoder(["year"], np.zeros(1), np.ones(1), np.zeros(1, dtype=bool))
    encoders: dict[str, Encoder] = {"together": together, "numbers": numbers}
    new, present = new_of([[False, True], [False, False]])
    new_items.refuse_lacking(new, present, encoders, ["together", "numbers"], layout_of())
    with pytest.raises(PlumError, match=r"no new item has any content(.|\n)*give 'year'"):
        new_items.refuse_lacking(new, present & False, encoders, ["together"], layout_of())
    with pytest.raises(PlumError, match=r"\(together\) come from training histories"):
        new_items.refuse_lacking(new, present[:, :1], {"together": together}, [], layout_of())


def test_a_modality_that_some_items_of_the_training_lacked_may_be_lacking() -> None:
    fields = {"text": "title", "numbers": "year"}
    encoders: dict[str, Encoder] = {
        name: NumericEncoder([field], np.zeros(1), np.ones(1), np.zeros(1, dtype=bool))
        for name, field in fields.items()
    }
    new, present = new_of([[True, False], [True, False]])
    new_items.refuse_lacking(new, present, encoders, ["text"], layout_of())
    with pytest.raises(PlumError, match="no new item has modality numbers, which all training items had"):
        new_items.refuse_lacking(new, present, encoders, ["text", "numbers"], layout_of())
