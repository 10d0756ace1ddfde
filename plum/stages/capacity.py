"""What settings need at least of the machine and the model, before the first stage works.

The estimates are lower bounds, in bytes of float32: settings that they refuse cannot work here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from plum.config.models import SCRATCH, DenseConfig
from plum.config.run import RunConfig

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
