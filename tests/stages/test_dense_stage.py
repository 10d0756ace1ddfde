"""Stage dense: SASRec and LEM into folders of their own, the chosen trial's weights, and what the training cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run
import torch
from safetensors.numpy import load_file

from plum.config.file import validate
from plum.config.run import RunConfig
from plum.lm.examples import windows
from plum.retrievers.dense import Dense
from plum.run import artifacts
from plum.run.manifest import read_manifest
from plum.runtime import seed_everything
from plum.stages import dense, inputs, pipeline, prepare, trained
from plum.training.cost import Cost

SMALL = {"epochs": 2, "hidden_size": 16, "layers": 1, "heads": 2, "batch_size": 32}
WIDE = {"epochs": 1, "hidden_size": 16, "layers": 1, "heads": 2, "embedding_size": 48}
SEARCH = {"hidden_size": [8, 16], "learning_rate": ["1e-4", 1e-2]}


class Killed(BaseException):
    """Stands for the kill of the process."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with prepared data alone. Not to be changed but for the stages' folders."""
    workdir = tmp_path_factory.mktemp("prepared") / "run"
    prepare.run(config_of(workdir))
    return workdir


def config_of(workdir: Path, sasrec: dict[str, Any] = SMALL, lem: dict[str, Any] | None = WIDE) -> RunConfig:
    values = tiny_run.pipeline(workdir)
    values["eval"] |= {"dense": sasrec, "lem": lem}
    return validate(values, "the test")


def link(prepared: Path, workdir: Path) -> Path:
    """A run folder of its own on the same prepared data."""
    workdir.mkdir()
    (workdir / "data").symlink_to(prepared / "data")
    return workdir


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files but the manifest."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_both_baselines_have_folders_of_their_own(prepared: Path, tmp_path: Path) -> None:
    config = config_of(link(prepared, tmp_path / "run"))
    assert dense.run(config) == tmp_path / "run" / "dense"
    assert dense.run_lem(config) == tmp_path / "run" / "lem"
    for kind in ("dense", "lem"):
        files = {f"{kind}.safetensors", "train_log.jsonl", "metrics.json", "trials.json"}
        assert set(contents(tmp_path / "run" / kind)) == files
        manifest = read_manifest(tmp_path / "run" / kind)
        assert manifest.config == inputs.recorded(config, kind)
        assert set(manifest.inputs) == {"data/items.parquet", "data/split.parquet"}
    tables = load_file(tmp_path / "run" / artifacts.LEM_MODEL)
    assert tables["items.weight"].shape == tables["outputs.weight"].shape == (61, 48)
    before = tiny_run.times(tmp_path / "run")
    dense.run(config)
    assert tiny_run.times(tmp_path / "run") == before


def test_retrievers_are_built_from_their_folders(prepared: Path, tmp_path: Path) -> None:
    config = config_of(link(prepared, tmp_path / "run"))
    dense.run(config)
    dense.run_lem(config)
    data = inputs.read_prepared(config.workdir)
    _, histories, targets = data.histories.questions("valid")
    for kind in (artifacts.DENSE, artifacts.LEM):
        retriever = trained.dense_retriever(config, kind, data.items)
        assert retriever.name == kind
        recall = inputs.validation_metrics(retriever, histories, targets, True)["recall@10"]
        assert read(config.workdir / kind / "metrics.json")["valid_recall@10"] == pytest.approx(recall)


def test_no_search_is_one_trial_with_the_sections_own_values(prepared: Path, tmp_path: Path) -> None:
    dense.run(config_of(link(prepared, tmp_path / "run")))
    metrics = read(tmp_path / "run/dense/metrics.json")
    assert metrics["chosen"] == {}
    (trial,) = read(tmp_path / "run/dense/trials.json")
    expected = {key: metrics[key] for key in ("best_step", "steps", "valid_recall@10")}
    assert trial == {"settings": {}, "cost": metrics["cost"]} | expected


def test_a_search_ends_in_the_best_trial_alone(prepared: Path, tmp_path: Path) -> None:
    """The files of the chosen trial are those of a run with its settings, byte for byte."""
    config = config_of(link(prepared, tmp_path / "searched"), SMALL | {"search": SEARCH})
    dense.run(config)
    folder = tmp_path / "searched" / "dense"
    trials, metrics = read(folder / "trials.json"), read(folder / "metrics.json")
    assert [trial["settings"] for trial in trials] == [
        {"hidden_size": size, "learning_rate": rate} for size in (8, 16) for rate in (1e-4, 1e-2)
    ]
    recalls = [trial["valid_recall@10"] for trial in trials]
    chosen = trials[recalls.index(max(recalls))]
    assert len(set(recalls)) > 1
    assert metrics["chosen"] == chosen["settings"]
    told = {key: metrics[key] for key in ("best_step", "steps", "valid_recall@10")}
    assert chosen == {"settings": metrics["chosen"], "cost": metrics["cost"]} | told
    assert not (folder / "trials").exists()
    alone = config_of(link(prepared, tmp_path / "alone"), SMALL | chosen["settings"])
    dense.run(alone)
    for name in ("dense.safetensors", "train_log.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "alone" / "dense" / name).read_bytes()
    assert metrics["cost"] == read(tmp_path / "alone/dense/metrics.json")["cost"]
    items = inputs.read_prepared(prepared).items
    found = trained.dense_retriever(config, artifacts.DENSE, items).item_vectors()
    expected = trained.dense_retriever(alone, artifacts.DENSE, items).item_vectors()
    np.testing.assert_array_equal(found, expected)


def test_the_trials_are_kept_where_wanted_and_the_result_is_the_same(prepared: Path, tmp_path: Path) -> None:
    values = SMALL | {"search": {"hidden_size": [8, 16]}}
    usual = config_of(link(prepared, tmp_path / "usual"), values)
    kept = config_of(link(prepared, tmp_path / "kept"), values | {"keep_trials": True})
    dense.run(usual)
    dense.run(kept)
    folder, other = tmp_path / "kept/dense", tmp_path / "usual/dense"
    for name in ("dense.safetensors", "metrics.json", "trials.json", "train_log.jsonl"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()
    assert sorted(path.name for path in (folder / "trials").iterdir()) == ["0.safetensors", "1.safetensors"]
    items = inputs.read_prepared(prepared).items
    models = trained.dense_trials(kept, len(items))
    assert [model.hidden_size for model in models] == [8, 16]
    trials = read(folder / "trials.json")
    best = max(range(2), key=lambda number: trials[number]["valid_recall@10"])
    chosen = trained.dense_retriever(kept, artifacts.DENSE, items)
    np.testing.assert_array_equal(Dense(models[best]).item_vectors(), chosen.item_vectors())
    before = tiny_run.times(tmp_path / "kept")
    dense.run(config_of(tmp_path / "kept", values))
    assert tiny_run.times(tmp_path / "kept") == before  # who wants them no more need not train again
    dense.run(config_of(tmp_path / "usual", values | {"keep_trials": True}))
    assert contents(other) == contents(folder)


@pytest.mark.slow
def test_trials_side_by_side_are_those_of_one_after_the_other(prepared: Path, tmp_path: Path) -> None:
    values = SMALL | {"keep_trials": True, "search": {"hidden_size": [8, 16]}}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        dense.run(config_of(link(prepared, tmp_path / "one"), values))
        torch.set_num_threads(2)  # one each
        dense.run(config_of(link(prepared, tmp_path / "beside"), values | {"trials_at_once": 2}))
    finally:
        torch.set_num_threads(threads)
    assert contents(tmp_path / "beside" / "dense") == contents(tmp_path / "one" / "dense")
    before = tiny_run.times(tmp_path / "beside")
    dense.run(config_of(tmp_path / "beside", values))
    assert tiny_run.times(tmp_path / "beside") == before  # how many there were at a time changes no result


def test_a_search_killed_before_its_trials_were_to_be_kept_keeps_all(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = SMALL | {"search": {"learning_rate": [1e-4, 1e-2]}}  # the first is beaten, and its weights removed
    kept = config_of(link(prepared, tmp_path / "kept"), values | {"keep_trials": True})
    dense.run(kept)
    killed = config_of(link(prepared, tmp_path / "killed"), values)

    def dying(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(dense, "write_tensors", dying)
        with pytest.raises(Killed):
            dense.run(killed)
    dense.run(config_of(tmp_path / "killed", values | {"keep_trials": True}))
    assert contents(tmp_path / "killed" / "dense") == contents(tmp_path / "kept" / "dense")


@pytest.mark.parametrize(
    ("beyond", "keep_trials"),
    [
        pytest.param(1, False, marks=pytest.mark.slow),
        (7, False),
        pytest.param(15, True, marks=pytest.mark.slow),
        (38, True),
        pytest.param(38, False, marks=pytest.mark.slow),
    ],
)
def test_a_search_killed_at_any_step_ends_as_an_undisturbed_one(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beyond: int, keep_trials: bool
) -> None:
    settings = SMALL | {
        "keep_trials": keep_trials,
        "search": SEARCH,
        "checkpoint_steps": 2,
        "dropout": 0.3,
        "negatives": 20,
    }
    undisturbed = config_of(link(prepared, tmp_path / "undisturbed"), settings)
    dense.run(undisturbed)
    killed = config_of(link(prepared, tmp_path / "killed"), settings)
    steps: list[None] = []
    true = dense.dense_loss

    def dying(*arguments: Any) -> Any:
        steps.append(None)
        if len(steps) > beyond:
            raise Killed
        return true(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(dense, "dense_loss", dying)
        with pytest.raises(Killed):
            dense.run(killed)
    seed_everything(99)  # another process starts with other generators
    dense.run(killed)
    assert contents(tmp_path / "killed" / "dense") == contents(tmp_path / "undisturbed" / "dense")


def test_the_cost_is_that_of_all_steps_taken(prepared: Path, tmp_path: Path) -> None:
    config = config_of(link(prepared, tmp_path / "run"))
    dense.run(config)
    metrics = read(tmp_path / "run/dense/metrics.json")
    cut = windows(inputs.read_prepared(prepared).histories.train, config.eval.dense.max_history + 1)
    per_epoch = sum(len(window.items) - 1 for window in cut if window.n_context == 0) + sum(
        len(window.items) - window.n_context for window in cut if window.n_context
    )
    cost = Cost(**metrics["cost"])
    weights = load_file(tmp_path / "run" / artifacts.DENSE_MODEL)
    assert cost.parameters == sum(value.size for value in weights.values())
    assert (cost.epochs, cost.examples) == (2, 2 * per_epoch)
    assert metrics["steps"] == 2 * -(-sum(len(window.items) > 1 for window in cut) // 32)
    assert cost.flops > 6 * cost.parameters * cost.tokens / 2  # forward and backward use most parameters once a token
    assert metrics["table_share"] == pytest.approx(61 * 16 / cost.parameters)


@pytest.mark.parametrize(("asked", "told"), [(None, None), (20, 20)])
def test_the_metrics_tell_the_negatives(prepared: Path, tmp_path: Path, asked: int | None, told: int | None) -> None:
    dense.run(config_of(link(prepared, tmp_path / "run"), SMALL | {"negatives": asked}))
    assert read(tmp_path / "run/dense/metrics.json")["negatives"] == told


def test_eval_trains_both_or_leaves_the_large_one_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plum.stages import eval

    done: list[str] = []
    monkeypatch.setattr(dense, "run", lambda *_, **__: done.append("dense"))
    monkeypatch.setattr(dense, "run_lem", lambda *_: done.append("lem"))
    monkeypatch.setattr(eval, "run", lambda *_: done.append("eval"))
    pipeline.run_eval(config_of(tmp_path))
    pipeline.run_eval(config_of(tmp_path, lem=None))
    assert done == ["dense", "lem", "eval", "dense", "eval"]


def test_a_baseline_that_is_left_out_is_a_programming_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"eval\.lem is null"):
        dense.run_lem(config_of(tmp_path, lem=None))


def test_the_log_is_that_of_the_chosen_trial(prepared: Path, tmp_path: Path) -> None:
    config = config_of(link(prepared, tmp_path / "run"), SMALL | {"search": {"learning_rate": [1e-4, 1e-2]}})
    dense.run(config)
    log = artifacts.read_log(tmp_path / "run/dense/train_log.jsonl")
    metrics = read(tmp_path / "run/dense/metrics.json")
    rates = [entry["lr"] for entry in log if "lr" in entry]
    assert max(rates) <= metrics["chosen"]["learning_rate"]
    assert round(metrics["valid_recall@10"], 6) in [entry.get("recall@10") for entry in log]


def test_the_language_models_stages_tell_their_cost(finished_run: Path) -> None:
    data = inputs.read_prepared(finished_run)
    config = tiny_run.config_of(finished_run)
    items = sum(map(len, data.histories.train))  # every item of a training history is a target once an epoch
    finetuned = Cost(**read(finished_run / "finetune/metrics.json")["cost"])
    n_levels = inputs.read_sid_table(finished_run, data.items).n_levels
    assert finetuned.examples == items * finetuned.epochs
    assert finetuned.tokens > items * finetuned.epochs * n_levels  # prefixes and items of context as well
    pretrained = read(finished_run / "cpt/metrics.json")
    cost = Cost(**pretrained["cost"])
    assert cost.parameters == pretrained["parameters"]
    assert cost.examples == pretrained["steps"] * config.cpt.batch_size
    assert 0.9 < cost.tokens / (cost.examples * config.cpt.context_length) < 1  # blocks are nearly full
    assert cost.flops > 6 * cost.tokens * 2 * 32 * 4 * 32 / 2  # more than one layer's attention projections
    assert set(asdict(cost)) == set(pretrained["cost"])


def test_trials_share_one_seed_so_that_those_before_change_nothing(prepared: Path, tmp_path: Path) -> None:
    values = SMALL | {"search": {"epochs": [1, 2]}}
    dense.run(config_of(link(prepared, tmp_path / "run"), values))
    _, two = read(tmp_path / "run/dense/trials.json")
    dense.run(config_of(link(prepared, tmp_path / "other"), SMALL | {"epochs": 2}))
    (alone,) = read(tmp_path / "other/dense/trials.json")
    assert {**two, "settings": {}} == alone
