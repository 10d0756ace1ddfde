"""Same seed, same bytes; and however a run is disturbed, it ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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


def contents(workdir: Path) -> dict[str, bytes]:
    return {name: (workdir / name).read_bytes() for name in RESULTS}


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


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


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How often runs were disturbed, and what was lost, by kind."""
    program = Path(__file__).parents[1] / "disturbed_runs.py"
    command = [sys.executable, program, tmp_path_factory.mktemp("disturbed"), "--kills", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("kind", ["kills", "points"])
def test_killed_runs_go_on_and_end_as_an_undisturbed_one(disturbed: dict[str, Any], kind: str) -> None:
    assert disturbed[kind]["losses"] == []
    assert disturbed[kind]["runs"] == 30
    assert disturbed[kind]["resumed"] > 0  # it was not only begun anew


@pytest.mark.parametrize("kind", ["starts", "limits"])
def test_second_starts_and_files_that_can_not_grow_do_no_harm(disturbed: dict[str, Any], kind: str) -> None:
    assert disturbed[kind]["losses"] == []


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


def test_a_changed_configuration_does_not_go_on_from_the_old_checkpoint(tmp_path: Path) -> None:
    values = tiny_run.pipeline(tmp_path / "run")
    values["tokenize"] |= {"max_steps": 300, "checkpoint_steps": 7}
    config = tiny_run.write(tmp_path / "tiny.yaml", values)
    kill_in("tokenize", config, tmp_path / "run", beyond=4)
    values["tokenize"] |= {"max_steps": 3}
    tiny_run.write(config, values)
    done = tiny_run.plum("tokenize", "--config", config)
    assert done.returncode == 0
    assert "resuming" not in done.stderr
    fresh = tiny_run.write(tmp_path / "fresh.yaml", values | {"workdir": str(tmp_path / "fresh")})
    assert tiny_run.plum("data", "prepare", "--config", fresh).returncode == 0
    assert tiny_run.plum("tokenize", "--config", fresh).returncode == 0
    for name in ("semantic_ids.parquet", "rqvae.safetensors", "train_log.jsonl"):
        assert (tmp_path / "run/tokenize" / name).read_bytes() == (tmp_path / "fresh/tokenize" / name).read_bytes()
