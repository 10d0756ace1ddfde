"""`eval.retrievers`: what is not named is not scored, and a baseline that is not named is not trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import tiny_run

from plum.config.blends import RETRIEVERS
from plum.config.file import load_config
from plum.errors import PlumError
from plum.report.wording import BOUND
from plum.stages import pipeline
from plum.stages.eval.field import ABOUT


def metrics_of(run: Path) -> dict:
    return json.loads((run / "eval/metrics.json").read_text())


def test_every_retriever_can_be_named() -> None:
    assert set(RETRIEVERS) == set(ABOUT) - {BOUND}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("[plum, popularty]", "there is no retriever 'popularty'; did you mean popularity?"),
        ("[plum, bm25]", "there is no retriever 'bm25'; known here: popularity, recencypop"),
        ("[dense]", "retrievers must name plum"),
        ("[]", "retrievers must name plum"),
        ("[plum, hybrid]", "it needs dense too"),
        ("[plum, dense-mean]", "it needs dense too"),
        ("[plum, dense, dense-mean]", "set eval.dense.keep_trials"),
        ("[plum, lem]", "needs a section eval.lem"),
        ("[plum, plum]", "named twice"),
        ("plum", "eval.retrievers: Input should be a valid list"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, names: str, told: str) -> None:
    path = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    with pytest.raises(PlumError) as caught:
        load_config(path, [f"eval.retrievers={names}"])
    assert told in str(caught.value)


def test_all_mistakes_in_names_come_at_once(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    with pytest.raises(PlumError) as caught:
        load_config(path, ["eval.retrievers=[plumm, dens]"])
    assert "did you mean plum?" in str(caught.value)
    assert "did you mean dense?" in str(caught.value)


def test_a_named_section_of_a_baseline_is_enough(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    assert load_config(path).eval.baselines == ["dense"]
    assert load_config(path, ["eval.lem={}"]).eval.baselines == ["dense", "lem"]
    assert load_config(path, ["eval.lem={}", "eval.retrievers=[plum, lem]"]).eval.baselines == ["lem"]
    assert load_config(path, ["eval.lem={}", "eval.retrievers=[plum]"]).eval.baselines == []


def test_only_what_is_named_is_trained_and_scored(run_copy: Path) -> None:
    whole = metrics_of(run_copy)
    lists = pd.read_parquet(run_copy / "eval/recommendations.parquet")
    shutil.rmtree(run_copy / "dense")
    pipeline.run_eval(tiny_run.config_of(run_copy, "eval.retrievers=[plum, textknn]"))
    assert not (run_copy / "dense").exists()
    metrics = metrics_of(run_copy)
    assert list(metrics["retrievers"]) == ["textknn", "plum", BOUND]
    for name, values in metrics["retrievers"].items():
        assert values == whole["retrievers"][name], name
    # Without kept trials there is no mean to be left out.
    assert set(metrics["left_out"]) == set(RETRIEVERS) - {"plum", "textknn", "dense-mean", "hybrid"}
    assert list(metrics["efficiency"]) == ["plum"]
    assert {(entry["a"], entry["b"]) for entry in metrics["comparisons"]} == {("plum", "textknn")}
    ours = pd.read_parquet(run_copy / "eval/recommendations.parquet")
    named = lists[lists["retriever"].isin(["textknn", "plum", BOUND])].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, named)


def test_plum_alone_has_a_report(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "dense")
    pipeline.run_eval(tiny_run.config_of(run_copy, "eval.retrievers=[plum]"))
    metrics = metrics_of(run_copy)
    assert metrics["comparisons"] == []
    report = (run_copy / "eval/report.html").read_text()
    assert f"{metrics['retrievers']['plum']['recall@10']:.4f}" in report
    assert "Not in this run: eval.retrievers leaves it out." in report
