"""Code that a model folder brings is never run, whatever answers on the terminal; damage ends with one message."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import tiny_run

EVIL = """
from pathlib import Path
Path({mark!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilModel(LlamaForCausalLM):
    config_class = EvilConfig
"""


def plant(folder: Path, mark: Path) -> None:
    """A model type of its own, with the file that defines it."""
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(EVIL.format(mark=str(mark)))


def with_yes(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command that gets "y" as the answer to any question."""
    return subprocess.run(
        tiny_run.command(*arguments),
        input="y\n" * 1000,
        capture_output=True,
        text=True,
        env=os.environ | tiny_run.ENVIRONMENT,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_code_planted_in_a_run_or_a_base_is_never_run(run_copy: Path, tmp_path: Path) -> None:
    mark, base = tmp_path / "ran", tmp_path / "base"
    (run_copy / "cpt/model").rename(base)
    plant(run_copy / "finetune/model", mark)
    plant(base, mark)
    user = pd.read_parquet(run_copy / "data/interactions.parquet")["user_id"].iloc[0]
    for done in (
        with_yes("recommend", "--workdir", run_copy, "--user", user),
        with_yes("cpt", "--workdir", run_copy, "--set", f"cpt.base={base}"),
        with_yes("run", "--workdir", run_copy, "--set", f"cpt.base={base}"),
    ):
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert re.search("auto_map in config.json|finetune/model", done.stderr), done.stderr
        assert "[y/N]" not in done.stdout + done.stderr
        assert not mark.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_of_a_run_ends_with_one_message(name: str, run_copy: Path) -> None:
    from plum.errors import PlumError
    from plum.serving.recommend import Recommender, Request

    file = run_copy / "finetune/model" / name
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(PlumError) as refused:
        Recommender.open(run_copy).for_history([], Request(k=2))
    assert name in str(refused.value)
    assert re.search(r"plum (finetune|run)\b", str(refused.value))
