"""A trained dense retriever as a teacher: how likely it holds each next code, where a log shows one next item of many.

Knowledge distillation (Hinton, Vinyals and Dean 2015, section 2) with a teacher over items and a pupil over codes: the
probability of a code behind a prefix is that of all items that begin so. The teacher is trained on the same training
part, so that its pupil learns nothing that the logs don't hold; and it has an answer to every history, those with items
left out included.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from plum.lm.distill import SoftLabels
from plum.retrievers.dense import ItemTransformer
from plum.sid.prefixes import prefix_groups
from plum.sid.table import SidTable

LARGEST_SCORES = 1 << 24
"""Scores of items that are held at a time."""


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Scores are sharper than bfloat16.

    Nothing is opened where nothing is cast: the end of a thread's outermost autocast forgets the casts of all threads.
    """
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


class Teacher:
    """Gives soft labels for histories.

    Args:
        models: one dense retriever, or several that teach by their mean score of an item, which is the geometric mean
            of their probabilities. They are only asked, never trained.
        table: the Semantic IDs of their items.

    Raises:
        ValueError: without models, or if there are more or fewer Semantic IDs than items.
    """

    def __init__(self, models: Sequence[ItemTransformer], table: SidTable) -> None:
        if not models:
            raise ValueError("a teacher needs a model")
        for model in models:
            if len(table.codes) != len(model.items.weight) - 1:
                known = len(model.items.weight) - 1
                raise ValueError(f"{len(table.codes)} Semantic IDs, the teacher knows {known} items")
        self._models = [model.eval().requires_grad_(False) for model in models]
        self._sizes = table.sizes
        device = models[0].items.weight.device
        groups = prefix_groups(table.codes)
        order = groups[:, -1].argsort(kind="stable")  # the items of a prefix side by side
        self._codes = torch.from_numpy(table.codes[order]).to(device)
        # Mean scores are products of the vectors of all models side by side.
        rows = torch.from_numpy(order).to(device)
        self._vectors = torch.cat([model.item_vectors(rows) for model in models], dim=1) / len(models)
        self._groups = torch.from_numpy(groups).to(device)
        self._sorted_groups = torch.from_numpy(groups[order].T.copy()).to(device)

    def soft_labels(self, items: Tensor, targets: Tensor) -> SoftLabels:
        """Probabilities of each target's codes, each level's given the target's codes before it.

        Args:
            items: (B, T) int64 item rows plus 1, oldest first, padded on the right with 0.
            targets: (B, T) bool, the items that are targets; each one's history are those before it.

        Returns:
            Of the P targets in the order of their rows and places; ``known`` where there is a history.

        Raises:
            ValueError: if histories are longer than the teacher takes.
        """
        device = self._vectors.device
        items, targets = items.to(device), targets.to(device)
        asked = items[targets] - 1
        known = targets.nonzero()[:, 1] > 0
        size = max(1, LARGEST_SCORES // len(self._vectors))
        with torch.no_grad(), _full_precision(device):
            hidden = self._hidden(items)[targets]
            parts = [self._of_codes(*part) for part in zip(hidden.split(size), asked.split(size), strict=True)]
        return SoftLabels(known, tuple(torch.cat(level) for level in zip(*parts, strict=True)))

    def _hidden(self, items: Tensor) -> Tensor:
        """States (B, T, D) from which each item is foretold, by the items before it; zeros for the first.

        D is the width of all models' states together.

        A row is read once, as in the teacher's own training: its items stand at the last positions.
        """
        n_rows, width = items.shape
        longest = width - 1
        shortest = min(model.max_history for model in self._models)
        if longest > shortest:
            raise ValueError(f"histories of {longest} items, the teacher takes {shortest}")
        states = torch.zeros(n_rows, width, self._vectors.shape[1], device=items.device)
        if longest:
            # The teacher wants padding on the left, and no last item: nothing follows it.
            shift = longest - ((items > 0).sum(dim=1, keepdim=True) - 1)
            source = torch.arange(longest, device=items.device) - shift
            histories = items.gather(1, source.clamp(min=0)).masked_fill(source < 0, 0)
            place = (torch.arange(longest, device=items.device) + shift).clamp(max=longest - 1)
            found = torch.cat([model(histories) for model in self._models], dim=2)
            states[:, 1:] = found.gather(1, place[:, :, None].expand(-1, -1, found.shape[2]))
        return states

    def _of_codes(self, hidden: Tensor, asked: Tensor) -> list[Tensor]:
        """Per level the probabilities (P, C) of its codes, from states (P, D) and the rows (P,) of the targets."""
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
