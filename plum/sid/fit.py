"""Train the Semantic-ID tokenizer and compute every item's codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from plum.sid.codebooks import BLOCK, CodebookRules, reset_dead_codes, start_codebooks, update_codebooks
from plum.sid.cooccurrence import Pairs
from plum.sid.rqvae import (
    RQVAE,
    Content,
    Quantized,
    contrastive_loss,
    quantization_loss,
    reconstruction_errors,
    straight_through,
)
from plum.sid.start import start_at_components
from plum.training.loop import Progress, Recipe, fit

_ORDER, _PAIRS, _HELD_OUT, _WATCHED = range(4)  # what a random generator is for, so that none repeats another's numbers
RESET_UNTIL = 0.9
"""Dead codes are reset only in the first nine tenths of the training, so that the codebooks then settle."""
ROUND = 100
"""Optimizer steps between validations and between resets of dead codes."""
FEWEST_STEPS, MOST_STEPS = 3_000, 20_000
"""Of a training where none are given. Sports (18,357 items) keeps more at 4,500 steps than at 3,000; the upper end is
for time."""
FEWEST_HELD_OUT = 30
"""A smaller held-out sample says nothing: a catalogue with fewer items to spare trains on all of them."""
MOST_WATCHED = 2000
"""Items whose error is measured after each round, if none are held out."""
GRADIENTS_EVERY = 100
"""Steps between measurements of the terms' gradients, each of which costs about a step."""


@dataclass(frozen=True)
class LossWeights:
    """Weights and switches of the tokenizer's loss (PLUM section 2.1).

    Attributes:
        beta: of the commitment term.
        contrastive: of the co-occurrence term.
        progressive_masking: whether an item is reconstructed from its first r levels, r drawn anew in each step.
        per_dimension: squared errors are means over dimensions and modalities, so that the balance with the
            co-occurrence term does not depend on widths; else sums over both, as in the paper.
        modalities: factors of the M reconstruction errors; none for equal ones.
    """

    beta: float = 0.25
    contrastive: float = 0.03
    progressive_masking: bool = True
    per_dimension: bool = True
    modalities: tuple[float, ...] = ()


def train_rqvae(
    model: RQVAE,
    content: Content,
    pairs: Pairs,
    recipe: Recipe,
    weights: LossWeights,
    rules: CodebookRules,
    batch_size: int,
    seed: int,
    checkpoint: Path,
    held_out: np.ndarray | None = None,
    warm: bool = False,
) -> Progress:
    """Train ``model`` in place on a catalogue.

    Args:
        model: on its device.
        content: of the catalogue, on the same device.
        pairs: co-occurring items; if empty, the contrastive term is left out.
        recipe: how to optimise. Its epochs are rounds of steps (see :func:`rounds_of`), not passes over the items.
        weights: of the loss.
        rules: initialisation, updates and resets of the codebooks.
        batch_size: items per step; with pairs, as many items of pairs in addition.
        seed: of batches and initial codebooks. Masks and dead-code resets draw from torch's generator (see
            ``plum.runtime.seed_everything``).
        checkpoint: folder to resume from.
        held_out: rows of items that are not trained on. After each round the reconstruction error of the watched items
            is measured (see :func:`watched_rows`); the model ends with the weights for which it was lowest, those of
            the start included, and the recipe's patience stops the training.
        warm: whether the model has been trained before; else it starts from principal components.
    """
    held = np.zeros(0, dtype=np.int64) if held_out is None else held_out
    rows = np.setdiff1d(np.arange(content.n_items), held)
    known = content.rows(torch.from_numpy(rows)) if len(held) else content
    if not (checkpoint / "state.json").exists():
        if not warm:
            start_at_components(model, known, weights.per_dimension, weights.modalities)
        start_codebooks(model, known, seed, rules.kmeans_init and not warm)
    drawn = pairs.among(rows, content.n_items) if weights.contrastive else Pairs(pairs.rows[:0])
    watched = content.rows(torch.from_numpy(watched_rows(content.n_items, held, seed)))

    def batches(round_: int) -> Iterator[ItemBatch]:
        steps = range(round_ * recipe.steps_per_epoch, (round_ + 1) * recipe.steps_per_epoch)
        return _item_batches(rows, drawn, batch_size, seed, steps)

    def loss(batch: ItemBatch) -> dict[str, Tensor]:
        quantized, losses = _losses(model, content, batch, weights)
        if model.moving_averages:
            update_codebooks(model, quantized, rules.ema_decay)
        return losses

    def reset(round_: int) -> list[tuple[Tensor, Tensor]]:
        due = rules.reset_dead and round_ + 1 < RESET_UNTIL * recipe.epochs
        return reset_dead_codes(model, known) if due else []

    def validate() -> dict[str, float]:
        quantized = model.quantize(model.encode(*watched))
        errors = reconstruction_errors(model, watched.modalities, quantized.codewords.sum(1), watched.present)
        return {"valid_loss": float(_reconstruction(errors, content, weights))}

    return fit(
        model,
        recipe,
        batches,
        loss,
        checkpoint=checkpoint,
        name="tokenize",
        validate=validate,
        monitor="valid_loss",
        falling=True,
        validate_start=True,
        unit="round",
        after_epoch=reset,
        log_every=20,
    )


def rounds_of(steps: int) -> tuple[int, int]:
    """Rounds of a training and steps of each, about ``ROUND``; all together at most ``steps``, and nearly as many.

    Example: 3,000 steps are 30 rounds of 100; 250 are 3 of 83; 7 are one of 7.
    """
    rounds = -(-steps // ROUND)
    return rounds, steps // rounds


def default_steps(n_items: int) -> int:
    """Most steps of a training where none are given: more for more items, since each needs its turns.

    Example: 9,742 items -> 3,000 steps; 18,357 -> 4,589; 100,000 and more -> 20,000.
    """
    return min(MOST_STEPS, max(FEWEST_STEPS, n_items // 4))


def held_out_rows(n_items: int, share: float, seed: int) -> np.ndarray:
    """Rows of the items, in order, that the training does not see; none if they were fewer than ``FEWEST_HELD_OUT``."""
    size = round(share * n_items)
    if size < FEWEST_HELD_OUT:
        return np.zeros(0, dtype=np.int64)
    return np.sort(np.random.default_rng([seed, _HELD_OUT]).choice(n_items, size, replace=False))


def watched_rows(n_items: int, held_out: np.ndarray, seed: int) -> np.ndarray:
    """Rows of the items whose error ends the training: those held out, else at most ``MOST_WATCHED`` of the catalogue.

    Items that are trained on say nothing of new ones, but they are those that the codes are for.
    """
    if len(held_out) or n_items <= MOST_WATCHED:
        return held_out if len(held_out) else np.arange(n_items)
    return np.sort(np.random.default_rng([seed, _WATCHED]).choice(n_items, MOST_WATCHED, replace=False))


@torch.no_grad()
def assign_codes(model: RQVAE, content: Content, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, L) int64 of all items, and the mean squared error per dimension (M,) of each modality.

    All levels are used; a modality's error is over the items that have it.
    """
    model.eval()
    codes: list[np.ndarray] = []

    def quantized(part: Content) -> Tensor:
        found = model.quantize(model.encode(*part))
        codes.append(found.codes.cpu().numpy())
        return found.codewords.sum(1)

    errors = _errors(model, content, block, quantized)
    return np.concatenate(codes), errors


@torch.no_grad()
def unquantised_errors(model: RQVAE, content: Content, block: int = BLOCK) -> np.ndarray:
    """The errors (M,) of :func:`assign_codes` if latents were not quantised: what encoder and decoder lose alone."""
    model.eval()
    return _errors(model, content, block, lambda part: model.encode(*part))


def _errors(model: RQVAE, content: Content, block: int, latents: Callable[[Content], Tensor]) -> np.ndarray:
    """Mean squared error per dimension (M,) of each modality, decoded from ``latents`` of each block."""
    errors = torch.zeros(len(content.modalities), dtype=torch.float64)
    items = torch.zeros_like(errors)
    for part in content.blocks(block):
        n_had = torch.full_like(items, part.n_items) if part.present is None else part.present.sum(0).cpu().double()
        errors += reconstruction_errors(model, part.modalities, latents(part), part.present).cpu().double() * n_had
        items += n_had
    return (errors / items.clamp(min=1)).numpy()


class ItemBatch(NamedTuple):
    """The items of one step.

    Attributes:
        rows: (B,) int64 catalogue rows; of the first ``n_paired``, rows 2i and 2i + 1 are a co-occurring pair.
        n_paired: even.
        step: its number.
    """

    rows: np.ndarray
    n_paired: int
    step: int = 0


def _item_batches(rows: np.ndarray, pairs: Pairs, batch_size: int, seed: int, steps: range) -> Iterator[ItemBatch]:
    """Batches of some steps: half co-occurring pairs, half items in random order; without pairs, items only.

    Pairs are drawn by weight, so popular items occur often; the uniform half ensures that every item counts. Each batch
    depends on the seed and its step only. A pass over the ``rows`` (R,) has R // batch_size steps, or one.
    """
    size = min(batch_size, len(rows))
    passed, order = -1, rows
    for step in steps:
        number, place = divmod(step, len(rows) // size)
        if number != passed:
            passed, order = number, np.random.default_rng([seed, _ORDER, number]).permutation(rows)
        drawn = np.zeros(0, dtype=np.int64)
        if len(pairs):
            drawn = pairs.draw(max(1, size // 2), np.random.default_rng([seed, _PAIRS, step])).reshape(-1)
        yield ItemBatch(np.concatenate([drawn, order[place * size : (place + 1) * size]]), len(drawn), step)


def _losses(
    model: RQVAE, content: Content, batch: ItemBatch, weights: LossWeights
) -> tuple[Quantized, dict[str, Tensor]]:
    """The quantised items that are no pairs, and the loss with all terms; of some steps also the norms of gradients.

    Pairs are drawn by weight. Reconstructed as well, they would pull the codebooks to popular items: they are for the
    contrastive term alone.
    """
    rows = torch.from_numpy(batch.rows).to(content.modalities[0].device)
    n_paired = batch.n_paired
    everything = model.quantize(model.encode(*content.rows(rows)))
    quantized = Quantized(*(value[n_paired:] for value in everything))
    part = content.rows(rows[n_paired:])
    n_rows, n_levels = quantized.codes.shape
    levels = None
    if weights.progressive_masking:
        levels = torch.randint(1, n_levels + 1, (n_rows,)).to(rows.device)
    decoded = straight_through(quantized, levels, codewords=True)
    errors = reconstruction_errors(model, part.modalities, decoded, part.present)
    quantization = quantization_loss(quantized, weights.beta, codebook=not model.moving_averages)
    if not weights.per_dimension:
        quantization = quantization * quantized.codewords.shape[-1]
    losses = {"reconstruction": _reconstruction(errors, content, weights), "quantization": quantization}
    terms = dict(losses)
    if n_paired:
        projections = model.contrast(straight_through(everything)[:n_paired])
        losses["contrastive"] = contrastive_loss(projections, rows[:n_paired])
        terms["contrastive"] = weights.contrastive * losses["contrastive"]
    norms = _gradient_norms(model, terms) if batch.step % GRADIENTS_EVERY == 0 else {}
    return quantized, {"loss": torch.stack(list(terms.values())).sum(), **losses, **norms}


def _reconstruction(errors: Tensor, content: Content, weights: LossWeights) -> Tensor:
    """The reconstruction term of mean squared errors per dimension (M,)."""
    if weights.modalities:
        errors = errors * errors.new_tensor(weights.modalities)
    if weights.per_dimension:
        return errors.mean()
    return (errors * torch.tensor([x.shape[1] for x in content.modalities], device=errors.device)).sum()


def _gradient_norms(model: RQVAE, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The norm of each weighted term's gradient on the encoders, which all terms share."""
    shared = [*model.encoders.parameters(), *model.projection.parameters()]
    norms = {}
    for name, term in terms.items():
        found = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)
        norms[f"gradient_{name}"] = torch.stack([g.norm() for g in found if g is not None]).norm()
    return norms
