"""Same seed, same bytes; and a run killed at any instant ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_run

pytestmark = pytest.mark.slow

RESULTS = (
    "data/split.parquet",
    "features/text.npy",
    "tokenize/semantic_ids.parquet",
    "tokenize/index.safetensors",
    "tokenize/quality.json",
    "tokenize/rqvae.safetensors",
    "tokenize/tokenizer.json",
    "tokenize/train_log.jsonl",
    "cpt/model/model.safetensors",
    "cpt/train_log.jsonl",
    "cpt/metrics.json",
    "finetune/model/model.safetensors",
    "finetune/train_log.jsonl",
    "finetune/metrics.json",
    "dense/dense.safetensors",
    "dense/metrics.json",
    "dense/trials.json",
    "dense/train_log.jsonl",
    "eval/metrics.json",
    "eval/recommendations.parquet",
)
LONG = {
    "dense": {"epochs": 40, "checkpoint_steps": 2, "patience": 100, "batch_size": 16},
    "tokenize": {"epochs": 300, "checkpoint_steps": 7},
    "cpt": {"epochs": 30, "checkpoint_steps": 3},
    "finetune": {
        "epochs": 8,
        "checkpoint_steps": 3,
        "history_dropout": 0.2,
        "patience": 100,
        "teacher_weight": 0.5,
    },
}
TRAINED = tuple(LONG)


def contents(workdir: Path) -> dict[str, bytes]:
    return {name: (workdir / name).read_bytes() for name in RESULTS}


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def long_pipeline(workdir: Path) -> dict[str, Any]:
    values = tiny_run.pipeline(workdir)
    for stage, settings in LONG.items():
        (values["eval"]["dense"] if stage == "dense" else values[stage]).update(settings)
    return values


def run(*arguments: str | Path) -> str:
    done = tiny_run.plum("run", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(finished_run: Path, tmp_path: Path) -> None:
    config = finished_run / "config.yaml"
    first = contents(finished_run)
    run("--config", config, "--workdir", tmp_path / "again")
    assert differing(first, contents(tmp_path / "again")) == []
    run("--config", config, "--workdir", tmp_path / "other", "--seed", "1")
    other = differing(first, contents(tmp_path / "other"))
    assert {"tokenize/rqvae.safetensors", "finetune/model/model.safetensors", "dense/dense.safetensors"} <= set(other)
    assert "eval/metrics.json" in other


def step_of(workdir: Path, stage: str) -> int:
    """Step of the checkpoint that a stage would go on from; 0 if there is none."""
    try:
        return int(json.loads((workdir / f".{stage}.partial/checkpoint/state.json").read_text())["step"])
    except FileNotFoundError:
        return 0


def kill_in(stage: str, config: Path, workdir: Path, beyond: int) -> str:
    """Start ``plum run`` and kill it without warning in the midst of a stage; gives what it had logged."""
    with (workdir.parent / f"{stage}.log").open("w+") as log:
        started = subprocess.Popen(
            tiny_run.command("run", "--config", config), stderr=log, stdout=log, env=os.environ | tiny_run.ENVIRONMENT
        )
        patience = time.monotonic() + 60
        while step_of(workdir, stage) <= beyond:
            assert started.poll() is None, f"the run ended before it could be killed in {stage}"
            assert time.monotonic() < patience, f"no checkpoint of {stage}"
            time.sleep(0.005)
        started.send_signal(signal.SIGKILL)
        started.wait()
        assert not (workdir / stage).exists(), f"{stage} was complete before it was killed"
        log.seek(0)
        return log.read()


def test_a_run_killed_in_every_stage_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    run("--config", tiny_run.write(tmp_path / "undisturbed.yaml", long_pipeline(undisturbed)))
    killed = tmp_path / "killed"
    config = tiny_run.write(tmp_path / "killed.yaml", long_pipeline(killed))
    logs = [kill_in(stage, config, killed, beyond=4) for stage in TRAINED]
    # Twice in one stage: the second start goes on from a checkpoint, and so does the third.
    logs.append(kill_in("finetune", config, killed, beyond=step_of(killed, "finetune") + 4))
    logs.append(run("--config", config))
    for stage, after in zip([*TRAINED, "finetune"], logs[1:], strict=True):
        assert f"{stage}: resuming from the checkpoint of an interrupted run" in after
    for after in logs[1:]:
        assert "data: up to date" in after
    assert differing(contents(undisturbed), contents(killed)) == []
    assert not list(killed.glob(".*.partial"))


def test_a_changed_configuration_does_not_go_on_from_the_old_checkpoint(tmp_path: Path) -> None:
    values = long_pipeline(tmp_path / "run")
    config = tiny_run.write(tmp_path / "tiny.yaml", values)
    kill_in("tokenize", config, tmp_path / "run", beyond=4)
    values["tokenize"] |= {"epochs": 3}
    tiny_run.write(config, values)
    done = tiny_run.plum("tokenize", "--config", config)
    assert done.returncode == 0
    assert "resuming" not in done.stderr
    fresh = tiny_run.write(tmp_path / "fresh.yaml", values | {"workdir": str(tmp_path / "fresh")})
    assert tiny_run.plum("data", "prepare", "--config", fresh).returncode == 0
    assert tiny_run.plum("tokenize", "--config", fresh).returncode == 0
    for name in ("semantic_ids.parquet", "rqvae.safetensors", "train_log.jsonl"):
        assert (tmp_path / "run/tokenize" / name).read_bytes() == (tmp_path / "fresh/tokenize" / name).read_bytes()
