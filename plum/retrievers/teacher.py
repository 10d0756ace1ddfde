"""A trained dense retriever as a teacher: probabilities of the next codes, where the log shows only one next item.

Knowledge distillation (Hinton, Vinyals and Dean 2015, section 2) with a teacher over items and a student over codes:
the probability of a code after a prefix is that of all items whose Semantic IDs continue this way. The teacher is
trained on the same training set, so the student gets no information from outside it. The teacher also answers for
histories with dropped items.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from plum.lm.distill import SoftLabels
from plum.retrievers.dense import ItemTransformer, answer_flops
from plum.sid.prefixes import prefix_groups
from plum.sid.table import SidTable

LARGEST_SCORES = 1 << 24
"""Scores of items in memory at a time."""


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Switch autocast off, because scores need more precision than bfloat16.

    It is left alone if it is off already: the end of a thread's outermost autocast clears the cast cache of all
    threads.
    """
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


class Teacher:
    """Gives soft labels for histories.

    Args:
        models: one dense retriever, or several that teach by their mean score of an item (up to normalisation, the
            geometric mean of their probabilities). They are not trained.
        table: the Semantic IDs of the catalogue.
        known: (N,) bool, the items of the catalogue that are the models', in their order; None for all. The others
            have probability 0, and may be in no history.

    Raises:
        ValueError: without models, or if the numbers of Semantic IDs and items differ.
    """

    def __init__(self, models: Sequence[ItemTransformer], table: SidTable, known: np.ndarray | None = None) -> None:
        if not models:
            raise ValueError("a teacher needs a model")
        known = np.ones(len(table.codes), dtype=bool) if known is None else known
        for model in models:
            if len(known) != len(table.codes) or known.sum() != len(model.items.weight) - 1:
                theirs = len(model.items.weight) - 1
                raise ValueError(f"{known.sum()} Semantic IDs of known items, the teacher has {theirs} items")
        self._models = [model.eval().requires_grad_(False) for model in models]
        self._sizes = table.sizes
        device = models[0].items.weight.device
        groups = prefix_groups(table.codes)
        order = groups[:, -1].argsort(kind="stable")  # items of a prefix are adjacent
        order = order[known[order]]
        places = np.cumsum(known) - 1
        # An item's row plus 1 in the models, by its row plus 1 in the catalogue; 0 stays padding.
        self._places = torch.from_numpy(np.concatenate([[0], np.where(known, places + 1, 0)])).to(device)
        self._codes = torch.from_numpy(table.codes[order]).to(device)
        # Mean scores are products of all models' concatenated vectors.
        rows = torch.from_numpy(places[order]).to(device)
        self._vectors = torch.cat([model.item_vectors(rows) for model in models], dim=1) / len(models)
        self._groups = torch.from_numpy(groups).to(device)
        self._sorted_groups = torch.from_numpy(groups[order].T.copy()).to(device)

    def soft_labels(self, items: Tensor, targets: Tensor) -> SoftLabels:
        """Probabilities of each target's codes, each level's given the target's codes of earlier levels.

        Args:
            items: (B, T) int64 item rows plus 1, oldest first, padded on the right with 0.
            targets: (B, T) bool, the items that are targets; a target's history is the items before it.

        Returns:
            Labels of the P targets in the order of rows and places; ``known`` if the target has a history.

        Raises:
            ValueError: if histories are longer than the teacher's.
        """
        device = self._vectors.device
        items, targets = items.to(device), targets.to(device)
        asked = items[targets] - 1
        known = targets.nonzero()[:, 1] > 0
        size = max(1, LARGEST_SCORES // len(self._vectors))
        with torch.no_grad(), _full_precision(device):
            hidden = self._hidden(self._places[items])[targets]
            parts = [self._of_codes(*part) for part in zip(hidden.split(size), asked.split(size), strict=True)]
        return SoftLabels(known, tuple(torch.cat(level) for level in zip(*parts, strict=True)))

    def flops(self, items: Tensor, targets: Tensor) -> int:
        """FLOPs of the matrix products of :meth:`soft_labels`: states of the histories, and all items' scores."""
        rows, width = items.shape
        states = sum(answer_flops(model, rows, width - 1) for model in self._models)
        return states + 2 * int(targets.sum()) * self._vectors.numel()

    def _hidden(self, items: Tensor) -> Tensor:
        """States (B, T, D) that predict each item from the items before it; zeros for the first.

        D is the width of all models' states together. Each row is one forward pass, as in the teacher's own training,
        with its items at the last positions.
        """
        n_rows, width = items.shape
        longest = width - 1
        shortest = min(model.max_history for model in self._models)
        if longest > shortest:
            raise ValueError(f"histories of {longest} items, the teacher supports {shortest}")
        states = torch.zeros(n_rows, width, self._vectors.shape[1], device=items.device)
        if longest:
            # The teacher needs padding on the left. The last item is dropped, because nothing follows it.
            shift = longest - ((items > 0).sum(dim=1, keepdim=True) - 1)
            source = torch.arange(longest, device=items.device) - shift
            histories = items.gather(1, source.clamp(min=0)).masked_fill(source < 0, 0)
            place = (torch.arange(longest, device=items.device) + shift).clamp(max=longest - 1)
            found = torch.cat([model(histories) for model in self._models], dim=2)
            states[:, 1:] = found.gather(1, place[:, :, None].expand(-1, -1, found.shape[2]))
        return states

    def _of_codes(self, hidden: Tensor, asked: Tensor) -> list[Tensor]:
        """Per level the probabilities (P, C) of its codes, from states (P, D) and the targets' rows (P,)."""
        scores = self._vectors @ hidden.T  # (N, P): sums over items are sums of rows
        first = torch.zeros(self._sizes[0], len(asked), device=scores.device)
        found = [first.index_add_(0, self._codes[:, 0], scores.softmax(dim=0)).T]
        for level in range(1, len(self._sizes)):
            prefixes = self._groups[asked, level - 1]
            start = torch.searchsorted(self._sorted_groups[level - 1], prefixes)
            length = torch.searchsorted(self._sorted_groups[level - 1], prefixes, right=True) - start
            place = torch.arange(int(length.max()), device=scores.device)[:, None]
            rows = (start + place).clamp(max=len(scores) - 1)  # (W, P): the items with the target's prefix
            siblings = scores.gather(0, rows).masked_fill(place >= length, -torch.inf).softmax(dim=0)
            cell = torch.arange(len(asked), device=scores.device) * self._sizes[level] + self._codes[rows, level]
            flat = torch.zeros(len(asked) * self._sizes[level], device=scores.device)
            found.append(flat.index_add_(0, cell.flatten(), siblings.flatten()).view(len(asked), -1))
        return found
