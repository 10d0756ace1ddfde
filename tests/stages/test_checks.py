"""What a configuration names is checked before the first stage works, all of it at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from plum.config.file import validate
from plum.errors import PlumError
from plum.stages import inputs, pipeline
from plum.stages.checks import check_named

STAGES = ("data", "features", "tokenize", "cpt", "finetune", "eval")


def config_with(workdir: Path, **changed: Any):
    return validate({**tiny_run.pipeline(workdir), **changed}, "the test")


def test_all_that_is_missing_is_named_at_once_and_nothing_starts(tmp_path: Path) -> None:
    config = config_with(
        tmp_path / "run",
        data={"source": {"kind": "logs", "interactions": str(tmp_path / "no.csv"), "items": str(tmp_path)}},
        features={
            "modalities": {
                "image": {"encoder": "file", "path": str(tmp_path / "no.npy")},
                "words": {"encoder": "sentence-transformers", "model": "package:no_such_package"},
            }
        },
        tokenize={"warm_start": str(tmp_path / "other")},
        cpt={"base": "no/such/folder"},
    )
    with pytest.raises(PlumError, match="6 things") as error:
        pipeline.run_all(config)
    for key in (
        "data.source.interactions",
        "data.source.items",
        "features.modalities.image.path",
        "features.modalities.words.model",
        "tokenize.warm_start",
        "cpt.base: no/such/folder (no such folder)",
    ):
        assert key in str(error.value)
    assert not any((tmp_path / "run" / stage).exists() for stage in STAGES)


def test_a_folder_that_is_no_model_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PlumError, match="it lacks: weights, tokenizer"):
        check_named(config_with(tmp_path / "run", cpt={"base": str(tmp_path)}), ["cpt"])


def test_an_encoder_decoder_and_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "training_args.bin").write_bytes(b"x")
    config = config_with(tmp_path / "run", cpt={"base": str(tmp_path)})
    with pytest.raises(PlumError, match="it lacks: weights"):
        check_named(config, ["cpt"])
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(PlumError, match=r"model type t5 \(T5Config\) is no decoder-only language model"):
        check_named(config, ["cpt"])


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("gone.gguf", "no such file"),
        ("package:no_such_package", "no package 'no_such_package' is installed"),
        ("TEXT.gguf", "it does not begin with GGUF"),
    ],
)
def test_a_file_or_package_that_is_no_model_is_refused(tmp_path: Path, base: str, reason: str) -> None:
    (tmp_path / "text.gguf").write_text("hello")
    base = base.replace("TEXT", str(tmp_path / "text"))
    with pytest.raises(PlumError, match=rf"cpt\.base: {re.escape(base)} \({reason}"):
        check_named(config_with(tmp_path / "run", cpt={"base": base}), ["cpt"])


def test_a_hub_id_that_can_not_be_reached_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PlumError, match="neither a folder here nor a language model on the Hugging Face Hub"):
        check_named(config_with(tmp_path / "run", cpt={"base": "nobody/nothing"}), ["cpt"])


def test_only_the_stages_to_come_are_checked(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy, "cpt.base=no/such/folder")
    check_named(config, ["data", "features", "tokenize"])
    with pytest.raises(PlumError, match=r"cpt\.base"):
        pipeline.run_cpt(config)


def test_a_stage_after_one_that_is_made_again_is_checked_too(run_copy: Path) -> None:
    manifest, settings = run_copy / "cpt/manifest.json", ("cpt.base=./gone",)
    made = json.loads(manifest.read_text())
    made["config"] = inputs.recorded(tiny_run.config_of(run_copy, *settings), "cpt")
    manifest.write_text(json.dumps(made))
    check_named(tiny_run.config_of(run_copy, *settings), STAGES)  # cpt is up to date, and its base not needed
    for changed, force in ((("tokenize.max_steps=7",), False), ((), True)):
        with pytest.raises(PlumError, match=r"cpt\.base: \./gone"):
            check_named(tiny_run.config_of(run_copy, *settings, *changed), STAGES, force)


def test_a_finished_stage_may_outlive_what_it_was_made_from(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"u{n % 4},i{n % 5},{n}\n" for n in range(40)))
    source = {"kind": "logs", "interactions": str(log)}
    config = config_with(tmp_path / "run", data={"source": source, "max_bad_share": 0.5})
    pipeline.run_prepare(config)
    log.unlink()
    check_named(config, ["data"])
    with pytest.raises(PlumError, match=r"data\.source\.interactions"):
        check_named(config_with(tmp_path / "other", data={"source": source, "max_bad_share": 0.5}), ["data"])
