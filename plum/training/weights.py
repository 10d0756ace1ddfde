"""A model's weights as safetensors, tied ones once; a large model's in several files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from plum.run.writing import write_tensors

LARGEST_FILE = 5 << 30
"""Bytes of weights in one file, unless a single tensor is larger."""


class Unfit(Exception):
    """Weights are of another model; says where they differ."""


def write(folder: Path, name: str, model: nn.Module, largest: int | None = None) -> list[str]:
    """Write a model's weights and buffers; see :func:`plum.run.writing.written`. The caller syncs the folder.

    Args:
        folder: of the files.
        name: ``NAME.safetensors``, or ``NAME-00001-of-00003.safetensors`` where one file would be too large.
        model: any.
        largest: bytes of a file, by default ``LARGEST_FILE``.

    Returns:
        The files' names.
    """
    shards = _shards(_named(model), LARGEST_FILE if largest is None else largest)
    names = [f"{name}.safetensors"]
    if len(shards) > 1:
        names = [f"{name}-{number + 1:05}-of-{len(shards):05}.safetensors" for number in range(len(shards))]
    for file, shard in zip(names, shards, strict=True):
        write_tensors(folder / file, {key: value.contiguous() for key, value in shard.items()}, sync_entry=False)
    return names


def load(model: nn.Module, files: Sequence[Path]) -> None:
    """Load what :func:`write` wrote.

    Raises:
        Unfit: if it is of another model.
        OSError, safetensors.SafetensorError: if a file can't be read.
    """
    targets, found = _named(model), set[str]()
    for file in files:
        for name, value in load_file(file).items():
            if name not in targets or targets[name].shape != value.shape:
                wanted = tuple(targets[name].shape) if name in targets else "not in the model"
                raise Unfit(f"{name} is {tuple(value.shape)} in the file, {wanted} here")
            with torch.no_grad():
                targets[name].copy_(value)
            found.add(name)
    if missing := targets.keys() - found:
        raise Unfit(f"{min(missing)} is missing")


def _named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, tied ones once, and the buffers that belong to the model's state."""
    stored = model.state_dict().keys()
    buffers = {name: value for name, value in model.named_buffers() if name in stored}
    return {name: value.detach() for name, value in model.named_parameters()} | buffers


def _shards(tensors: dict[str, Tensor], largest: int) -> list[dict[str, Tensor]]:
    """The tensors in order, cut so that each part has at most so many bytes, or one tensor."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        needed = value.numel() * value.element_size()
        if shards[-1] and size + needed > largest:
            shards.append({})
            size = 0
        shards[-1][name] = value
        size += needed
    return shards
