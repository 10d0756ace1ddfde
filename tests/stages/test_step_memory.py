"""What is said of a training that will not fit in memory, before it starts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import tiny_run

from plum.errors import PlumError
from plum.lm.memory import Shape, Step, estimate
from plum.stages import capacity, cpt, finetune

GIB = 2**30
SMOLLM2 = Shape(30, 576, 576, 192, 9, 1536, 49_152, 134_515_008, 134_515_008)
STEP = Step(rows=32, length=512)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_nothing_is_said_of_what_fits(caplog: pytest.LogCaptureFixture) -> None:
    needed = capacity.check_step("cpt", SMOLLM2, STEP, 500 * GIB)
    assert needed == estimate(SMOLLM2, STEP)
    assert warnings_of(caplog) == []


def test_the_weights_are_in_memory_already(caplog: pytest.LogCaptureFixture) -> None:
    needed = estimate(SMOLLM2, STEP)
    capacity.check_step("cpt", SMOLLM2, STEP, needed.total - needed.weights)
    assert warnings_of(caplog) == []
    capacity.check_step("cpt", SMOLLM2, STEP, needed.total - needed.weights - 1)
    assert len(warnings_of(caplog)) == 1


def test_a_batch_that_does_not_fit_is_warned_of_with_what_helps(caplog: pytest.LogCaptureFixture) -> None:
    capacity.check_step("finetune", SMOLLM2, STEP, 8 * GIB)
    (message,) = warnings_of(caplog)
    assert "32 rows of 512 tokens need about" in message
    assert "8.5 GiB can be had" in message  # the weights' 0.5 are among it
    assert "set finetune.micro_batch_size to" in message
    assert "finetune.gradient_checkpointing" in message
    assert "lora" not in message  # it saves gradients and moments, which are not what is too large


def test_weights_and_moments_that_do_not_fit_are_refused_with_what_helps() -> None:
    with pytest.raises(PlumError) as error:
        capacity.check_step("cpt", SMOLLM2, STEP, GIB)
    assert "whatever the batch" in str(error.value)
    assert "cpt.weights to bfloat16" in str(error.value)
    assert "cpt.lora" in str(error.value)
    assert "micro_batch_size" not in str(error.value)


@pytest.mark.parametrize(("stage", "module"), [("cpt", cpt.stage), ("finetune", finetune)])
def test_stages_are_refused_before_training(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch, stage: str, module: object
) -> None:
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("training began"))
    monkeypatch.setattr(capacity, "free_bytes", lambda _: 1000)
    with pytest.raises(PlumError, match=f"{stage}: a training step needs more memory than is free"):
        module.run(tiny_run.config_of(run_copy, f"{stage}.epochs=1"), force=True)  # type: ignore[attr-defined]


def test_free_memory_is_what_the_machine_and_its_group_leave(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   40 kB\n")
    assert capacity._available(tmp_path / "meminfo") == 40 * 1024
    assert capacity._available(tmp_path / "missing") == capacity.machine_bytes()
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 200\n")
    assert capacity._left_to_group(tmp_path) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert capacity._left_to_group(tmp_path) == capacity.machine_bytes()
