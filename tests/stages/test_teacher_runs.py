"""A run whose language model learns from the dense baseline."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny_run

from plum import artifacts
from plum.errors import PlumError
from plum.stage_run import read_manifest
from plum.stages import dense, finetune, pipeline

TAUGHT = "finetune.teacher_weight=0.5"


def weights(workdir: Path) -> bytes:
    return (workdir / "finetune/model/model.safetensors").read_bytes()


def test_it_learns_something_else_and_says_from_whom(run_copy: Path) -> None:
    before, costs = weights(run_copy), artifacts.read_json(run_copy / "eval/metrics.json")["efficiency"]
    pipeline.run_all(tiny_run.config_of(run_copy, TAUGHT))
    assert weights(run_copy) != before
    inputs = read_manifest(run_copy / "finetune").inputs
    assert inputs["dense/dense.safetensors"] == read_manifest(run_copy / "dense").outputs["dense.safetensors"]
    assert "a share of 0.5 is what dense expects" in (run_copy / "eval/report.md").read_text(encoding="utf-8")
    metrics = artifacts.read_json(run_copy / "eval/metrics.json")
    assert "teacher_weight 0.5" in metrics["tuning"]["plum"]["note"]
    taught = metrics["efficiency"]
    assert taught["dense"] == costs["dense"]
    # The teacher's own training, and being asked at every step.
    assert taught["plum"]["flops"] > costs["plum"]["flops"] + costs["dense"]["flops"]
    assert taught["plum"]["parameters"] == costs["plum"]["parameters"]


def test_without_one_nothing_of_it_is_recorded(run_copy: Path) -> None:
    assert not any(name.startswith("dense/") for name in read_manifest(run_copy / "finetune").inputs)
    assert "what dense expects" not in (run_copy / "eval/report.md").read_text(encoding="utf-8")


def test_finetuning_trains_the_teacher_that_it_lacks_and_no_other(
    run_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run.config_of(run_copy, TAUGHT, "eval.dense.epochs=1")
    before = tiny_run.times(run_copy)
    with caplog.at_level(logging.INFO):
        pipeline.run_finetune(config)
        assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"dense", "finetune"}
        before = tiny_run.times(run_copy)
        pipeline.run_finetune(config, force=True)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"finetune"}
    assert "dense: up to date" in caplog.text


def test_another_teacher_makes_the_pupil_outdated(run_copy: Path) -> None:
    pipeline.run_finetune(tiny_run.config_of(run_copy, TAUGHT))
    other = tiny_run.config_of(run_copy, TAUGHT, "eval.dense.epochs=1")
    dense.run(other)
    assert finetune.run(tiny_run.config_of(run_copy, TAUGHT)) == run_copy / "finetune"  # with the present teacher
    dense.run(tiny_run.config_of(run_copy, TAUGHT))
    with pytest.raises(PlumError, match=r"another dense/dense\.safetensors") as error:
        pipeline.run_eval(tiny_run.config_of(run_copy, TAUGHT))
    assert "plum finetune" in str(error.value)


def test_forced_runs_train_the_teacher_once_and_first(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_run.config_of(run_copy, TAUGHT)
    before = tiny_run.times(run_copy)
    with caplog.at_level(logging.INFO):
        pipeline.run_all(config, force=True)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == set(tiny_run.STAGES)
    trained = [record.message.split(":")[0] for record in caplog.records if "recall@10" in record.message]
    assert list(dict.fromkeys(trained)) == ["dense", "finetune"]
    assert trained.count("dense") == config.eval.dense.epochs


def test_forced_eval_keeps_the_teacher(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, TAUGHT)
    pipeline.run_finetune(config)
    before = tiny_run.times(run_copy)
    pipeline.run_eval(config, force=True)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"eval"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["eval.retrievers=[plum, textknn]"], "needs the dense baseline, which eval.retrievers leaves out"),
        (["eval.dense.max_history=9"], "finetune.max_history, 10 items; eval.dense.max_history is 9"),
        (["eval.dense.search={max_history: [20, 8]}"], "eval.dense.max_history is 8"),
        (["finetune.teacher_weight=1.5"], "less than or equal to 1"),
    ],
)
def test_what_can_not_teach_is_refused_before_anything_runs(run_copy: Path, settings: list[str], reason: str) -> None:
    with pytest.raises(PlumError) as error:
        tiny_run.config_of(run_copy, TAUGHT, *settings)
    assert reason in str(error.value)
