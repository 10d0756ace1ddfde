"""A pipeline so small that all of it runs in seconds, and ways to run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from plum.config.file import load_config
from plum.config.run import RunConfig

SYNTHETIC = {"kind": "synthetic", "n_users": 150, "n_items": 60, "seed": 0}
STAGES = ("data", "features", "tokenize", "cpt", "finetune", "dense", "eval")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def pipeline(workdir: Path, source: Mapping[str, Any] = SYNTHETIC, **split: Any) -> dict[str, Any]:
    """The configuration, as a YAML file holds it."""
    return {
        "title": "tiny",
        "workdir": str(workdir),
        "data": {"source": dict(source), "split": split},
        "features": {"modalities": {"text": {"dimensions": 16}, "topics": {"encoder": "topics"}}},
        "tokenize": {
            "max_steps": 3,
            "batch_size": 32,
            "codebook_sizes": [16, 8],
            "latent_dim": 32,
            "hidden_dim": 16,
            "min_usage": 0.01,
            "max_reconstruction_ratio": None,
        },
        "cpt": {
            "epochs": 1,
            "context_length": 64,
            "scratch": {"hidden_size": 32, "layers": 1, "heads": 2, "intermediate_size": 64, "text_vocabulary": 400},
        },
        "finetune": {
            "epochs": 2,
            "batch_size": 32,
            "max_history": 10,
            "validation_users": 20,
            "validation_beams": 10,
        },
        "eval": {
            "cutoffs": [1, 5, 10],
            "beams": 10,
            "resamples": 200,
            "dense": {"epochs": 2, "hidden_size": 16, "layers": 1, "heads": 2},
        },
    }


def write(path: Path, values: Mapping[str, Any]) -> Path:
    """Write a configuration file."""
    path.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    """The command line of ``plum ...`` in this Python."""
    return [sys.executable, "-m", "plum", *map(str, arguments)]


def plum(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``plum ...`` as a user does, in a process of its own."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | ENVIRONMENT | environment,
        check=False,
    )


def config_of(workdir: Path, *settings: str) -> RunConfig:
    """The configuration that a run folder records, with settings of one's own, for that folder wherever it lies."""
    return load_config(workdir / "config.yaml", settings, workdir=workdir)


def times(workdir: Path) -> dict[str, int]:
    """When each file of the stages' folders was written, in nanoseconds."""
    files = [path for stage in STAGES for path in (workdir / stage).rglob("*") if path.is_file()]
    return {str(path.relative_to(workdir)): path.stat().st_mtime_ns for path in files}


def rerun(before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
    """Stages of which every file was written anew; fails if only some of a stage's were."""
    changed = {name for name in after if before.get(name) != after[name]}
    stages = {name.split("/")[0] for name in changed}
    assert changed == {name for name in after if name.split("/")[0] in stages}
    return stages
