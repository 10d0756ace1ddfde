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
from plum.run import configuration, typed, verified
from plum.run.folders import ASSIGNED as ASSIGNED
from plum.run.folders import COMMANDS as COMMANDS
from plum.run.folders import CPT as CPT
from plum.run.folders import DATA as DATA
from plum.run.folders import DENSE as DENSE
from plum.run.folders import EVAL as EVAL
from plum.run.folders import FEATURES as FEATURES
from plum.run.folders import FINETUNE as FINETUNE
from plum.run.folders import LEM as LEM
from plum.run.folders import MANIFEST as MANIFEST
from plum.run.folders import TOKENIZE as TOKENIZE
from plum.run.folders import owner_of, remedy
from plum.run.writing import WORKDIR, write_text, written

DENSE_FILES = ("dense/dense.safetensors", "dense/metrics.json")
DENSE_TRIALS = "dense/trials.json"
TRIALS = "trials.json"
TRIAL_WEIGHTS = "trials/{number}.safetensors"
"""In a baseline's folder: the trials of its search, and with ``keep_trials`` the weights of each."""
INTERACTIONS = "data/interactions.parquet"
ITEMS = "data/items.parquet"
USERS = "data/users.parquet"
SPLIT = "data/split.parquet"
KNOWN = "data/known.parquet"
"""Which items are known before validation begins (``item_id``, ``known``); of the temporal protocol only."""
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
MODEL_EXTRAS = "plum.json"
"""In a model's folder: whose Semantic IDs it knows, and the bins of its numbers."""
ADAPTER = "adapter"
"""In the folder of a language model that was trained with LoRA."""
CPT_METRICS = "cpt/metrics.json"
CPT_SAMPLES = "cpt/samples.md"
FINETUNE_MODEL = "finetune/model"
FINETUNE_METRICS = "finetune/metrics.json"
DENSE_MODEL = "dense/dense.safetensors"
LEM_MODEL = "lem/lem.safetensors"
EVAL_METRICS = "eval/metrics.json"
RECOMMENDATIONS = "eval/recommendations.parquet"
EXAMPLES = "eval/examples.json"
REPORT = "eval/report.html"

LogEntry = dict[str, float | int | bool | str | None]
"""A line of a training log."""

CHECKPOINT = "checkpoint"
FINGERPRINT = "fingerprint.json"
SCAFFOLD = (CHECKPOINT, FINGERPRINT)
"""In the hidden folder, beside the stage's files; removed when the stage is complete."""


def write_json(path: Path, value: Any, elsewhere: str = WORKDIR) -> None:
    """Write JSON whole or not at all; NaN becomes null. ``elsewhere``: the option that names another place."""
    write_text(path, json.dumps(_finite(value), indent=2, sort_keys=False, default=str) + "\n", elsewhere)


def read_json(path: Path, shape: Any = None) -> Any:
    """Read a JSON file of a run.

    Args:
        path: the file; one of a complete stage is read only if it is as the stage wrote it.
        shape: a pydantic model or type that the value must fit; None for any value.

    Raises:
        PlumError: if it is missing, damaged or of another shape.
    """
    fix = made_again_by(path)
    value = typed.parse(_bytes_of(path), str(path), fix)
    return value if shape is None else typed.check(value, shape, str(path), fix)


def _bytes_of(path: Path) -> bytes:
    try:
        return verified.read_bytes(path)
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, made_again_by(path)) from None
    except OSError as error:
        raise PlumError(f"{path} can't be read", str(error), made_again_by(path)) from None


def made_again_by(path: Path) -> str:
    """What makes a file again that is as it was written, for a message."""
    folder = owner_of(path)
    return "run the stage that writes it again with --force" if folder is None else remedy(folder, force=True)


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


def recorded_config(workdir: Path) -> Path | None:
    """Path of a run's configuration; None if there is none.

    Raises:
        PlumError: if something else has its name: a pipe would be waited for.
    """
    path = config_path(workdir)
    if path.exists() and not path.is_file():
        raise PlumError(f"{path} is no plain file", None, "rename it, or give another --workdir")
    return path if path.exists() else None


def write_config(workdir: Path, values: Mapping[str, Any]) -> None:
    """Record the configuration of a run, as YAML for ``plum run --config``.

    Raises:
        PlumError: if a file of that name exists that plum did not write.
    """
    import yaml

    recorded, there = recorded_config(workdir), config_path(workdir)
    if recorded is not None and not configuration.is_plums(recorded.read_bytes()):
        raise PlumError(
            f"{there} exists, but plum did not write it",
            None,
            "rename it, or give another --workdir",
        )
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    write_text(there, configuration.sealed(text))


def read_table(path: Path, columns: Sequence[str] | None = None, needed: Sequence[str] = ()) -> pd.DataFrame:
    """Read a Parquet file of a run.

    Args:
        path: the file; one of a complete stage is read only if it is as the stage wrote it.
        columns: to read; None for all.
        needed: columns that must be among them.

    Raises:
        PlumError: if it is missing, damaged or lacks a column.
    """
    import pyarrow

    fix = made_again_by(path)
    if not path.is_file():
        raise PlumError(f"{path} is missing", None, fix)
    verified.verify(path)
    try:
        table = pd.read_parquet(path, columns=list(columns) if columns else None)
    except FileNotFoundError:
        raise PlumError(f"{path} is missing", None, fix) from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise PlumError(f"{path} can't be read", str(error), fix) from None
    if lacking := [name for name in (*(columns or ()), *needed) if name not in table]:
        there = ", ".join(map(str, table.columns)) or "none"
        raise PlumError(f"{path} lacks {', '.join(lacking)}", f"columns: {there}", fix)
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet file, zstd-compressed, without an index; whole or not at all."""
    with written(path) as partial:
        table.to_parquet(partial, index=False, compression="zstd")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a training log, one JSON object per line; empty if a stage has none.

    Raises:
        PlumError: if it is damaged.
    """
    if not path.exists():
        return []
    fix = made_again_by(path)
    try:
        lines = _bytes_of(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise PlumError(f"{path} is not text", str(error), fix) from None
    entries = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        entries.append(typed.check(typed.parse(line, where, fix), LogEntry, where, fix))
    return entries
