"""A run whose language model learns from the dense baseline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from sealed import seal

from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.run import artifacts
from plum.run.manifest import read_manifest
from plum.stages import cpt, dense, eval, inputs, pipeline, trained
from plum.stages.eval import reporting
from plum.studies.compare import compare_runs

TAUGHT = "finetune.teacher_weight=0.5"
CODES = "features.modalities.learnt={encoder: dense}"
OTHER = "eval.dense.epochs=1"
KEPT = ("eval.dense.search={hidden_size: [8, 16]}", "eval.dense.keep_trials=true")
TRIALS = ("finetune.teacher=trials", *KEPT)


def weights(workdir: Path) -> bytes:
    return (workdir / "finetune/model/model.safetensors").read_bytes()


def evaluated(workdir: Path) -> tuple[dict[str, Any], str]:
    report = (workdir / "eval/report.md").read_text(encoding="utf-8")
    return artifacts.read_json(workdir / "eval/metrics.json"), " ".join(report.split())


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param([TAUGHT], marks=pytest.mark.slow),
        pytest.param([CODES], marks=pytest.mark.slow),
        [TAUGHT, CODES],
    ],
)
def test_it_learns_something_else_says_from_whom_and_what_that_cost(run_copy: Path, settings: list[str]) -> None:
    before = weights(run_copy)
    pipeline.run_all(tiny_run.config_of(run_copy, *settings))
    assert weights(run_copy) != before
    taught, codes = TAUGHT in settings, CODES in settings
    made_of = {"finetune": taught, "features": codes}
    of_dense = read_manifest(run_copy / "dense").outputs["dense.safetensors"]
    for stage, built in made_of.items():
        assert read_manifest(run_copy / stage).inputs.get("dense/dense.safetensors") == (of_dense if built else None)
    metrics, report = evaluated(run_copy)
    assert ("Fine-tuning distils dense, with a weight of 0.5 in every label." in report) == taught
    assert ("Its Semantic IDs are made from dense's item vectors, too." in report) == codes
    assert "The two are not independent systems" in report
    assert ("teacher_weight 0.5" in metrics["tuning"]["plum"]["note"]) == taught

    cost = metrics["efficiency"]
    stored = {
        stage: artifacts.read_json(run_copy / stage / "metrics.json")["cost"] for stage in ("cpt", "finetune", "dense")
    }
    assert cost["dense"] == stored["dense"]
    for name in ("tokens", "flops"):
        everything = sum(one[name] for one in stored.values())
        assert cost["plum"][name] == cost["blend"][name] == everything  # once, though dense is a part of both
    asked = stored["finetune"]["examples"] + stored["dense"]["examples"]
    assert cost["plum"]["examples"] == cost["blend"]["examples"] == asked
    own = stored["finetune"]["parameters"]
    assert (cost["plum"]["parameters"], cost["blend"]["parameters"]) == (own, own + stored["dense"]["parameters"])


@pytest.mark.slow
def test_all_trials_of_a_search_teach_together(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline.run_finetune(tiny_run.config_of(run_copy, TAUGHT, *KEPT))
    of_one = weights(run_copy)
    pipeline.run_finetune(tiny_run.config_of(run_copy, TAUGHT, *TRIALS))
    assert weights(run_copy) != of_one
    pipeline.run_eval(tiny_run.config_of(run_copy, TAUGHT, *TRIALS, "eval.retrievers=[plum, dense]"))
    assert "was made with other settings" not in caplog.text
    made, trials = read_manifest(run_copy / "finetune"), read_manifest(run_copy / "dense").outputs
    for number in range(2):
        name = f"trials/{number}.safetensors"
        assert made.inputs[f"dense/{name}"] == trials[name]
    metrics, report = evaluated(run_copy)
    assert "Fine-tuning distils all trials of dense's search, with a weight of 0.5 in every label." in report
    assert "plum's examples, tokens and FLOPs include the training of all these trials" in report
    note = metrics["tuning"]["plum"]["note"]
    assert "teacher trials" in note
    of_teacher = artifacts.read_json(run_copy / "finetune/metrics.json")["teacher_valid_recall@10"]
    assert f"on the same validation users the teacher has {of_teacher:.4f}" in note
    stored = [artifacts.read_json(run_copy / stage / "metrics.json")["cost"] for stage in ("cpt", "finetune")]
    asked = [trial["cost"] for trial in artifacts.read_json(run_copy / "dense/trials.json")]
    for name in ("tokens", "flops"):
        assert metrics["efficiency"]["plum"][name] == sum(cost[name] for cost in [*stored, *asked])
    assert metrics["efficiency"]["plum"]["examples"] == sum(cost["examples"] for cost in [stored[1], *asked])
    assert len({cost["flops"] for cost in asked}) == 2

    path = run_copy / "dense/trials.json"
    told = path.read_text()
    path.write_text(told.replace('"cost"', '"flops"'))
    seal(run_copy)
    with pytest.raises(PlumError, match="written by an earlier version"):
        reporting.costs(tiny_run.config_of(run_copy, TAUGHT, *TRIALS, "eval.retrievers=[plum, dense]"))
    path.write_text(told)
    seal(run_copy)

    lost = run_copy / "dense/trials/1.safetensors"
    was = lost.read_bytes()
    lost.unlink()
    with pytest.raises(PlumError, match=r"dense/ is out of date, but finetune/ was made from it"):
        pipeline.run_eval(tiny_run.config_of(run_copy, TAUGHT, *TRIALS))
    before = tiny_run.times(run_copy)
    pipeline.run_finetune(tiny_run.config_of(run_copy, TAUGHT, *TRIALS))
    assert lost.read_bytes() == was
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"dense"}


def test_the_mean_of_the_teachers_is_a_retriever_and_the_verdict_compares_plum_with_it(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, TAUGHT, *TRIALS)
    pipeline.run_finetune(config)
    pipeline.run_eval(config)
    metrics, report = evaluated(run_copy)
    assert list(metrics["retrievers"])[-5:] == ["dense", "dense-mean", "plum", "blend", "optimum"]
    assert metrics["left_out"] == {"lem": "not asked for (eval.lem)"}

    data = inputs.read_prepared(run_copy)
    teachers = trained.mean_of_trials(config, data.items)
    for part in ("valid", "test"):
        _, histories, targets = data.histories.questions(part)
        recall = inputs.validation_metrics(teachers, histories, targets, True)["recall@10"]
        if part == "valid":
            assert metrics["tuning"]["dense-mean"]["trials"] == [{"settings": {}, "valid_recall@10": recall}]
        else:
            assert metrics["retrievers"]["dense-mean"]["recall@10"] == pytest.approx(recall)
            low, high = metrics["intervals"]["dense-mean"]["recall@10"]
            assert low <= recall <= high
    assert ("plum", "dense-mean") in {(entry["a"], entry["b"]) for entry in metrics["comparisons"]}
    assert "the mean of its teachers" in report or "the mean of plum's teachers" in report
    cost = metrics["efficiency"]["dense-mean"]
    trials = [trial["cost"] for trial in artifacts.read_json(run_copy / "dense/trials.json")]
    assert cost == {name: sum(trial[name] for trial in trials) for name in cost}
    lists = artifacts.read_table(run_copy / artifacts.RECOMMENDATIONS)
    assert "dense-mean" in set(lists["retriever"])
    compared = compare_runs([run_copy], metrics=["recall@10"], reference="dense-mean", n_resamples=20)
    assert {entry["a"] for entry in compared["comparisons"]} == {"dense-mean"}

    outputs, read = read_manifest(run_copy / "dense").outputs, read_manifest(run_copy / "eval").inputs
    assert {name: read[f"dense/{name}"] for name in outputs if name.startswith("trials/")} == {
        name: digest for name, digest in outputs.items() if name.startswith("trials/")
    }

    pipeline.run_eval(tiny_run.config_of(run_copy, TAUGHT, *TRIALS, "eval.retrievers=[plum, dense]"))
    metrics, _ = evaluated(run_copy)
    assert "dense-mean" not in metrics["retrievers"]
    assert metrics["left_out"]["dense-mean"] == "not asked for (eval.retrievers)"
    assert not any(name.startswith("dense/trials/") for name in read_manifest(run_copy / "eval").inputs)


def test_kept_trials_have_a_mean_though_none_taught_plum(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, *KEPT)
    pipeline.run_eval(config)
    metrics, report = evaluated(run_copy)
    assert list(metrics["retrievers"])[-5:] == ["dense", "dense-mean", "plum", "blend", "optimum"]
    data = inputs.read_prepared(run_copy)
    _, histories, targets = data.histories.questions("test")
    recall = inputs.validation_metrics(trained.mean_of_trials(config, data.items), histories, targets, True)
    assert metrics["retrievers"]["dense-mean"]["recall@10"] == pytest.approx(recall["recall@10"])
    assert "All trials of dense's search as one retriever" in report
    assert "teachers" not in report
    trials = artifacts.read_json(run_copy / "dense/trials.json")
    assert metrics["efficiency"]["dense-mean"]["flops"] == sum(trial["cost"]["flops"] for trial in trials)
    outputs, read = read_manifest(run_copy / "dense").outputs, read_manifest(run_copy / "eval").inputs
    assert all(
        read[f"dense/trials/{number}.safetensors"] == outputs[f"trials/{number}.safetensors"] for number in (0, 1)
    )

    pipeline.run_eval(tiny_run.config_of(run_copy, KEPT[0]))  # not kept: no mean, and none is missed
    metrics, _ = evaluated(run_copy)
    assert "dense-mean" not in {*metrics["retrievers"], *metrics["left_out"]}


def test_being_asked_at_every_step_counts(run_copy: Path) -> None:
    alone = artifacts.read_json(run_copy / "finetune/metrics.json")["cost"]
    pipeline.run_finetune(tiny_run.config_of(run_copy, TAUGHT))
    taught = artifacts.read_json(run_copy / "finetune/metrics.json")["cost"]
    assert taught["flops"] > alone["flops"]
    assert taught | {"flops": 0} == alone | {"flops": 0}


def test_without_one_nothing_of_it_is_recorded_or_told(run_copy: Path) -> None:
    manifest = read_manifest(run_copy / "finetune")
    assert not any(name.startswith("dense/") for name in manifest.inputs)
    assert not {"teacher_weight", "teacher"} & set(manifest.config)
    assert "independent systems" not in evaluated(run_copy)[1]


def test_a_run_built_on_dense_may_be_scored_without_it(run_copy: Path) -> None:
    pipeline.run_finetune(tiny_run.config_of(run_copy, TAUGHT))
    pipeline.run_eval(tiny_run.config_of(run_copy, "eval.retrievers=[plum]"))
    metrics, report = evaluated(run_copy)
    stored = [artifacts.read_json(run_copy / stage / "metrics.json")["cost"] for stage in ("cpt", "finetune", "dense")]
    assert list(metrics["efficiency"]) == ["plum"]
    assert metrics["efficiency"]["plum"]["flops"] == sum(one["flops"] for one in stored)
    assert "Fine-tuning distils dense, with a weight of 0.5 in every label" in report
    note = metrics["tuning"]["plum"]["note"]
    assert "teacher_weight 0.5" in note
    data = inputs.read_prepared(run_copy)
    config = tiny_run.config_of(run_copy, TAUGHT)
    asked = inputs.validation_sample(data, config.finetune.validation_users, config.seed)
    teacher = trained.dense_retriever(config, artifacts.DENSE, data.items)
    recall = inputs.validation_metrics(teacher, *asked[1:], True)["recall@10"]
    assert f"on the same validation users the teacher has {recall:.4f}" in note
    read = read_manifest(run_copy / "eval").inputs
    assert {name for name in read if name.startswith("dense/")} == {
        f"dense/{name}" for name in ("dense.safetensors", "metrics.json", "trials.json")
    }


@pytest.mark.slow
def test_the_report_is_of_what_was_made_whatever_the_settings_are_now(
    run_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = tiny_run.config_of(run_copy, TAUGHT, CODES)
    pipeline.run_all(both)
    metrics, _ = evaluated(run_copy)
    pipeline.run_eval(tiny_run.config_of(run_copy, "title=other"))
    again, report = evaluated(run_copy)
    assert "# other" in report
    assert "Fine-tuning distils dense, with a weight of 0.5 in every label" in report
    assert "made from dense's item vectors" in report
    assert again["efficiency"] == metrics["efficiency"]
    for stage in ("features", "finetune"):
        assert f"{stage}/ was made with other settings" in caplog.text


@pytest.mark.slow
def test_finetuning_trains_the_teacher_that_it_lacks_and_no_other(
    run_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run.config_of(run_copy, TAUGHT, OTHER)
    before = tiny_run.times(run_copy)
    with caplog.at_level(logging.INFO):
        pipeline.run_finetune(config)
        assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"dense", "finetune"}
        before = tiny_run.times(run_copy)
        pipeline.run_finetune(config, force=True)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"finetune"}
    assert "dense: up to date" in caplog.text


@pytest.mark.slow
def test_no_stage_trains_it_that_does_not_need_it(run_copy: Path) -> None:
    before = tiny_run.times(run_copy)
    pipeline.run_tokenize(tiny_run.config_of(run_copy, TAUGHT, OTHER, "tokenize.max_steps=2"))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"tokenize"}
    pipeline.run_all(tiny_run.config_of(run_copy, CODES))
    before = tiny_run.times(run_copy)
    pipeline.run_finetune(tiny_run.config_of(run_copy, CODES, OTHER, "finetune.epochs=1"))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"finetune"}


@pytest.mark.parametrize(
    ("settings", "stage", "users"),
    [
        ([CODES, TAUGHT], pipeline.run_finetune, "features/ was made from it"),
        ([CODES], pipeline.run_eval, "features/ was made from it"),
        ([TAUGHT], pipeline.run_eval, "finetune/ was made from it"),
        ([CODES, TAUGHT], pipeline.run_eval, "features/ and finetune/ was made from it"),
    ],
)
def test_what_others_are_made_of_is_not_replaced(
    run_copy: Path, settings: list[str], stage: Callable[[RunConfig], Path], users: str
) -> None:
    config = tiny_run.config_of(run_copy, *settings)
    if CODES in settings:
        pipeline.run_tokenize(config)
    if stage is pipeline.run_eval:  # nothing else is out of date
        cpt.run(config)
        pipeline.run_finetune(config)
    before = tiny_run.times(run_copy)
    with pytest.raises(PlumError) as error:
        stage(tiny_run.config_of(run_copy, *settings, OTHER))
    assert f"dense/ is out of date, but {users}" in str(error.value)
    assert "plum run" in str(error.value)
    assert tiny_run.times(run_copy) == before


@pytest.mark.slow
def test_a_whole_run_replaces_it_and_all_that_was_made_of_it(run_copy: Path) -> None:
    pipeline.run_all(tiny_run.config_of(run_copy, CODES, TAUGHT))
    before = tiny_run.times(run_copy)
    pipeline.run_all(tiny_run.config_of(run_copy, CODES, TAUGHT, OTHER))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == set(tiny_run.STAGES) - {"data"}


def test_another_teacher_makes_the_pupil_outdated(run_copy: Path) -> None:
    pipeline.run_finetune(tiny_run.config_of(run_copy, TAUGHT))
    dense.run(tiny_run.config_of(run_copy, TAUGHT, OTHER))
    with pytest.raises(PlumError, match=r"another dense/dense\.safetensors") as error:
        eval.run(tiny_run.config_of(run_copy, TAUGHT, OTHER))
    assert "plum finetune" in str(error.value)


@pytest.mark.slow
def test_forced_runs_train_the_teacher_once_and_first(run_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_run.config_of(run_copy, TAUGHT)
    before = tiny_run.times(run_copy)
    with caplog.at_level(logging.INFO):
        pipeline.run_all(config, force=True)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == set(tiny_run.STAGES)
    trained = [record.message.split(":")[0] for record in caplog.records if "recall@10" in record.message]
    assert list(dict.fromkeys(trained)) == ["dense", "finetune"]
    assert trained.count("dense") == config.eval.dense.epochs


@pytest.mark.slow
def test_forced_eval_keeps_the_teacher(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, TAUGHT)
    pipeline.run_finetune(config)
    before = tiny_run.times(run_copy)
    pipeline.run_eval(config, force=True)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"eval"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["eval.retrievers=[plum, textknn]"], "needs the dense baseline: add dense to eval.retrievers"),
        (["eval.dense.max_history=9"], "eval.dense.max_history is 9, finetune.max_history is 10"),
        (["eval.dense.search={max_history: [20, 8]}"], "eval.dense.search.max_history is 8"),
        (["eval.dense.max_history=9", "eval.retrievers=[plum]", CODES], "teacher_weight needs the dense baseline"),
        (["eval.dense.max_history=9", "eval.retrievers=[plum]", CODES], "encoder dense needs the dense baseline"),
        (["eval.dense.max_history=9", "eval.retrievers=[plum]", CODES], "eval.dense.max_history is 9"),
        (["finetune.teacher_weight=1.5"], "less than or equal to 1"),
        (["finetune.teacher=trials", KEPT[0]], "set eval.dense.keep_trials"),
        ([*TRIALS, "finetune.teacher_weight=0"], "has no effect while finetune.teacher_weight is 0"),
        (["eval.dense.search={keep_trials: [true, false]}"], "keep_trials: unknown key"),
        (["finetune.teacher=trials", KEPT[1]], "needs two or more trials: give eval.dense.search more values"),
    ],
)
def test_what_can_not_teach_is_refused_before_anything_runs(run_copy: Path, settings: list[str], reason: str) -> None:
    with pytest.raises(PlumError) as error:
        tiny_run.config_of(run_copy, TAUGHT, *settings)
    assert reason in str(error.value)


def test_lengths_that_no_trial_has_are_no_hindrance(run_copy: Path) -> None:
    tiny_run.config_of(run_copy, TAUGHT, "eval.dense.max_history=9", "eval.dense.search={max_history: [10, 20]}")
