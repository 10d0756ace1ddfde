"""Files of a Hugging Face folder, looked at before anything of it is loaded or run.

Such a folder may come from anywhere: it is data, never code. Nothing here imports torch or transformers.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from plum.errors import PlumError

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
CONFIG = "config.json"
JSON_FILES = (
    *(CONFIG, "generation_config.json", SHARDS),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
)
PICKLES = ("pytorch_model*.bin", "model*.bin", "*.pth", "*.pt", "*.pkl", "*.ckpt")
LARGEST_JSON = 256 << 20  # bytes: a tokenizer's file of a large vocabulary has some 30 MB
LARGEST_NUMBER = 1 << 40  # in a configuration: no size and no token id is as large


@dataclass(frozen=True)
class Folder:
    """A folder of a model, and how to speak of it.

    Attributes:
        path: of the folder.
        what: opens each message.
        fix: ends each message that has no better advice.
    """

    path: Path
    what: str
    fix: str

    def refusal(self, found: str, fix: str | None = None) -> PlumError:
        """The error for what was found."""
        return PlumError(self.what, found, fix or self.fix)

    def file(self, name: str) -> Path:
        """A file that must be there.

        Raises:
            PlumError: if it is not, or is no plain file.
        """
        path = self.path / name
        if not path.is_file():
            raise self.refusal(f"{name} is {'not a plain file' if path.exists() else 'missing'}")
        return path

    def reason(self, name: str, error: BaseException) -> PlumError:
        """The error for what a library raised at a file."""
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        said = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
        return self.refusal(f"{name} can't be read: {said[:300]}")


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, by the file's header.

    Attributes:
        file: its name.
        shape: its sizes.
        dtype: as safetensors calls it, such as ``F32``.
    """

    file: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def numbers(self) -> int:
        """How many it has."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it can be a trained weight."""
        return self.dtype in {"F64", "F32", "F16", "BF16"}


def read_object(folder: Folder, name: str) -> dict[str, Any]:
    """A JSON object of the folder.

    Raises:
        PlumError: if the file is missing, too large, no JSON, or another kind of JSON.
    """
    path = folder.file(name)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise folder.refusal(f"{name} has {path.stat().st_size:,} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise folder.reason(name, error) from None
    if not isinstance(value, dict):
        raise folder.refusal(f"{name} holds a {type(value).__name__}, not a JSON object")
    return value


def check_json(folder: Folder) -> None:
    """Make sure that all of the folder's JSON files that are read later can be.

    Raises:
        PlumError: naming the first that can't.
    """
    for name in JSON_FILES:
        if (folder.path / name).exists():
            read_object(folder, name)


def check_numbers(folder: Folder, name: str, n_tensors: int) -> None:
    """Refuse sizes in a configuration that would take for ever or all memory before they turn out to be wrong.

    Args:
        folder: of the model.
        name: of the configuration's file.
        n_tensors: in its weights; each layer has at least one.

    Raises:
        PlumError: naming the key.
    """
    for key, number in _numbers(read_object(folder, name)):
        if abs(number) > LARGEST_NUMBER:
            raise folder.refusal(f"{name}: {key} is {number:,}")
        if key.endswith(("layers", "n_layer")) and number > max(n_tensors, 64):
            raise folder.refusal(f"{name}: {key} is {number:,}, but the weights are {n_tensors:,} tensors")
        if ("num_" in key or key.startswith("n_")) and key != "n_positions" and number > 1 << 20:
            raise folder.refusal(f"{name}: {key} is {number:,}")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """All integers in a JSON value, with the nearest key above each. It is as deep as the parser allowed."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, key)
    elif isinstance(value, float) and value.is_integer():
        yield key, int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value


def own_code(folder: Folder) -> str | None:
    """Where the folder asks for code of its own, or for files elsewhere; None if nowhere."""
    for name in (CONFIG, "tokenizer_config.json", "modules.json"):
        path = folder.path / name
        if not path.is_file():
            continue
        if name == "modules.json":
            modules = _modules(folder)
            foreign = [module for module in modules if not str(module.get("type")).startswith("sentence_transformers.")]
            if foreign:
                return f"{name} names the class {foreign[0].get('type')!r}"
            continue
        settings = read_object(folder, name)
        if "auto_map" in settings:
            return f"auto_map in {name}"
        for key in ("attn_implementation", "_attn_implementation", "experts_implementation", "transformers_weights"):
            if any(mark in str(settings.get(key)) for mark in "/@:|."):
                return f"{key} in {name}"
    return None


def _modules(folder: Folder) -> list[dict[str, Any]]:
    """The entries of a sentence encoder's ``modules.json``."""
    try:
        value = json.loads((folder.path / "modules.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise folder.reason("modules.json", error) from None
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise folder.refusal("modules.json is no list of modules")
    return value


def weight_files(folder: Folder) -> list[str]:
    """Names of the files that hold the weights: one, or the shards of an index.

    Raises:
        PlumError: if there are none, or the index names files that are missing or elsewhere.
    """
    if (folder.path / WEIGHTS).exists():
        return [folder.file(WEIGHTS).name]
    if not (folder.path / SHARDS).exists():
        pickles = sorted({path.name for pattern in PICKLES for path in folder.path.glob(pattern)})
        if pickles:
            raise folder.refusal(
                f"{pickles[0]} is a pickle, which can run any code when it is read; {WEIGHTS} is missing",
                "save the model as safetensors, or get a folder that has them",
            )
        raise folder.refusal(f"{WEIGHTS} is missing")
    names = read_object(folder, SHARDS).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise folder.refusal(f"{SHARDS} has no weight_map of tensors to files")
    shards = sorted(set(names.values()))
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise folder.refusal(f"{SHARDS} names {shard[:100]!r}, which is no safetensors file of this folder")
        folder.file(shard)
    return shards


def stored_tensors(folder: Folder, files: Iterable[str]) -> dict[str, Stored]:
    """All tensors by name, from the headers of safetensors files; their numbers are not read.

    Raises:
        PlumError: if a file is damaged or cut short, or two hold the same tensor.
    """
    found: dict[str, Stored] = {}
    for name in files:
        try:
            with safe_open(folder.file(name), framework="numpy") as file:
                for key in file.keys():  # noqa: SIM118  (not a dict)
                    if key in found:
                        raise folder.refusal(f"{name} and {found[key].file} both hold {key}")
                    part = file.get_slice(key)
                    found[key] = Stored(name, tuple(part.get_shape()), str(part.get_dtype()))
        except (SafetensorError, OSError, ValueError, OverflowError) as error:
            raise folder.reason(name, error) from None
    if not found:
        raise folder.refusal("the weights are empty: no tensor")
    return found


def package_folders(package: str) -> list[Path]:
    """The folders of an installed Python package, which is not imported; none if it is not installed."""
    if not package.isidentifier():  # of a name with dots, what is before them would be imported
        return []
    spec = importlib.util.find_spec(package)
    return [Path(root) for root in (spec and spec.submodule_search_locations) or ()]
