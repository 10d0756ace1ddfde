"""How far weights have moved from where they were, by what they belong to.

ORBIT (Verma et al., arXiv 2605.12419) finds that forgetting follows this distance, measured as L2 or as the
dissimilarity of signs. The latter is read here as the share of weights whose sign is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from plum.lm.dropout import ATTENTION, FEED_FORWARD
from plum.lm.rows import TRAINED_ROWS, rows_of
from plum.run.writing import write_tensors

WORDS, CODES = "word embeddings", "code embeddings"
"""Rows of the vocabulary's matrices: those of the base model, and those of the codes."""
GROUPS = (WORDS, CODES, "attention", "feed-forward", "norms", "other")
ADAPTERS, BASE_LAYER = ".lora_", ".base_layer"
"""How peft names an adapter's weights, and the layer that it adapts."""
ALL = "all but code embeddings"
"""The base model's weights together: what it has to lose."""
BLOCK = 1 << 22
"""Numbers of a tensor that are compared at once."""


@dataclass
class Moved:
    """Sums over the weights of a group."""

    weights: int = 0
    squared_distance: float = 0.0
    squared_length: float = 0.0
    turned: int = 0

    def add(self, before: Tensor, after: Tensor) -> None:
        """Count the weights of two tensors of one shape, in float64, block by block."""
        for old, new in zip(before.flatten().split(BLOCK), after.flatten().split(BLOCK), strict=True):
            old, new = old.to(torch.float64), new.to(old.device, torch.float64)
            self.weights += old.numel()
            self.squared_distance += float((new - old).square().sum())
            self.squared_length += float(old.square().sum())
            self.turned += int((old.sign() != new.sign()).sum())

    def figures(self) -> dict[str, float | None]:
        """``weights``; ``l2``; ``relative_l2``, by the length before; ``sign_dissimilarity``, a share."""
        distance, length = self.squared_distance**0.5, self.squared_length**0.5
        return {
            "weights": self.weights,
            "l2": distance,
            "relative_l2": distance / length if length else None,
            "sign_dissimilarity": self.turned / self.weights if self.weights else None,
        }


def drift(
    before: Callable[[str], Tensor], after: Iterable[tuple[str, Tensor]], groups: Callable[[str], str], codes: Tensor
) -> dict[str, dict[str, float | None]]:
    """Distance of two sets of weights, tensor by tensor: no second copy of the model is in memory.

    Args:
        before: the weight of a name.
        after: names and weights; those that share memory once.
        groups: the group of a name; ``WORDS`` for a matrix (V, ...) of the vocabulary, which is divided by rows.
        codes: token ids of the codes, the rows of ``CODES``.

    Returns:
        Group -> ``Moved.figures``, of the groups that have weights; and of ``ALL``.

    Raises:
        ValueError: if a weight has another shape than before.
    """
    found: dict[str, Moved] = {}
    for name, now in after:
        then = before(name)
        if then.shape != now.shape:
            raise ValueError(f"{name} had the shape {tuple(then.shape)}, and now has {tuple(now.shape)}")
        for group, old, new in _parts(groups(name), then, now.detach(), codes):
            found.setdefault(group, Moved()).add(old, new)
    base = Moved()
    for group, moved in found.items():
        if group != CODES:
            base = Moved(*(a + b for a, b in zip(vars(base).values(), vars(moved).values(), strict=True)))
    named = {group: found[group].figures() for group in GROUPS if group in found}
    return named | ({ALL: base.figures()} if base.weights else {})


def _parts(group: str, then: Tensor, now: Tensor, codes: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    if group != WORDS:
        yield group, then, now
        return
    new = torch.zeros(len(then), dtype=torch.bool)
    new[codes.cpu()] = True
    for name, rows in ((CODES, new), (WORDS, ~new)):
        if rows.any():
            yield name, then[rows.to(then.device)], now[rows.to(now.device)]


def named_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """A model's weights by name, tied ones once; adapters as if they were merged already."""
    if (rows := rows_of(model)) is not None:
        rows.place()
    for name, weight in model.named_parameters():
        if ADAPTERS in name or name.startswith(TRAINED_ROWS):
            continue
        layer: Any = model.get_submodule(name.rpartition(".")[0].removesuffix(BASE_LAYER))
        if name.endswith(f"{BASE_LAYER}.weight") and hasattr(layer, "get_delta_weight"):
            weight = weight + sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
        yield name.replace(f"{BASE_LAYER}.", "."), weight


def group_of(model: PreTrainedModel) -> Callable[[str], str]:
    """What a model's weights belong to, by the modules around them."""
    vocabulary: set[int] = set()
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        holder: Any = layer
        vocabulary |= {id(holder.weight)} if holder is not None else set()
    groups = {}
    for name, weight in named_weights(model):
        parts = name.split(".")
        if id(weight) in vocabulary:
            groups[name] = WORDS
        elif any("norm" in part.lower() or part.startswith("ln_") for part in parts[-2:]):
            groups[name] = "norms"
        elif any(part in ATTENTION for part in parts):
            groups[name] = "attention"
        else:
            groups[name] = "feed-forward" if any(part in FEED_FORWARD for part in parts) else "other"
    return groups.__getitem__


def save_weights(path: Path, model: PreTrainedModel) -> None:
    """Write a model's weights by name, to be compared with later ones; see :func:`plum.run.writing.written`."""
    write_tensors(path, {name: weight.detach().contiguous() for name, weight in named_weights(model)})


class SavedWeights:
    """The weights that :func:`save_weights` wrote, read one at a time."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(str(path), framework="pt")

    def __call__(self, name: str) -> Tensor:
        """The weight of a name."""
        found: Tensor = self._file.get_tensor(name)
        return found
