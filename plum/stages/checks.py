"""What a configuration names outside the run folder, checked before the first stage works.

A training takes minutes to days; a misspelt path in a later stage's section must not wait for its end.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from plum.config.data import AmazonReviewsSource, LogsSource, SyntheticSource
from plum.config.models import SCRATCH
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.features.sentences import packaged_model
from plum.run import artifacts
from plum.run.stage import read_manifest
from plum.stages import capacity, inputs, prepare

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "tekken.json", "*.tiktoken"),
)
"""Files of which a Hugging Face folder holds at least one."""


def check_named(config: RunConfig, stages: Collection[str], force: bool = False) -> None:
    """Make sure that what the stages to come will read exists, and that the machine can hold what they train.

    Args:
        config: of the run.
        stages: that a command is about to run. A stage that is up to date is left out, since it may outlive what it
            was made from; one that comes after a stage to be made again is not.
        force: all of them are made again.

    Raises:
        PlumError: naming everything that is missing or too large.
    """
    missing: list[str] = []
    again = force
    for stage, find in _CHECKS.items():
        if stage in stages:
            again = again or not _is_made(config, stage)
            missing += find(config) if again else []
    if missing:
        number = "one thing" if len(missing) == 1 else f"{len(missing)} things"
        raise PlumError(
            f"the configuration names {number} that can't be used",
            "\n    " + "\n".join(missing).replace("\n", "\n    "),
            "correct these keys; no stage has started",
        )


def _is_made(config: RunConfig, stage: str) -> bool:
    """Whether the folder of a stage is there and was made with the present settings."""
    folder = config.workdir / stage
    if not (folder / artifacts.MANIFEST).exists():
        return False
    try:
        return read_manifest(folder).config == inputs.recorded(config, stage)
    except PlumError:  # a damaged manifest: the stage is going to be run again
        return False


def _of_data(config: RunConfig) -> Iterator[str]:
    source = config.data.source
    if isinstance(source, LogsSource):
        named = {"interactions": source.interactions, "items": source.items, "users": source.users}
    elif isinstance(source, AmazonReviewsSource):
        named = {"reviews": source.reviews, "metadata": source.metadata}
    elif isinstance(source, SyntheticSource):
        return
    else:
        try:
            prepare.source_files(config.data)
        except PlumError as error:
            yield f"data.source: {error}"
        return
    for key, path in named.items():
        if path is not None and not path.is_file():
            found = "a folder" if path.is_dir() else "no such file"
            yield f"data.source.{key}: {path} ({found})"


def _of_features(config: RunConfig) -> Iterator[str]:
    for name, modality in config.features.modalities.items():
        where = f"features.modalities.{name}"
        if modality.encoder == "file" and modality.path is not None and not modality.path.is_file():
            yield f"{where}.path: {modality.path} (no such file)"
        if modality.encoder == "sentence-transformers" and modality.model is not None:
            yield from _of_sentence_encoder(f"{where}.model", modality.model)


def _of_sentence_encoder(where: str, model: str) -> Iterator[str]:
    if importlib.util.find_spec("sentence_transformers") is None:
        yield f"{where}: needs sentence-transformers, which is not installed (pip install 'plum-recommender[text]')"
    elif model.startswith("package:"):
        try:
            packaged_model(model.removeprefix("package:"))
        except PlumError as error:
            yield f"{where}: {error}"
    elif _is_path(model) and not Path(model).expanduser().is_dir():
        yield f"{where}: {model} (no such folder)"


def _of_tokenize(config: RunConfig) -> Iterator[str]:
    for key in ("warm_start", "compare_with"):
        run: Path | None = getattr(config.tokenize, key)
        if run is not None and not (run / artifacts.TOKENIZE / artifacts.MANIFEST).exists():
            yield f"tokenize.{key}: {run} (no run with Semantic IDs there)"
    yield from capacity.of_tokenize(config, capacity.machine_bytes())


def _of_cpt(config: RunConfig) -> Iterator[str]:
    base = config.cpt.base
    yield from capacity.of_cpt(config, capacity.machine_bytes())
    if base == SCRATCH:
        return
    folder = Path(base)
    if folder.is_dir():
        lacks = [
            what
            for what, patterns in (("config.json", ("config.json",)), ("weights", WEIGHTS), ("tokenizer", TOKENIZERS))
            if not any(any(folder.glob(pattern)) for pattern in patterns)
        ]
        if lacks:
            yield f"cpt.base: {base} is no Hugging Face model folder (it lacks: {', '.join(lacks)})"
        elif (problem := _no_causal_model(base)) is not None:
            yield f"cpt.base: {base} holds no decoder-only language model ({problem})"
    elif _is_path(base):
        yield f"cpt.base: {base} (no such folder)"
    elif (problem := _no_causal_model(base)) is not None:
        yield f"cpt.base: {base} is neither a folder here nor a language model on the Hugging Face Hub ({problem})"


def _is_path(name: str) -> bool:
    """Whether a name can only be a path: a hub id is NAME or OWNER/NAME."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name


def _no_causal_model(base: str) -> str | None:
    """Why a folder or hub id is no causal language model, by its configuration alone; None if it is one."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    hub = logging.getLogger("huggingface_hub")  # which prints each attempt to connect
    before, hub.level = hub.level, logging.CRITICAL
    try:
        found = AutoConfig.from_pretrained(base)
    except Exception as error:  # what it raises differs by version, network and model
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    finally:
        hub.level = before
    if getattr(found, "is_encoder_decoder", False) or type(found) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"model type {found.model_type}"
    return None


_CHECKS: dict[str, Callable[[RunConfig], Iterator[str]]] = {
    artifacts.DATA: _of_data,
    artifacts.FEATURES: _of_features,
    artifacts.TOKENIZE: _of_tokenize,
    artifacts.CPT: _of_cpt,
    artifacts.FINETUNE: capacity.of_finetune,
    artifacts.DENSE: lambda config: capacity.of_dense("dense", config.eval.dense, capacity.machine_bytes()),
    artifacts.LEM: lambda config: capacity.of_dense("lem", config.eval.lem, capacity.machine_bytes()),
}
