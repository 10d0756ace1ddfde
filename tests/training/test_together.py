"""Several processes train together: the same losses and weights as one, one writer, one message when one is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from launched import launch
from safetensors.torch import load_file

PROGRAM = str(Path(__file__).with_name("together.py"))
pytestmark = pytest.mark.slow  # every process loads torch anew


def run(folder, processes, *options):
    folder.mkdir(exist_ok=True)
    found = launch([PROGRAM, str(folder), *options], processes, folder)
    assert found.returncode == 0, found.stderr[-3000:]
    told = json.loads((folder / "log.json").read_text())
    return told["log"], load_file(folder / "weights.safetensors"), told["calls"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone") / "one", 1)


def assert_same(found, expected):
    """Losses to 2e-5, weights to 1e-4: AdamW divides tiny gradients by their size, which magnifies rounding."""
    (log, weights, _), (other_log, other_weights, _) = found, expected
    assert len(log) == len(other_log)
    for entry, other in zip(log, other_log, strict=True):
        assert entry == pytest.approx(other, abs=2e-5)
    for name, value in weights.items():
        assert torch.allclose(value, other_weights[name], atol=1e-4), name


@pytest.mark.parametrize(
    "options", [(), ("--micro", "2"), ("--parallel", "fsdp"), ("--parallel", "fsdp", "--micro", "1")]
)
def test_two_processes_train_as_one_does(tmp_path, alone, options):
    found = run(tmp_path / "two", 2, *options)
    assert_same(found, alone)
    most = int(options[-1]) if options and options[-1].isdigit() else 3
    assert max(found[2]) == most  # five rows: three for the first process


def test_a_checkpoint_of_two_processes_is_gone_on_from_by_one_or_three(tmp_path, alone):
    for number, (processes, parallel) in enumerate([(1, "ddp"), (3, "fsdp")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        killed = launch([PROGRAM, str(folder), "--die-at", "5", "--parallel", "fsdp"], 2, folder)
        assert killed.returncode != 0
        found = run(folder, processes, "--parallel", parallel)
        assert len(found[2]) == 8 - 4  # of the first process: the checkpoint stands at an epoch's end
        assert_same(found, alone)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_process_that_dies_stops_the_others_with_one_message(tmp_path, parallel):
    found = launch([PROGRAM, str(tmp_path), "--die-at", "5", "--parallel", parallel], 3, tmp_path)
    assert found.returncode != 0
    assert (found.stdout + found.stderr).count("Error: another process of this command has ended") <= 1
    assert "Error: another process" in found.stdout or "SIGKILL" in found.stderr
    assert (tmp_path / "checkpoint/state.json").exists()
    assert not (tmp_path / "log.json").exists()


def test_a_loss_that_is_no_number_in_one_process_stops_all_with_one_message(tmp_path):
    found = launch([PROGRAM, str(tmp_path), "--bad-step", "2"], 2, tmp_path)
    assert found.returncode != 0
    assert found.stdout.count("not finite at step 2") == 1
    assert "the batch is of a, b, c, d, e" in found.stdout
