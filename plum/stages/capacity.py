"""What settings need of the machine and the model: all before the first stage works, a training before it starts.

The former are lower bounds, in bytes of float32: settings that they refuse cannot work here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from plum.config.dense import DenseConfig
from plum.config.language_model import SCRATCH, LanguageModelConfig
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.runtime import is_half, n_processes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from plum.lm.memory import Estimate, Shape, Step

logger = logging.getLogger(__name__)

TRAINED = 16
"""Bytes of a trained parameter: the weight, its gradient, and AdamW's two moments."""
SCRATCH_POSITIONS = 2048
"""Tokens that a model of ``cpt.base: scratch`` reads at least, if ``cpt.context_length`` is not larger."""

_OF_USER = 4096
"""Bytes of a made-up user, whose 25 interactions are several columns each."""


def machine_bytes() -> int:
    """Memory that this process can have: the machine's, or less where a control group says so."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    try:
        return min(total, int(limit.read_text()))
    except (OSError, ValueError):  # no such limit, or "max"
        return total


def of_synthetic(n_users: int, memory: int) -> Iterator[str]:
    """The interactions of made-up users."""
    remedy = f"lower it to {max(1, memory // _OF_USER // 2):,} or less"
    yield from _told("data.source.n_users", n_users * _OF_USER, memory, remedy)


def of_tokenize(config: RunConfig, memory: int) -> Iterator[str]:
    """The tokenizer's layers and codewords."""
    settings = config.tokenize
    if settings.method != "rqvae":
        return
    layers = settings.hidden_dim * settings.latent_dim * 2 * len(config.features.modalities)
    yield from _told("tokenize.hidden_dim and latent_dim", layers * TRAINED, memory, "lower one of them")
    codes = sum(settings.codebook_sizes or ()) * settings.latent_dim
    yield from _told("tokenize.codebook_sizes", codes * TRAINED, memory, "give smaller ones")


def of_cpt(config: RunConfig, memory: int) -> Iterator[str]:
    """The new language model, and the scores of a batch over its vocabulary."""
    settings, shape = config.cpt, config.cpt.scratch
    # 256 bytes and the codes are in every vocabulary; scores have a gradient. Texts may be too few for more tokens.
    numbers = 2 * (256 + sum(config.tokenize.codebook_sizes or (16, 8, 4)))
    if settings.base == SCRATCH:
        block = 4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size
        keys = "cpt.scratch: layers, hidden_size and intermediate_size"
        yield from _told(keys, shape.layers * block * TRAINED, memory, "choose a smaller model")
        # What a block keeps of every token for the backward pass.
        numbers += shape.layers * (8 * shape.hidden_size + 3 * shape.intermediate_size)
    of_one = settings.context_length * numbers * 4
    remedy = f"lower cpt.batch_size to {max(1, memory // of_one // 2):,} or less"
    yield from _told("cpt.batch_size and context_length", settings.batch_size * of_one, memory, remedy)


def of_finetune(config: RunConfig) -> Iterator[str]:
    """The longest prompt, against the tokens that a new model reads."""
    if config.cpt.base != SCRATCH:
        return  # its own limit is known when it is loaded
    levels = len(config.tokenize.codebook_sizes or (0, 0, 0))
    tokens, limit = config.finetune.max_history * levels, max(config.cpt.context_length, SCRATCH_POSITIONS)
    if tokens > limit:
        yield (
            f"finetune.max_history: {config.finetune.max_history:,} items of {levels} codes are {tokens:,} tokens, the "
            f"model reads {limit:,}; lower it to {limit // (levels + 1) - 10:,}, or raise cpt.context_length"
        )


def of_dense(name: str, settings: DenseConfig | None, memory: int) -> Iterator[str]:
    """The weights of a baseline.

    Args:
        name: its section in ``eval``.
        settings: None if it is left out.
        memory: bytes.
    """
    if settings is None:
        return
    width = settings.hidden_size
    parts = {
        "layers and hidden_size": settings.layers * 12 * width**2,
        "max_history and hidden_size": settings.max_history * width,
        "embedding_size and hidden_size": (settings.embedding_size or 0) * width,
    }
    for keys, parameters in parts.items():
        yield from _told(f"eval.{name}: {keys}", parameters * TRAINED, memory, "lower one of them")


def _told(keys: str, needed: int, memory: int, remedy: str) -> Iterator[str]:
    if needed > memory:
        yield f"{keys}: at least {_gib(needed)} of memory, this machine has {_gib(memory)}; {remedy}"


def _gib(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB"


_REMEDIES = {
    "rows": "set {stage}.micro_batch_size to {value:,}",
    "checkpointing": "set {stage}.gradient_checkpointing to true",
    "weights": "set {stage}.weights to bfloat16",
    "lora": "train adapters with {stage}.lora",
}


def check_training(stage: str, model: PreTrainedModel, settings: LanguageModelConfig, length: int) -> dict[str, int]:
    """See whether a training's steps will fit in memory, before its start; see :func:`check_step`.

    Args:
        stage: its name in the configuration.
        model: on its device.
        settings: of the stage.
        length: tokens of its longest sequence.

    Returns:
        For ``metrics.json``: MiB of a step, estimated; empty for a model whose sizes are not known.

    Raises:
        PlumError: if weights, gradients and moments alone don't fit.
    """
    from plum.lm.memory import Step, shape_of

    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    shape = shape_of(model.config, model.num_parameters(), trained)
    if shape is None:
        return {}
    half = is_half(model.device, settings.precision or "auto")
    plain = model.config._attn_implementation == "eager" or (half and model.device.type == "cpu")
    processes = n_processes()
    rows = min(settings.micro_batch_size or settings.batch_size, -(-settings.batch_size // processes))
    weight = 2 if settings.weights == "bfloat16" else 4
    step = Step(
        rows,
        length,
        half,
        plain,
        checkpointing=settings.gradient_checkpointing,
        weight_bytes=weight,
        moment_bytes=1 if settings.optimizer == "adamw-8bit" else weight,
        shares=processes if settings.parallel == "fsdp" else 1,
    )
    needed = check_step(stage, shape, step, free_bytes(model.device))
    return {"step_memory_mib": round(needed.total / 2**20)}


def check_step(stage: str, shape: Shape, step: Step, free: int) -> Estimate:
    """Compare what a training step takes with the free memory, and warn where it will not fit.

    Args:
        stage: its name in the configuration.
        shape: of the model, whose weights are in memory already.
        step: how it is computed.
        free: bytes.

    Returns:
        The estimate.

    Raises:
        PlumError: if weights, gradients and moments alone don't fit.
    """
    from plum.lm.memory import estimate, remedies

    needed = estimate(shape, step)
    there = free + needed.weights
    if needed.total <= there:
        return needed
    hopeless = needed.least > there
    found = remedies(shape, step, there)
    helpful = {name: value for name, value in found.items() if not hopeless or name in ("weights", "lora")}
    told = ", or ".join(_REMEDIES[name].format(stage=stage, value=value) for name, value in helpful.items())
    fix = told or "choose a smaller model, or a machine with more memory"
    what = f"{stage}: a training step needs more memory than is free"
    of_step = f"{step.rows:,} rows of {step.length:,} tokens need about {needed.told()}; {_gib(there)} can be had"
    if hopeless:
        raise PlumError(f"{what}, whatever the batch", of_step, fix)
    logger.warning("%s (%s); if it fails, %s", what, of_step, fix)
    return needed


def free_bytes(device: torch.device) -> int:
    """Memory of a device that is free now."""
    import torch

    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return min(_available(Path("/proc/meminfo")), _left_to_group(Path("/sys/fs/cgroup")))


def _available(meminfo: Path) -> int:
    """What the machine can give without swapping; all of it where the system does not say."""
    try:
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return machine_bytes()


def _left_to_group(group: Path) -> int:
    """What the control group may still take, its cached files counted as free; without a limit the machine's memory."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - used + int(cached["inactive_file"])
    except (OSError, ValueError, KeyError):
        return machine_bytes()
