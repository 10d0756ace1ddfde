"""Next-token training of a decoder-only language model, for pre-training and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from plum.lm.dropout import residual_dropout
from plum.lm.examples import Batch
from plum.lm.loss import next_token_loss
from plum.runtime import Precision, autocast, is_half
from plum.training.loop import Progress, Recipe, fit


def train(
    model: PreTrainedModel,
    recipe: Recipe,
    batches: Callable[[int], Iterable[Batch]],
    *,
    checkpoint: Path,
    name: str,
    batch_loss: Callable[[PreTrainedModel, Any], Tensor] = next_token_loss,
    prepare: Callable[[Batch], Any] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    monitor: str | None = None,
    dropout: float = 0.0,
    precision: Precision = "auto",
    look: tuple[int, Callable[[], dict[str, float]]] | None = None,
) -> Progress:
    """Train a language model in place; see ``plum.training.loop.fit`` for what is not listed here.

    Args:
        model: on its device.
        recipe, batches, checkpoint, name, prepare, validate, monitor, look: as for ``fit``.
        batch_loss: the loss of a batch, or of the result of ``prepare`` for it.
        dropout: see ``plum.lm.dropout``.
        precision: of the matrix products; see ``plum.runtime.is_half``.
    """
    device = next(model.parameters()).device
    half_on_cpu = device.type == "cpu" and is_half(device, precision)

    def loss(batch: Any) -> dict[str, Tensor]:
        with _plain_attention(model, half_on_cpu), autocast(device, precision):
            return {"loss": batch_loss(model, batch)}

    with residual_dropout(model, dropout):
        return fit(
            model,
            recipe,
            batches,
            loss,
            checkpoint=checkpoint,
            name=name,
            prepare=prepare,
            validate=validate,
            monitor=monitor,
            look=look,
        )


@contextmanager
def _plain_attention(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Attention as two matrix products while open: on CPUs the fused kernel takes twice as long in bfloat16."""
    before = model.config._attn_implementation
    if not wanted or before == "eager":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
