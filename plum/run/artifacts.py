"""The files of a run: their names, and how tables and JSON are read and written.

``plum.run.stage`` decides when a stage's folder is written and when it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plum.errors import PlumError
from plum.run.writing import WORKDIR, write_text, written

DATA, FEATURES, TOKENIZE, CPT, FINETUNE, DENSE, LEM, EVAL = (
    "data",
    "features",
    "tokenize",
    "cpt",
    "finetune",
    "dense",
    "lem",
    "eval",
)
COMMANDS = {
    DATA: "plum data prepare",
    FEATURES: "plum tokenize",
    TOKENIZE: "plum tokenize",
    CPT: "plum cpt",
    FINETUNE: "plum finetune",
    DENSE: "plum eval",
    LEM: "plum eval",
    EVAL: "plum eval",
}
DENSE_FILES = ("dense/dense.safetensors", "dense/metrics.json")
DENSE_TRIALS = "dense/trials.json"
TRIALS = "trials.json"
TRIAL_WEIGHTS = "trials/{number}.safetensors"
"""In a baseline's folder: the trials of its search, and with ``keep_trials`` the weights of each."""
INTERACTIONS = "data/interactions.parquet"
ITEMS = "data/items.parquet"
USERS = "data/users.parquet"
SPLIT = "data/split.parquet"
TRUTH = "data/truth.safetensors"
DATA_SUMMARY = "data/summary.json"
FEATURES_SUMMARY = "features/features.json"
PRESENT = "features/present.parquet"
ENCODERS = "features/encoders"
SEMANTIC_IDS = "tokenize/semantic_ids.parquet"
SID_INDEX = "tokenize/index.safetensors"
QUALITY = "tokenize/quality.json"
RQVAE = "tokenize/rqvae.safetensors"
TOKENIZER = "tokenize/tokenizer.json"
CPT_MODEL = "cpt/model"
CPT_METRICS = "cpt/metrics.json"
FINETUNE_MODEL = "finetune/model"
FINETUNE_METRICS = "finetune/metrics.json"
DENSE_MODEL = "dense/dense.safetensors"
LEM_MODEL = "lem/lem.safetensors"
EVAL_METRICS = "eval/metrics.json"
RECOMMENDATIONS = "eval/recommendations.parquet"
EXAMPLES = "eval/examples.json"
REPORT = "eval/report.html"

ASSIGNED = "assigned"
"""The folder of `plum tokenize --assign`, beside those of the stages."""

CONFIG_HEADER = "# Written by plum: the whole configuration of this run, defaults and settings included"
MANIFEST = "manifest.json"
"""In the folder of every stage."""
CHECKPOINT = "checkpoint"
FINGERPRINT = "fingerprint.json"
SCAFFOLD = (CHECKPOINT, FINGERPRINT)
"""In the hidden folder, beside the stage's files; removed when the stage is complete."""


def write_json(path: Path, value: Any, elsewhere: str = WORKDIR) -> None:
    """Write JSON whole or not at all; NaN becomes null. ``elsewhere``: the option that names another place."""
    write_text(path, json.dumps(_finite(value), indent=2, sort_keys=False, default=str) + "\n", elsewhere)


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        PlumError: if it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, "run the stage that writes it") from None
    except ValueError as error:
        raise PlumError(f"{path} is not JSON", str(error), "run the stage that writes it again with --force") from None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def config_path(workdir: Path) -> Path:
    """Path of a run's whole configuration, including defaults and settings."""
    return workdir / "config.yaml"


def write_config(workdir: Path, values: Mapping[str, Any]) -> None:
    """Record the configuration of a run, as YAML for ``plum run --config``.

    Raises:
        PlumError: if a file of that name exists that plum did not write.
    """
    import yaml

    there = config_path(workdir)
    if there.exists() and not there.read_bytes().startswith(CONFIG_HEADER.encode()):
        raise PlumError(
            f"{there} exists, but plum did not write it",
            None,
            "rename it, or give another --workdir",
        )
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    write_text(there, CONFIG_HEADER + "\n" + text)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet file of a run.

    Raises:
        PlumError: if it is missing, damaged or lacks a column.
    """
    import pyarrow

    try:
        return pd.read_parquet(path, columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, "run the stage that writes it") from None
    except (pyarrow.ArrowInvalid, OSError, ValueError) as error:
        raise PlumError(f"{path} can't be read", str(error), "run the stage that writes it with --force") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet file, zstd-compressed, without an index; whole or not at all."""
    with written(path) as partial:
        table.to_parquet(partial, index=False, compression="zstd")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a training log, one JSON object per line; empty if a stage has none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
