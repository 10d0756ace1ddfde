"""Next-token training of a decoder-only language model, for pre-training and fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from plum.errors import PlumError
from plum.lm.compute import Compute, cast_weights, checkpointed, compiled
from plum.lm.dropout import residual_dropout
from plum.lm.examples import Batch
from plum.lm.loss import next_token_loss
from plum.lm.parts import ROWS
from plum.lm.rows import rows_of
from plum.run import ranks
from plum.runtime import Precision, autocast, is_half, n_processes
from plum.training.cost import Size
from plum.training.loop import Progress, Recipe, fit
from plum.training.sharding import Sharded, is_wanted
from plum.training.trackers import Report


def train(
    model: PreTrainedModel,
    recipe: Recipe,
    batches: Callable[[int], Iterable[Batch]],
    *,
    checkpoint: Path,
    name: str,
    batch_loss: Callable[[PreTrainedModel, Any], Tensor] = next_token_loss,
    prepare: Callable[[Batch], Any] | None = None,
    size: Callable[[Batch], Size] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    monitor: str | None = None,
    dropout: float = 0.0,
    precision: Precision = "auto",
    look: tuple[int, Callable[[], dict[str, float]]] | None = None,
    compute: Compute = Compute(),  # noqa: B008 - immutable
    report: Report | None = None,
) -> Progress:
    """Train a language model in place; see ``plum.training.loop.fit`` for what is not listed here.

    Several processes of a command train together, each on its rows of every batch.

    Args:
        model: on its device. With ``compute.parallel`` set to ``fsdp``, a sharded copy is trained.
        recipe, batches, checkpoint, name, prepare, size, validate, monitor, look, report: as for ``fit``.
        batch_loss: the loss of a batch, or of the result of ``prepare`` for it; a mean over labelled tokens.
        dropout: see ``plum.lm.dropout``.
        precision: of the matrix products; see ``plum.runtime.is_half``.
        compute: how the steps are computed; see :class:`plum.lm.compute.Compute`.

    Raises:
        PlumError: as ``fit``, or if the model can't do what ``compute`` asks for.
    """
    device = next(model.parameters()).device
    half = is_half(device, precision)
    cast_weights(model, compute.weights)
    together = n_processes() > 1 and not ranks.is_alone()
    if together and is_wanted(compute.parallel) and rows_of(model) is not None:
        raise PlumError(f"{name}: lora can't be trained sharded (FSDP)", None, f"set {name}.parallel to ddp")
    sharded = Sharded(model, device, half) if together and is_wanted(compute.parallel) else None
    trained = copy.deepcopy(model.cpu()) if sharded else model

    def loss(batch: Any) -> dict[str, Tensor]:
        with _plain_attention(trained, half and device.type == "cpu"), autocast(device, precision):
            return {"loss": batch_loss(trained, batch)}

    with (
        residual_dropout(trained, dropout),
        checkpointed(trained, compute.checkpoints),
        compiled(trained, compute.compile),
    ):
        return fit(
            trained,
            recipe,
            batches,
            loss,
            checkpoint=checkpoint,
            name=name,
            prepare=prepare,
            parts=ROWS,
            size=size,
            validate=validate,
            monitor=monitor,
            look=look,
            sharded=sharded,
            report=report,
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
