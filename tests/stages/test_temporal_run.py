"""A whole run under the temporal protocol: its report, and all that is done with it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from later_worlds import LATE, config_of, usual

from plum.config.run import RunConfig
from plum.serving import assign
from plum.stages import pipeline, tokenize
from plum.studies.inspect_items import inspect

pytestmark = pytest.mark.slow
MODALITIES = {"text": {"dimensions": 8}, "topics": {"encoder": "topics", "dimensions": 3}}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A finished run. Not to be changed."""
    config = config_of(tmp_path_factory.mktemp("temporal") / "usual", usual(), MODALITIES)
    pipeline.run_all(config)
    return config


def test_the_report_says_how_many_items_nothing_was_learnt_from(done):
    report = (done.workdir / "eval/report.md").read_text()
    assert "items not known before validation begins, from which nothing is learnt" in report
    assert "8 (21.1%)" in report
    assert "items that the tokenizer learnt from" in report


def test_later_items_are_ranked_and_can_be_inspected(done):
    lists = pd.read_parquet(done.workdir / "eval/recommendations.parquet")
    assert lists.loc[lists["retriever"] == "textknn", "item_id"].isin(LATE).any()
    metrics = json.loads((done.workdir / "eval/metrics.json").read_text())
    assert metrics["protocol"]["candidates"] == 38
    found = inspect(done, LATE[0])
    assert found.item is not None
    assert found.item.popularity == 0
    assert len(found.codes) == len(found.sizes)


def test_a_second_run_makes_nothing_again(done):
    before = {path: path.stat().st_mtime_ns for path in done.workdir.rglob("manifest.json")}
    pipeline.run_all(done)
    assert before == {path: path.stat().st_mtime_ns for path in done.workdir.rglob("manifest.json")}


def test_new_items_get_semantic_ids_beside_the_later_ones(done, tmp_path):
    world = usual()
    new = world.items[world.items["item_id"] == LATE[0]].assign(item_id="brand new")
    new.to_csv(tmp_path / "new.csv", index=False)
    folder = assign.run(done, tmp_path / "new.csv", tmp_path / "assigned")
    table = pd.read_parquet(folder / "semantic_ids.parquet").set_index("item_id")
    there = pd.read_parquet(done.workdir / "tokenize/semantic_ids.parquet").set_index("item_id")
    pd.testing.assert_frame_equal(table.loc[there.index], there)
    content = ["code_0", "code_1"]
    assert table.loc["brand new", content].tolist() == there.loc[LATE[0], content].tolist()


@pytest.mark.parametrize("setting", ["warm_start", "compare_with"])
def test_another_run_can_start_from_it_and_be_compared_with_it(done, tmp_path: Path, setting):
    config = config_of(tmp_path / "again", usual(), MODALITIES, **{setting: str(done.workdir)})
    pipeline.run_tokenize(config)
    stability = json.loads((tokenize.run(config) / "quality.json").read_text())["stability"]
    assert stability["items"] == 38
    if setting == "compare_with":
        assert stability["same"] == [1.0, 1.0]
