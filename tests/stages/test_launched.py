"""Stages in several processes: the first prepares and writes, all train, and the result is that of one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from launched import launch

from plum.run import artifacts
from plum.run.manifest import read_manifest

pytestmark = pytest.mark.slow  # every process loads the libraries anew


def losses(run: Path, stage: str) -> list[float]:
    lines = (run / stage / "train_log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def test_two_processes_make_what_one_makes(run_copy: Path, finished_run: Path) -> None:
    for stage in ("cpt", "finetune"):
        shutil.rmtree(run_copy / stage)
    command = ["-m", "plum", "finetune", "--workdir", str(run_copy)]
    found = launch(command, 2, run_copy)
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.splitlines() == [str(run_copy / "finetune")]  # said once
    assert found.stderr.count("making it first") == 1
    for stage in ("cpt", "finetune"):
        assert losses(run_copy, stage) == pytest.approx(losses(finished_run, stage), abs=1e-4)
        manifest = read_manifest(run_copy / stage)
        assert set(manifest.outputs) == set(read_manifest(finished_run / stage).outputs)
        theirs = artifacts.read_json(finished_run / stage / "metrics.json", dict)["cost"]
        assert artifacts.read_json(run_copy / stage / "metrics.json", dict)["cost"] == theirs
    assert not list(run_copy.glob(".*.partial"))
    again = launch(command, 2, run_copy)
    assert again.returncode == 0
    assert "finetune: up to date" in again.stderr


def test_a_mistake_is_told_once(run_copy: Path) -> None:
    command = ["-m", "plum", "cpt", "--workdir", str(run_copy), "--set", "cpt.base=/nowhere", "--force"]
    found = launch(command, 2, run_copy)
    assert found.returncode != 0
    assert [line.startswith("Error: ") for line in found.stderr.splitlines()].count(True) == 1
    assert "cpt.base" in found.stderr
    assert (run_copy / "cpt/manifest.json").exists()
