"""Knowledge distillation: training on a teacher's probabilities of the next codes (Hinton et al. 2015, section 2)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.lm.cross_entropy import Labels, summed_loss
from plum.lm.examples import Batch
from plum.lm.logits import head_of
from plum.lm.loss import Levels, labelled_states


class SoftLabels(NamedTuple):
    """A teacher's probabilities for P target items.

    Attributes:
        known: (P,) bool, whether the teacher has probabilities for a target.
        probabilities: for each level (P, C), summing to 1: of its codes, given the target's codes of earlier levels.
    """

    known: Tensor
    probabilities: tuple[Tensor, ...]


def distillation_loss(
    model: PreTrainedModel,
    batch: Batch,
    soft: SoftLabels,
    levels: Levels,
    weight: float,
    over: Literal["vocabulary", "level"] = "vocabulary",
) -> Tensor:
    """Mean cross-entropy of the labelled tokens with mixed labels: the observed token and the teacher's probabilities.

    Args:
        model: the student.
        batch: labels are whole items, L tokens each.
        soft: of the labelled items, in the order of rows and places.
        levels: the tokens of the codes.
        weight: the teacher's share of a label, between 0 (``next_token_loss``, or ``level_loss``) and 1; targets
            unknown to the teacher have the observed token as their only label.
        over: the tokens over which the student's probabilities sum to one.

    Returns:
        A scalar.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    hidden, targets = labelled_states(model, batch)
    n_levels, head = len(levels.token_ids), head_of(model)
    share = weight * soft.known.to(torch.float32)
    taught = [share[:, None] * probabilities for probabilities in soft.probabilities]
    if over == "vocabulary":
        mixed = tuple(zip(taught, levels.columns, strict=True))
        labels = Labels(targets, 1 - share.repeat_interleave(n_levels), mixed)
        return summed_loss(head, hidden, labels) / len(targets)
    codes = levels.codes[targets]
    parts = [
        summed_loss(head, hidden[level::n_levels], Labels(codes[level::n_levels], 1 - share, ((shares, slice(None)),)))
        for level, (head, shares) in enumerate(zip(levels.heads(head), taught, strict=True))
    ]
    return torch.stack(parts).sum() / len(targets)
