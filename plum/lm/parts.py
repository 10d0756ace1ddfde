"""A batch of token sequences taken apart by rows, and what a step on it costs."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from plum.lm.examples import IGNORED, Batch, History
from plum.training.cost import attention_flops, matrix_numbers, training_flops
from plum.training.micro import Parts


def n_labels(batch: Batch) -> int:
    """Labelled tokens that have a token before them: what the loss of a batch is a mean over."""
    return int((batch.labels[:, 1:] != IGNORED).sum())


def take_rows(batch: Batch, start: int, stop: int) -> Batch:
    """Rows ``start`` up to ``stop``, without the columns behind their last label, which no loss depends on."""
    labels = batch.labels[start:stop]
    used = (labels != IGNORED).any(dim=0).nonzero()
    width = max(1, int(used[-1]) + 1) if len(used) else 1
    history = batch.history and History(batch.history.items[start:stop], batch.history.targets[start:stop])
    ids = batch.ids[start:stop] if batch.ids else ()
    positions = None if batch.positions is None else batch.positions[start:stop, :width]
    return Batch(batch.tokens[start:stop, :width], labels[:, :width], history, positions, ids)


ROWS = Parts(lambda batch: len(batch.tokens), take_rows, n_labels)
"""How a :class:`plum.lm.examples.Batch` is taken apart for micro-batches and processes."""


def n_tokens(batch: Batch) -> int:
    """Positions up to each row's last label: what follows is padding."""
    places = torch.arange(1, batch.labels.shape[1] + 1)
    return int(((batch.labels != IGNORED) * places).amax(dim=1).sum())


class StepFlops:
    """FLOPs of the matrix products of a step, forward and backward; see :mod:`plum.training.cost`.

    All positions go through the blocks, padding included; the head is asked at labelled positions only. Of a mixture of
    experts, all experts count.

    Args:
        model: as it is trained.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        head = model.get_output_embeddings().weight
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._heads_width, self._layers = config.num_attention_heads * width, config.num_hidden_layers
        self._matrices = matrix_numbers(model.base_model)
        self._head = head.numel() * (6 if head.requires_grad else 4)

    def __call__(self, batch: Batch) -> int:
        """FLOPs of a batch."""
        rows, width = batch.tokens.shape
        attention = 3 * attention_flops(rows, width, self._heads_width, self._layers)
        return training_flops(self._matrices, rows * width) + attention + n_labels(batch) * self._head
