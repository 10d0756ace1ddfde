"""What a configuration names outside the run folder, checked before the first stage works.

A training takes minutes to days; a misspelt path in a later stage's section must not wait for its end.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from plum.config.corpus import ReplayDocuments
from plum.config.data import AmazonReviewsSource, LogsSource, SyntheticSource
from plum.config.language_model import SCRATCH
from plum.config.lora import LoraConfig
from plum.config.run import RunConfig
from plum.corpus.replay import problem_of as problem_of_text
from plum.data.files import found_at, is_file, is_folder
from plum.data.parts import is_pattern
from plum.errors import PlumError
from plum.features.sentences import check_encoder, packaged_model
from plum.model_files import PICKLES, Folder
from plum.run import artifacts
from plum.run.manifest import read_manifest
from plum.run.place import Place
from plum.stages import capacity, inputs, prepare

WEIGHTS = ("model*.safetensors", *PICKLES)
TOKENIZERS = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "tekken.json", "*.tiktoken"),
)
"""Files of which a Hugging Face folder holds at least one."""


def check_named(config: RunConfig, stages: Collection[str], force: bool = False) -> None:
    """Make sure that what the stages to come will read exists, that they can write, and that the machine can hold them.

    Args:
        config: of the run.
        stages: that a command is about to run. A stage that is up to date is left out, since it may outlive what it
            was made from; one that comes after a stage to be made again is not.
        force: all of them are made again.

    Raises:
        PlumError: naming everything that is missing or too large; or a folder that can't be written.
    """
    missing: list[str] = []
    again = force
    for stage in artifacts.COMMANDS:
        if stage in stages and _is_wanted(config, stage):
            again = again or not _is_made(config, stage)
            if again and (problem := Place(config.workdir, stage).problem()):
                raise problem
            missing += _CHECKS[stage](config) if again and stage in _CHECKS else []
    if missing:
        number = "one thing" if len(missing) == 1 else f"{len(missing)} things"
        raise PlumError(
            f"the configuration names {number} that can't be used",
            "\n    " + "\n".join(missing).replace("\n", "\n    "),
            "correct these keys; no stage has started",
        )


def _is_wanted(config: RunConfig, stage: str) -> bool:
    if stage == artifacts.LEM:
        return artifacts.LEM in config.eval.baselines
    used = artifacts.DENSE in config.eval.baselines or config.codes_of_dense or config.taught_by_dense
    return stage != artifacts.DENSE or bool(used)


def _is_made(config: RunConfig, stage: str) -> bool:
    """Whether the folder of a stage is there and was made with the present settings."""
    folder = config.workdir / stage
    if not (folder / artifacts.MANIFEST).exists():
        return False
    try:
        return stage != artifacts.EVAL and read_manifest(folder).config == inputs.recorded(config, stage)
    except PlumError:  # a damaged manifest: the stage is going to be run again
        return False


def _of_data(config: RunConfig) -> Iterator[str]:
    source = config.data.source
    if isinstance(source, LogsSource):
        source = prepare.located(source)
        named: dict[str, Path | None] = {"items": source.items, "users": source.users}
        if is_folder(source.interactions) or is_pattern(source.interactions):
            try:
                prepare.parts_of(source)
            except PlumError as error:
                yield f"data.source.interactions: {error}"
        else:
            named["interactions"] = source.interactions
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
        if path is not None and not is_file(path):
            yield f"data.source.{key}: {path} ({found_at(path)})"


def _of_features(config: RunConfig) -> Iterator[str]:
    for name, modality in config.features.modalities.items():
        where = f"features.modalities.{name}"
        if modality.encoder == "file" and modality.path is not None and not is_file(modality.path):
            yield f"{where}.path: {modality.path} ({found_at(modality.path)})"
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
    elif (folder := Path(os.path.expanduser(model))).is_dir():  # noqa: PTH111
        try:
            check_encoder(Folder(folder, "it can't be used", "name another"))
        except PlumError as error:
            yield f"{where}: {model} ({error.found})"
    elif _is_path(model):
        yield f"{where}: {model} (no such folder)"


def _of_tokenize(config: RunConfig) -> Iterator[str]:
    for key in ("warm_start", "compare_with"):
        run: Path | None = getattr(config.tokenize, key)
        if run is not None and not (run / artifacts.TOKENIZE / artifacts.MANIFEST).exists():
            yield f"tokenize.{key}: {run} (no run with Semantic IDs there)"
    yield from capacity.of_tokenize(config, capacity.machine_bytes())


def _of_lora(where: str, settings: LoraConfig | None) -> Iterator[str]:
    if settings and importlib.util.find_spec("peft") is None:
        yield f"{where}.lora: needs peft, which is not installed (pip install 'plum-recommender[lora]')"


def _of_finetune(config: RunConfig) -> Iterator[str]:
    yield from _of_lora("finetune", config.finetune.lora)
    yield from capacity.of_finetune(config)


def _of_cpt(config: RunConfig) -> Iterator[str]:
    base = config.cpt.base
    yield from _of_lora("cpt", config.cpt.lora)
    yield from capacity.of_cpt(config, capacity.machine_bytes())
    for name, section in config.cpt.corpus.documents.items():
        problems = map(problem_of_text, section.files) if isinstance(section, ReplayDocuments) else ()
        yield from (f"cpt.corpus.{name}.files: {problem}" for problem in problems if problem)
    text = config.cpt.measure.text
    if text is not None and (problem := problem_of_text(text)):
        yield f"cpt.measure.text: {problem}"
    if base == SCRATCH:
        if config.cpt.lora:
            yield "cpt.lora: it adapts a pre-trained model; name one as cpt.base, or leave lora out"
        return
    folder = Path(base)
    if base.startswith("package:") or base.endswith(".gguf"):
        if (problem := _no_causal_model(base)) is not None:
            yield f"cpt.base: {base} ({problem})"
    elif folder.is_dir():
        lacks = [
            what
            for what, patterns in (("config.json", ("config.json",)), ("weights", WEIGHTS), ("tokenizer", TOKENIZERS))
            if not any(any(folder.glob(pattern)) for pattern in patterns)
        ]
        if lacks:
            yield f"cpt.base: {base} is no Hugging Face model folder (it lacks: {', '.join(lacks)})"
        elif (problem := _no_causal_model(base)) is not None:
            yield f"cpt.base: {base} holds no decoder-only language model that can be used ({problem})"
    elif _is_path(base):
        yield f"cpt.base: {base} (no such folder)"
    elif (problem := _no_causal_model(base)) is not None:
        yield f"cpt.base: {base} is neither a folder here nor a language model on the Hugging Face Hub ({problem})"


def _is_path(name: str) -> bool:
    """Whether a name can only be a path: a hub id is NAME or OWNER/NAME."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name


def _no_causal_model(base: str) -> str | None:
    """Why a folder or hub id is no causal language model that plum can use; None if it is one."""
    from plum.lm.bases import problem_of  # here: it loads torch, which most configurations don't need yet

    return problem_of(base)


_CHECKS: dict[str, Callable[[RunConfig], Iterator[str]]] = {
    artifacts.DATA: _of_data,
    artifacts.FEATURES: _of_features,
    artifacts.TOKENIZE: _of_tokenize,
    artifacts.CPT: _of_cpt,
    artifacts.FINETUNE: _of_finetune,
    artifacts.DENSE: lambda config: capacity.of_dense("dense", config.eval.dense, capacity.machine_bytes()),
    artifacts.LEM: lambda config: capacity.of_dense("lem", config.eval.lem, capacity.machine_bytes()),
}
