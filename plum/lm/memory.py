"""What a training step of a language model holds in memory, by formula: before the training, not when it runs out.

Counted for a block of the Llama type in training (norms, rotary attention, gated feed-forward), from the tensors that
torch keeps for the backward pass. Blocks with more norms (Gemma) or an activation of several steps (GPT-2) keep up to
twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from plum.lm.cross_entropy import chunk_positions

FLOAT, HALF = 4, 2
SPARE = 1.25
"""What allocators and libraries add to tensors that come and go in a step."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only model.

    Attributes:
        layers: number of blocks.
        width: of the hidden states.
        heads_width: of all query heads together.
        keys_width: of all key heads together.
        heads: number of query heads.
        intermediate: width of the feed-forward layers.
        vocabulary: tokens.
        parameters: numbers in all weights.
        trained: of these, those that the optimizer changes.
    """

    layers: int
    width: int
    heads_width: int
    keys_width: int
    heads: int
    intermediate: int
    vocabulary: int
    parameters: int
    trained: int


@dataclass(frozen=True)
class Step:
    """How a step is computed.

    Attributes:
        rows: sequences that are in memory at a time.
        length: tokens of each.
        half: matrix products in bfloat16.
        plain_attention: attention with a matrix of all weights, not by a fused kernel.
        checkpointing: keep the blocks' inputs only, and compute the rest again.
        weight_bytes: of a number in weights and gradients.
        moment_bytes: of a number in each of the optimizer's two moments.
        shares: processes among which weights, gradients and moments are divided.
    """

    rows: int
    length: int
    half: bool = False
    plain_attention: bool = False
    checkpointing: bool = False
    weight_bytes: int = FLOAT
    moment_bytes: int = FLOAT
    shares: int = 1


@dataclass(frozen=True)
class Estimate:
    """Bytes at the peak of a step, by what they are for; libraries and data are not counted."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int

    @property
    def least(self) -> int:
        """What a step takes whatever the batch."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """All of it."""
        return self.least + self.activations + self.loss

    def told(self) -> str:
        """``4.1 GiB: weights 0.5, gradients 0.5, ...``."""
        parts = ", ".join(f"{name} {value / 2**30:,.1f}" for name, value in vars(self).items())
        return f"{self.total / 2**30:,.1f} GiB: {parts}"


def estimate(shape: Shape, step: Step) -> Estimate:
    """Bytes of a training step.

    Args:
        shape: of the model.
        step: how it is computed.
    """
    tokens = step.rows * step.length
    weights = shape.parameters * step.weight_bytes
    casts = HALF * (shape.parameters - shape.vocabulary * shape.width) if step.half and step.weight_bytes > HALF else 0
    blocks = shape.layers * shape.width * FLOAT + _block_bytes(shape, step) if step.checkpointing else None
    kept = shape.layers * _block_bytes(shape, step) if blocks is None else blocks
    around = 6 * shape.width * FLOAT  # embeddings, last norm, states at labels and their gradient
    return Estimate(
        weights=weights // step.shares,
        gradients=shape.trained * step.weight_bytes // step.shares,
        optimizer=2 * shape.trained * step.moment_bytes // step.shares,
        activations=round(SPARE * (tokens * (kept + around) + max(0, casts) // step.shares)),
        loss=round(SPARE * _loss_bytes(shape, step, tokens)),
    )


def _block_bytes(shape: Shape, step: Step) -> int:
    """Bytes that a block keeps of each token for its backward pass."""
    product = HALF if step.half else FLOAT
    # Each norm keeps its input and the normalised one; so does each product its input, in half precision a copy each.
    norms = 4 * FLOAT * shape.width + (5 * HALF if step.half else 2 * FLOAT) * shape.width
    attention = product * 2 * (shape.heads_width + shape.keys_width)
    if step.plain_attention:
        weights = FLOAT + (HALF if step.half else 0)
        attention += weights * shape.heads * step.length + product * 2 * (shape.heads_width - shape.keys_width)
    return norms + attention + product * 4 * shape.intermediate


def _loss_bytes(shape: Shape, step: Step, tokens: int) -> int:
    """Bytes of a chunk of logits with its softmax, and of the head's gradient and its copy in half precision."""
    positions = chunk_positions(shape.vocabulary, tokens)
    matrix = shape.vocabulary * shape.width
    head = matrix * ((FLOAT if shape.trained == shape.parameters else 0) + (HALF if step.half else 0))
    return positions * shape.vocabulary * (2 * FLOAT + (2 * HALF if step.half else 0)) + head


Remedy = Literal["rows", "checkpointing", "weights", "lora"]


def remedies(shape: Shape, step: Step, free: int) -> dict[Remedy, int]:
    """What would make a step fit, each alone: the remedy and its new value.

    ``rows``: the most that fit. ``checkpointing``: 1. ``weights``: 2, the bytes of bfloat16. ``lora``: 1. Without any
    that suffices alone, all together that make it smaller.

    Args:
        shape: of the model.
        step: that does not fit.
        free: bytes.
    """
    adapted = replace(shape, trained=min(shape.trained, max(1, shape.parameters // 50)))
    tries: dict[Remedy, tuple[Shape, Step, int]] = {}
    rows = step.rows
    while rows > 1 and estimate(shape, replace(step, rows=rows)).total > free:
        rows //= 2
    if rows < step.rows:
        tries["rows"] = (shape, replace(step, rows=rows), rows)
    if not step.checkpointing:
        tries["checkpointing"] = (shape, replace(step, checkpointing=True), 1)
    if step.weight_bytes > HALF:
        half = replace(step, weight_bytes=HALF, moment_bytes=min(HALF, step.moment_bytes))
        tries["weights"] = (shape, half, HALF)
    if adapted.trained < shape.trained // 2:
        tries["lora"] = (adapted, step, 1)
    fitting = {name: value for name, (one, how, value) in tries.items() if estimate(one, how).total <= free}
    return fitting or {name: value for name, (_, _, value) in tries.items()}


def shape_of(config: Any, parameters: int, trained: int) -> Shape | None:
    """The sizes in a Hugging Face configuration; None if it calls them otherwise.

    Args:
        config: of a causal language model.
        parameters: numbers in all weights.
        trained: those that the optimizer changes.
    """
    text = config.get_text_config()
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
    layers, width, heads, vocabulary = (getattr(text, name, None) for name in names)
    if layers is None or width is None or heads is None or vocabulary is None:
        return None
    head_width = getattr(text, "head_dim", None) or width // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    intermediate = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * width
    return Shape(
        layers,
        width,
        heads * head_width,
        keys * head_width,
        heads,
        intermediate if isinstance(intermediate, int) else max(intermediate),
        vocabulary,
        parameters,
        trained,
    )
