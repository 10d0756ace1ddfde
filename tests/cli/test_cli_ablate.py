"""`plum ablate` as a user meets it: mistakes before anything is run, and a kill that costs little."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import yaml

Cli = Callable[..., tuple[int, str, str]]


def file_of(home: Path, **values: Any) -> Path:
    """An ablation of a tiny pipeline with two variants and two seeds, but for the values given."""
    tiny_run.write(home / "tiny.yaml", tiny_run.pipeline(home / "unused"))
    there: dict[str, Any] = {
        "title": "masking",
        "workdir": str(home / "out"),
        "set": ["eval.retrievers=[plum]", "finetune.epochs=1"],
        "bases": {"tiny": {"config": "tiny.yaml", "seeds": [0, 1]}},
        "variants": {"with": [], "without": ["tokenize.progressive_masking=false"]},
    }
    path = home / "ablation.yaml"
    path.write_text(yaml.safe_dump(there | values, sort_keys=False))
    return path


def plum(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``plum ...`` to its end; several runs take their time on a busy machine."""
    environment = os.environ | tiny_run.ENVIRONMENT
    return subprocess.run(
        tiny_run.command(*arguments), capture_output=True, text=True, timeout=900, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("values", "arguments", "told"),
    [
        ({"varients": {}}, [], ["1 mistake in", "varients: unknown key; did you mean variants?"]),
        ({"variants": {"a": ["cpt.epoch=1"], "b": ["cpt.epochs=0"]}}, [], ["2 mistakes", "[tiny/a]", "[tiny/b]"]),
        ({}, ["--set", "tokenise.epochs=1"], ["did you mean tokenize?", "[tiny]"]),
        ({}, ["--only", "witout"], ["--only witout", "did you mean without?"]),
        ({}, ["--seeds", "0;1"], ["--seeds needs whole numbers", "0;1"]),
        ({}, ["--seeds", "0,0"], ["--seeds needs whole numbers, each once"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_before_anything_is_run(
    cli: Cli, tmp_path: Path, values: dict[str, Any], arguments: list[str], told: list[str]
) -> None:
    code, out, err = cli("ablate", "--config", file_of(tmp_path, **values), *arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for text in told:
        assert text in err
    assert not (tmp_path / "out").exists()


def test_the_file_must_be_there(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("ablate", "--config", tmp_path / "gone.yaml")
    assert (code, "no configuration at" in err, "Traceback" in err) == (2, True, False)


@pytest.mark.slow
def test_a_killed_ablation_goes_on_where_it_was(tmp_path: Path) -> None:
    path, out = file_of(tmp_path), tmp_path / "out/tiny"
    first, second = out / "with/seed-0", out / "without/seed-0"
    # A session of its own, so that nothing but this process is killed: what it started must end by itself.
    started = subprocess.Popen(
        tiny_run.command("ablate", "--config", path), env=os.environ | tiny_run.ENVIRONMENT, start_new_session=True
    )
    patience = time.monotonic() + 600
    while not (second / "data/manifest.json").exists() and time.monotonic() < patience:
        time.sleep(0.02)
    started.kill()
    started.wait()
    assert (first / "finished.json").exists()
    assert not (second / "eval/manifest.json").exists()
    before = tiny_run.times(first)
    done = plum("ablate", "--config", path, "--jobs", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert "3 of 4 runs to do" in done.stderr
    assert tiny_run.times(first) == before
    variants = json.loads(done.stdout)["bases"][0]["variants"]
    assert [(one["name"], one["seeds"], one["failed"]) for one in variants] == [
        ("with", [0, 1], []),
        ("without", [0, 1], []),
    ]
    # The run that was killed is what `plum run` alone makes of it.
    settings = ["eval.retrievers=[plum]", "finetune.epochs=1", "tokenize.progressive_masking=false"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    alone = tmp_path / "alone"
    assert plum("run", "--config", tmp_path / "tiny.yaml", *arguments, "--workdir", alone).returncode == 0
    metrics = [json.loads((folder / "eval/metrics.json").read_text()) for folder in (alone, second)]
    assert metrics[0]["retrievers"]["plum"] == metrics[1]["retrievers"]["plum"]
    assert variants[1]["recall@10"]["seed_means"][0] == metrics[0]["retrievers"]["plum"]["recall@10"]


@pytest.mark.slow
def test_only_what_is_named_is_run_and_a_failure_is_an_exit_code(cli: Cli, tmp_path: Path) -> None:
    collapse = ["tokenize.min_usage=1.0", "tokenize.codebook_sizes=[50, 50]"]
    path = file_of(tmp_path, variants={"with": [], "broken": collapse})
    code, out, _ = cli("ablate", "--config", path, "--only", "with", "--seeds", "1")
    assert code == 0
    assert "not run yet" in out
    assert [folder.name for folder in (tmp_path / "out/tiny").iterdir()] == ["with"]
    assert [folder.name for folder in (tmp_path / "out/tiny/with").iterdir()] == ["seed-1"]
    code, out, _ = cli("ablate", "--config", path, "--only", "broken", "--seeds", "1")
    assert code == 1
    assert "broken, seed 1 failed: codebooks collapsed" in out
    assert "0." in (tmp_path / "out/ablation.md").read_text()
