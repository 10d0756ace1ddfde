"""GGUF files -> plain Hugging Face folders, each file once.

A folder lies in the user's cache, not beside a run: one base serves many runs, and takes four bytes a parameter. It is
named by the file's SHA-256, so that a file that was changed is converted anew, and one that was moved is not. Weights
are float32, which holds every unpacked number exactly.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import io
import json
import logging
import mmap
import os
import struct
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plum.errors import PlumError
from plum.model_files import Folder
from plum.run.hashes import remembered_sha256
from plum.run.plain import open_plain
from plum.run.writing import make_folder, remove, sync_folder, sync_tree, write_errors, write_text

logger = logging.getLogger(__name__)

SUFFIX = ".gguf"
CACHE_HOME = "PLUM_CACHE_HOME"
"""Environment variable of the folder for what can be made again; else the system's usual place."""
FORMAT = 1
"""Of the converted folders; raised whenever the conversion changes."""
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_MOST = 1 << 20  # keys and tensors: no file has as many


@dataclass(frozen=True)
class Header:
    """What stands before the weights of a GGUF file (its specification, version 3).

    Attributes:
        values: numbers and texts by key; of an array, how many entries it has.
        tensors: type, numbers and offset by name.
        start: where the weights begin, from which the offsets count.
        size: of the file.
    """

    values: dict[str, Any]
    tensors: dict[str, tuple[int, int, int]]
    start: int
    size: int


def cache_folder() -> Path:
    """Where converted bases lie: ``bases/`` in the folder that ``PLUM_CACHE_HOME`` names, or in the user's cache."""
    if home := os.environ.get(CACHE_HOME):
        return Path(home) / "bases"
    import pooch

    return Path(pooch.os_cache("plum")) / "bases"


def check(path: Path, folder: Folder) -> None:
    """Look at a GGUF file before anything of it is loaded.

    Args:
        path: of the file.
        folder: how to speak of it.

    Raises:
        PlumError: if it is none, is cut short or part of a split one, if its architecture or the type of a weight is
            unknown, or if a package is missing that reads it.
    """
    missing = [name for name in ("gguf", "accelerate") if not _is_installed(name)]
    if missing:
        found = f"it is a GGUF file, and {' and '.join(missing)} is not installed"
        raise folder.refusal(found, "pip install 'plum-recommender[gguf]'")
    header = _read(path, folder)
    architecture = header.values.get("general.architecture")
    known = _architectures()
    if not isinstance(architecture, str) or _plain(architecture) not in map(_plain, known):
        found = f"its architecture {architecture!r} is none that transformers reads: {', '.join(sorted(known))}"
        raise folder.refusal(found, "choose a GGUF file of one of them, or the model's Hugging Face folder")
    parts = header.values.get("split.count", 0)
    if not isinstance(parts, int) or parts > 1:
        raise folder.refusal(f"it is one of {parts} parts", "join them with `llama-gguf-split --merge`")
    if not header.tensors:
        raise folder.refusal("it holds no weights (a vocabulary only)")
    _check_weights(header, folder)


def converted(path: Path, folder: Folder) -> Path:
    """The Hugging Face folder of a GGUF file; converted if that has not been done.

    Two processes that ask for the same one do the work once: the second waits.

    Args:
        path: of the file.
        folder: how to speak of it.

    Raises:
        PlumError: if it can't be converted; see also :func:`check`.
    """
    check(path, folder)
    cache = cache_folder()
    with write_errors(cache, elsewhere=CACHE_HOME):
        make_folder(cache)
        name = f"{path.stem}-{remembered_sha256(path, cache)[:16]}-{FORMAT}"
        with (cache / f".{name}.lock").open("a") as lock:
            with suppress(OSError):  # a file system without locks: at worst the work is done twice
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not (cache / name).exists():
                logger.info("converting %s to %s, once", path, cache / name)
                partial = cache / f".{name}.partial"
                remove(partial)
                _convert(path, folder, partial)
                sync_tree(partial)
                partial.replace(cache / name)
                sync_folder(cache)
    return cache / name


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # it can't be imported
        return False


def _read(path: Path, folder: Folder) -> Header:
    """The header of a file.

    Raises:
        PlumError: if the file can't be read, is no GGUF file of a known version, or ends too early.
    """
    try:
        with open_plain(path) as file:
            if file.read(4) != b"GGUF":
                raise folder.refusal("it does not begin with GGUF, so it is none")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(content, folder).header()
    except (OSError, ValueError) as error:
        raise folder.reason(path.name, error) from None
    except (struct.error, IndexError, OverflowError, RecursionError):  # a length that leads out of the file
        found = "it ends within its header: it is cut short or damaged"
        raise folder.refusal(found, "copy or download it again") from None


class _Reader:
    """Reads one value after the other."""

    def __init__(self, content: mmap.mmap, folder: Folder) -> None:
        self._content, self._folder, self._place = content, folder, 4

    def header(self) -> Header:
        version, n_tensors, n_keys = self._numbers("IQQ")
        if version not in (2, 3):
            raise self._folder.refusal(f"it is of GGUF version {version}; 2 and 3 are read")
        if max(n_tensors, n_keys) > _MOST:
            raise self._folder.refusal(f"its header tells of {n_tensors:,} tensors and {n_keys:,} keys: it is damaged")
        values = {}
        for _ in range(n_keys):
            key, (kind,) = self._text(), self._numbers("I")
            values[key] = self._value(kind)
        tensors = {}
        for _ in range(n_tensors):
            name, (n_sizes,) = self._text(), self._numbers("I")
            if n_sizes > 8:
                raise self._folder.refusal(f"the tensor {name!r} has {n_sizes} dimensions: it is damaged")
            numbers = 1
            for size in self._numbers("Q" * n_sizes):
                numbers *= size
            kind, offset = self._numbers("IQ")
            tensors[name] = kind, numbers, offset
        step = values.get("general.alignment", 32)
        if not isinstance(step, int) or step < 1:
            raise self._folder.refusal(f"general.alignment is {step!r}")
        return Header(values, tensors, -(-self._place // step) * step, len(self._content))

    def _numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._content, self._place)
        self._place += struct.calcsize(f"<{form}")
        return values

    def _text(self) -> str:
        (length,) = self._numbers("Q")
        if length > len(self._content) - self._place:
            raise struct.error
        self._place += length
        return self._content[self._place - length : self._place].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        """A value, of an array the number of its entries."""
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind])[0]
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            raise self._folder.refusal(f"its header holds a value of type {kind}, which is unknown")
        inner, n = self._numbers("IQ")
        if inner in _NUMBERS:
            self._place += n * struct.calcsize(f"<{_NUMBERS[inner]}")
            return n
        for _ in range(n):
            self._value(inner)
        return n


def _architectures() -> list[str]:
    """Architectures of GGUF files that transformers reads, as it names them."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = {str(name) for name in GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer", "tokenizer_config"}
    with suppress(ImportError):  # of transformers since 5.22
        from transformers.integrations.gguf import GGUF_ARCHS

        known |= set(GGUF_ARCHS)
    return sorted(known)


def _plain(architecture: str) -> str:
    """``qwen2_moe`` and ``qwen2moe`` are one."""
    return architecture.replace("_", "").replace("-", "")


def _check_weights(header: Header, folder: Folder) -> None:
    """Refuse weights of a type that can't be unpacked, and a file that ends before they do."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    for number in sorted({kind for kind, _, _ in header.tensors.values()}):
        named = next(name for name, (kind, _, _) in header.tensors.items() if kind == number)
        try:
            kind = GGMLQuantizationType(number)
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except (ValueError, NotImplementedError, KeyError):
            version = importlib.metadata.version("gguf")
            said = GGMLQuantizationType(number).name if number in list(GGMLQuantizationType) else number
            found = f"{named} is quantised as type {said}, which gguf {version} can't unpack"
            raise folder.refusal(found, "choose a file of another quantisation, such as Q8_0 or Q4_K_M") from None
    for name, (number, numbers, offset) in header.tensors.items():
        block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(number)]
        end = header.start + offset + numbers // block * n_bytes
        if end > header.size:
            found = f"it has {header.size:,} bytes, {name} ends at byte {end:,}: it is cut short"
            raise folder.refusal(found, "copy or download it again")


def _convert(path: Path, folder: Folder, to: Path) -> None:
    """Write the folder of a file that was looked at."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from plum.lm.folders import guarded, save_model_folder, unusable

    source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    try:
        config = guarded(lambda: AutoConfig.from_pretrained(path.parent, **source))
        if (reason := unusable(config)) is not None:
            raise folder.refusal(reason, "choose a model that docs/decoding.md lists as working")
        tokenizer = guarded(lambda: AutoTokenizer.from_pretrained(path.parent, **source))
        with redirect_stderr(io.StringIO()):  # its progress bar can't be turned off
            loaded: Any = guarded(
                lambda: AutoModelForCausalLM.from_pretrained(
                    path.parent, config=config, dtype=torch.float32, output_loading_info=True, **source
                )
            )
    except PlumError:
        raise
    except Exception as error:  # files of any origin may raise anything
        raise folder.reason(path.name, error) from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise folder.refusal(f"{len(missing)} of its weights are missing (they would be random), such as {missing[0]}")
    # transformers does not save a model that it has loaded from a GGUF file; the same weights in a new one are saved.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    make_folder(to)
    save_model_folder(plain, tokenizer, to, CACHE_HOME)
    facts = {"file": path.name, "bytes": path.stat().st_size, "parameters": plain.num_parameters()}
    write_text(to / "converted.json", json.dumps(facts, indent=2) + "\n", CACHE_HOME)
