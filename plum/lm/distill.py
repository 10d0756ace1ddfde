"""Knowledge distillation: training on a teacher's probabilities of the next codes (Hinton et al. 2015, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plum.lm.examples import Batch
from plum.lm.train import labelled_logits


class SoftLabels(NamedTuple):
    """A teacher's probabilities for P target items.

    Attributes:
        known: (P,) bool, whether the teacher has probabilities for a target.
        probabilities: for each level (P, C), summing to 1: of its codes, given the target's codes of earlier levels.
    """

    known: Tensor
    probabilities: tuple[Tensor, ...]


def distillation_loss(
    model: PreTrainedModel, batch: Batch, soft: SoftLabels, token_ids: Sequence[Tensor], weight: float
) -> Tensor:
    """Mean cross-entropy of the labelled tokens with mixed labels: the observed token and the teacher's probabilities.

    Args:
        model: the student.
        batch: labels are whole items, L tokens each.
        soft: of the labelled items, in the order of rows and places.
        token_ids: for each level the tokens (C,) of its codes.
        weight: the teacher's share of a label, between 0 (``next_token_loss``) and 1; targets unknown to the teacher
            have the observed token as their only label.

    Returns:
        A scalar.

    Raises:
        PlumError: if the sequences are longer than the model takes.
    """
    logits, targets = labelled_logits(model, batch)
    log_probabilities = logits.log_softmax(dim=1)
    n_levels = len(token_ids)
    own = -log_probabilities.gather(1, targets[:, None]).view(-1, n_levels)
    taught = torch.stack(
        [
            -(probabilities * log_probabilities[level::n_levels, ids]).sum(dim=1)
            for level, (probabilities, ids) in enumerate(zip(soft.probabilities, token_ids, strict=True))
        ],
        dim=1,
    )
    share = weight * soft.known[:, None]
    return ((1 - share) * own + share * taught).mean()
