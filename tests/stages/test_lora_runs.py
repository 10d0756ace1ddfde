"""Stages with LoRA, and with settings that follow from the model, on a checkpoint as a user has one."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import tiny_run
import torch
import transformers as hf
from safetensors.torch import load_file
from test_pretrained_base import save_gpt2

from plum.errors import PlumError
from plum.lm import lora
from plum.run.manifest import read_manifest
from plum.serving import recommend
from plum.stages import checks, cpt, finetune, inputs


def metrics_of(run: Path, stage: str) -> dict:
    return json.loads((run / stage / "metrics.json").read_text())


def messages(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_adapters_are_merged_and_kept_and_the_old_vocabulary_stays(run_copy: Path, tmp_path: Path) -> None:
    base = save_gpt2(tmp_path / "base", run_copy, positions=128)
    settings = [f"cpt.base={base}", "cpt.lora={r: 2, targets: [c_attn]}", "finetune.lora={r: 3}", "finetune.epochs=1"]
    config = tiny_run.config_of(run_copy, *settings)
    cpt.run(config)
    finetune.run(config)
    before = hf.AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = hf.AutoModelForCausalLM.from_pretrained(run_copy / "finetune/model").state_dict()
    assert set(after) == set(before)
    n_old = len(before["transformer.wte.weight"])
    assert torch.equal(after["transformer.wte.weight"][:n_old], before["transformer.wte.weight"])
    assert len(after["transformer.wte.weight"]) > n_old
    assert torch.equal(after["transformer.wpe.weight"], before["transformer.wpe.weight"])
    middle = hf.AutoModelForCausalLM.from_pretrained(run_copy / "cpt/model").state_dict()
    changed = {name for name in before if name.endswith("c_fc.weight") and not torch.equal(middle[name], before[name])}
    assert not changed  # cpt adapted c_attn alone
    for stage, kind in (("cpt", "lora_A"), ("finetune", "trainable_tokens_delta")):
        assert f"adapter/{lora.WEIGHTS}" in read_manifest(run_copy / stage).outputs
        assert any(kind in name for name in load_file(run_copy / stage / "adapter" / lora.WEIGHTS))
        assert 0 < metrics_of(run_copy, stage)["cost"]["parameters"] < sum(value.numel() for value in before.values())
    items = recommend.Recommender(config).for_history([], recommend.Request(k=3)).items
    assert len(items) == 3


def test_what_follows_from_the_model_is_told_and_recorded(
    run_copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = save_gpt2(tmp_path / "base", run_copy, positions=128)
    config = tiny_run.config_of(run_copy, f"cpt.base={base}", "finetune.epochs=1", "finetune.learning_rate=0.05")
    with caplog.at_level(logging.INFO, logger="plum"):
        cpt.run(config)
        finetune.run(config)
    recorded = metrics_of(run_copy, "cpt")["training"]
    assert (recorded["learning_rate"], recorded["schedule"]) == (0.001, "cosine")
    assert recorded["precision"] in ("auto", "bfloat16")
    assert recorded["step_memory_mib"] > 0
    assert metrics_of(run_copy, "finetune")["training"]["learning_rate"] == 0.05
    assert metrics_of(run_copy, "finetune")["training"]["schedule"] == "constant"
    told = messages(caplog, logging.INFO)
    assert any(message.startswith("cpt: learning_rate 0.001, schedule cosine") for message in told)
    warned = [message for message in messages(caplog, logging.WARNING) if "learning rate" in message]
    assert len(warned) == 1
    assert "0.05 is 50 times the default for this model, 0.001 (a pre-trained model of" in warned[0]


def test_from_scratch_the_defaults_are_recorded_as_if_given(finished_run: Path) -> None:
    recorded = read_manifest(finished_run / "cpt").config
    assert {name: recorded[name] for name in ("learning_rate", "schedule", "precision")} == {
        "learning_rate": 0.002,
        "schedule": "cosine",
        "precision": "auto",
    }
    settings = ["cpt.learning_rate=0.002", "cpt.schedule=cosine", "finetune.learning_rate=1e-3"]
    given = tiny_run.config_of(finished_run, *settings)
    for stage in ("cpt", "finetune"):
        assert inputs.recorded(given, stage) == read_manifest(finished_run / stage).config
        assert "lora" not in read_manifest(finished_run / stage).config
    assert metrics_of(finished_run, "finetune")["training"]["learning_rate"] == 0.001


def test_a_target_that_the_model_lacks_is_told_before_training(run_copy: Path, tmp_path: Path) -> None:
    base = save_gpt2(tmp_path / "base", run_copy, positions=128)
    with pytest.raises(PlumError, match="c_attn, c_fc, c_proj"):
        cpt.run(tiny_run.config_of(run_copy, f"cpt.base={base}", "cpt.lora={targets: [q_proj]}"))


def test_there_is_nothing_to_adapt_in_a_model_from_scratch(run_copy: Path) -> None:
    with pytest.raises(PlumError, match=r"cpt\.lora: it adapts a pre-trained model"):
        checks.check_named(tiny_run.config_of(run_copy, "cpt.lora={r: 4}"), ["cpt"])


def test_without_peft_no_stage_starts(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = checks.importlib.util.find_spec
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None if name == "peft" else true(name))
    with pytest.raises(PlumError, match=r"finetune\.lora: needs peft.*pip install"):
        checks.check_named(tiny_run.config_of(run_copy, "finetune.lora={}"), ["finetune"])


def test_fine_tuning_over_the_codes_of_a_level(run_copy: Path) -> None:
    before = read_manifest(run_copy / "finetune").config
    config = tiny_run.config_of(run_copy, "finetune.loss_over=level", "finetune.epochs=1")
    finetune.run(config)
    assert "loss_over" not in before
    assert read_manifest(run_copy / "finetune").config["loss_over"] == "level"
    log = [json.loads(line) for line in (run_copy / "finetune/train_log.jsonl").read_text().splitlines()]
    # 16, 8 and the disambiguation codes: an untrained model's loss is near the mean logarithm of the sizes.
    assert log[0]["loss"] < 3.0
    assert all(entry.get("valid_loss", 0) < 3.0 for entry in log)
