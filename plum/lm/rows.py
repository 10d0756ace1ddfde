"""Some rows of a model's vocabulary matrices trained in full while all others are frozen.

The rows of new tokens start as guesses and need training, those of old tokens are known. Marking them in one parameter
would give the optimizer's moments, the gradient and the weight decay of all rows; here only the trained ones have any.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plum.errors import PlumError

TRAINED_ROWS = "trained_rows"
"""The module that is added to a model."""
Columns = slice | Tensor
"""Some places of a dimension."""


def columns_of(places: Tensor) -> Columns:
    """Places (N,) as an index of a dimension: a slice where they are consecutive, which copies nothing."""
    first, n = int(places[0]), len(places)
    consecutive = torch.equal(places, torch.arange(first, first + n, device=places.device))
    return slice(first, first + n) if consecutive else places


class TrainedRows(nn.Module):
    """N rows of a layer's frozen weight (V, D), which is the layer's own again after ``place``.

    Args:
        layer: an embedding or an output head; its weight becomes frozen.
        token_ids: (N,) int64, the rows.

    Attributes:
        weight: (N, D), the trained parameter.
        token_ids: of the rows.
    """

    token_ids: Tensor
    places: Tensor

    def __init__(self, layer: nn.Module, token_ids: Tensor) -> None:
        super().__init__()
        self._layer = [layer]  # not a module of this one: it is the model's already
        matrix = self._matrix().requires_grad_(False)
        self.weight = nn.Parameter(matrix[token_ids].clone())
        places = torch.full((len(matrix),), -1, device=matrix.device)
        places[token_ids] = torch.arange(len(token_ids), device=matrix.device)
        self.register_buffer("token_ids", token_ids, persistent=False)
        self.register_buffer("places", places, persistent=False)  # (V,) row of each token, -1 for a frozen one
        self._columns = columns_of(token_ids)

    @property
    def columns(self) -> Columns:
        """The rows as an index of the vocabulary."""
        return self._columns if isinstance(self._columns, slice) else self.token_ids

    @torch.no_grad()
    def place(self) -> None:
        """Write the trained rows into the layer's weight."""
        self._matrix().index_copy_(0, self.token_ids, self.weight.to(self._matrix().dtype))

    def placed(self, token_ids: Tensor, frozen: Tensor) -> Tensor:
        """Rows (C, D) of some tokens with gradients where they are trained; ``frozen`` (C, D) are the layer's."""
        places = self.places[token_ids]
        return torch.where((places >= 0)[:, None], self.weight[places.clamp(min=0)].to(frozen.dtype), frozen)

    def _matrix(self) -> Any:
        return self._layer[0].weight


class VocabularyRows(nn.Module):
    """The trained rows of a model's input embeddings and output head: one object if these are one matrix."""

    def __init__(self, model: PreTrainedModel, token_ids: Tensor) -> None:
        super().__init__()
        embeddings: Any = model.get_input_embeddings()
        head: Any = model.get_output_embeddings()
        self.of_input = TrainedRows(embeddings, token_ids)
        self.of_head = self.of_input if head.weight is embeddings.weight else TrainedRows(head, token_ids)
        # The same kind of layer, which may scale what it looks up (Gemma), with the trained rows as its weight.
        small = copy.copy(embeddings)
        small._parameters = {"weight": self.of_input.weight}
        small._forward_hooks, small._forward_pre_hooks = type(small._forward_hooks)(), type(small._forward_pre_hooks)()
        small.num_embeddings, small.padding_idx = len(token_ids), None
        self._small = [small]
        self.handles = [
            embeddings.register_forward_pre_hook(self._before),
            embeddings.register_forward_hook(self._look_up),
        ]

    def place(self) -> None:
        """Write the trained rows into both matrices."""
        self.of_input.place()
        if self.of_head is not self.of_input:
            self.of_head.place()

    def _before(self, *_: Any) -> None:
        self.place()

    def _look_up(self, _: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> Tensor:
        """The embeddings that were found, with gradients where their rows are trained."""
        (small,) = self._small
        small._parameters["weight"] = self.of_input.weight  # another object after sharding
        places = self.of_input.places[given[0]]
        return torch.where((places >= 0)[..., None], small(places.clamp(min=0)), found)


def train_rows(model: PreTrainedModel, token_ids: Tensor) -> VocabularyRows:
    """Train some rows of the vocabulary matrices in full and freeze the others.

    The model's matrices hold the trained rows at every forward pass, so that all that reads them works as before. The
    rows are parameters of the model: they are in its optimizer and its checkpoints.

    Args:
        model: with embeddings of a plain weight.
        token_ids: (N,) int64 on the model's device, all different.

    Raises:
        PlumError: if the input embeddings are another kind of layer.
    """
    embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise PlumError(
            f"the vocabulary of {type(model).__name__} can't be trained by rows",
            f"its input embeddings are a {type(embeddings).__name__}",
            "leave lora out, or choose another cpt.base",
        )
    rows = VocabularyRows(model, token_ids)
    model.add_module(TRAINED_ROWS, rows)
    return rows


def merge_rows(model: PreTrainedModel) -> None:
    """Undo ``train_rows``: the model is a plain one again, with the trained rows in its matrices."""
    rows = rows_of(model)
    if rows is None:
        return
    rows.place()
    for handle in rows.handles:
        handle.remove()
    delattr(model, TRAINED_ROWS)


def rows_of(model: nn.Module) -> VocabularyRows | None:
    """What ``train_rows`` added to a model; None without it."""
    found: VocabularyRows | None = getattr(model, TRAINED_ROWS, None)
    return found
