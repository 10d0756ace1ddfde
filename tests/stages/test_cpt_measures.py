"""What stage cpt measures of its model: in a whole tiny run, and where a measurement fails."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_run
import torch

from plum.probes.tasks import DocumentLoss, SidToText
from plum.run import artifacts
from plum.run.hashes import sha256
from plum.stages import cpt
from plum.stages.cpt import measures

TASKS = {"next_item", "title_to_sid", "sid_to_title", "sid_to_topics"}
LOGGED = {
    *("held_out_behaviour_loss", "held_out_metadata_loss", "recall@10", "title_to_sid"),
    *("sid_to_title_f1", "sid_to_topics_f1", "drift"),
}


def metrics_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = artifacts.read_json(run / artifacts.CPT_METRICS)
    return found


def looks(run: Path) -> list[dict[str, Any]]:
    """The measurements in the log."""
    return [entry for entry in artifacts.read_log(run / "cpt/train_log.jsonl") if "drift" in entry]


def test_everything_is_measured_before_and_after_beside_references(finished_run: Path) -> None:
    learnt = metrics_of(finished_run)["learnt"]
    assert learnt["missing"] == {}
    assert set(learnt) == {"losses", *TASKS, "drift", "missing", "samples"}
    rows = {name: learnt[name] for name in TASKS} | learnt["losses"]
    references = {"behaviour": ["n-gram"], "metadata": ["n-gram"], "next_item": ["popularity"]}
    for name, found in rows.items():
        assert list(found) == ["before", "after", *references.get(name, ["majority", "copy"])]
        assert len({tuple(figures) for figures in found.values()}) == 1
    for found in learnt["losses"].values():
        assert found["after"]["loss"] < found["before"]["loss"]
        assert found["before"]["loss"] == pytest.approx(math.log(405), abs=0.2)  # a new model knows nothing
    counts = {"behaviour_documents": 11, "metadata_documents": 24, "users": 100, "title": 3, "topics": 3}
    assert learnt["samples"] == counts
    assert learnt["drift"]["norms"]["l2"] > 0


def test_the_log_has_the_course(finished_run: Path) -> None:
    found = looks(finished_run)
    steps = metrics_of(finished_run)["steps"]
    assert found[0]["step"] == 0
    assert found[-1]["step"] == steps
    assert len(found) >= 5
    for entry in found:
        assert set(entry) >= LOGGED
        assert all(math.isfinite(entry[name]) for name in LOGGED)
    assert found[0]["drift"] == 0 < found[1]["drift"] < found[-1]["drift"]


def test_the_page_of_prompts_has_titles_of_held_out_items(finished_run: Path) -> None:
    page = (finished_run / artifacts.CPT_SAMPLES).read_text(encoding="utf-8")
    titles = set(pd.read_parquet(finished_run / "data/items.parquet")["title"])
    truths = [line.removeprefix("- truth: ") for line in page.splitlines() if line.startswith("- truth: ")]
    assert len(truths) == 3
    assert set(truths) <= titles
    for truth in truths:
        assert f"has title: {truth}" not in page


def test_the_report_tells_it(finished_run: Path) -> None:
    report = (finished_run / "eval/report.md").read_text(encoding="utf-8")
    assert "### What pre-training learnt and forgot" in report
    assert "| counted n-gram |" in report


def test_measuring_more_often_changes_nothing_but_the_log(finished_run: Path, run_copy: Path) -> None:
    cpt.run(tiny_run.config_of(run_copy, "cpt.measure.every_steps=1"))
    assert sha256(run_copy / "cpt/model/model.safetensors") == sha256(finished_run / "cpt/model/model.safetensors")
    assert metrics_of(run_copy) == metrics_of(finished_run)
    assert [entry["step"] for entry in looks(run_copy)] == list(range(metrics_of(run_copy)["steps"] + 1))


def test_failed_measurements_do_not_fail_the_stage(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(DocumentLoss, "measure", no_memory)
    monkeypatch.setattr(SidToText, "__init__", no_memory)
    monkeypatch.setattr(measures.FewShot, "complete", no_memory)
    cpt.run(tiny_run.config_of(run_copy), force=True)
    learnt = metrics_of(run_copy)["learnt"]
    assert set(learnt["missing"]) == {
        *("losses.behaviour", "losses.metadata", "sid_to_title", "sid_to_topics", "samples")
    }
    assert "Tried to allocate" in learnt["missing"]["samples"]
    assert list(learnt["losses"]["behaviour"]) == ["n-gram"]
    assert learnt["next_item"]["after"]["recall@10"] > 0
    assert "held_out_behaviour_loss" not in looks(run_copy)[-1]
    assert "No held-out item" in (run_copy / artifacts.CPT_SAMPLES).read_text(encoding="utf-8")
    assert "could not be measured and is left out" in caplog.text


def test_nothing_need_be_held_out(run_copy: Path) -> None:
    cpt.run(tiny_run.config_of(run_copy, "cpt.measure.users=0", "cpt.measure.items=0"))
    learnt = metrics_of(run_copy)["learnt"]
    assert set(learnt) == {"drift", "missing", "samples"}
    assert learnt["missing"] == {}
    assert set(learnt["samples"].values()) == {0}


def test_general_text_is_measured_before_and_after(run_copy: Path, tmp_path: Path) -> None:
    text = tmp_path / "english.txt"
    text.write_text(("The quick brown fox jumps over the lazy dog near the old river bank today. " * 4 + "\n") * 80)
    cpt.run(tiny_run.config_of(run_copy, f"cpt.measure.text={text}", "cpt.measure.characters=500"))
    english = metrics_of(run_copy)["learnt"]["english"]
    assert list(english) == ["before", "after", "n-gram", "usual word"]
    assert english["n-gram"]["bits_per_character"] < 1 < english["before"]["bits_per_character"]
    assert english["usual word"]["cloze"] == 1  # all sentences end alike
    assert [entry["bits_per_character"] > 0 for entry in looks(run_copy)].count(True) == len(looks(run_copy))
