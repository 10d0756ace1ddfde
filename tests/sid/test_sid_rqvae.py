"""The RQ-VAE's maths against hand-computed numbers, and where its gradients go."""

from __future__ import annotations

import math

import pytest
import torch

from plum.sid.rqvae import (
    RQVAE,
    contrastive_loss,
    quantization_loss,
    reconstruction_loss,
    squared_distances,
    straight_through,
)


@pytest.fixture
def tiny():
    """Two levels in the plane: codewords (0,0) (4,0), then (0,1) (0,-1)."""
    model = RQVAE([3, 2], [2, 2], latent_dim=2, hidden_dim=4)
    with torch.no_grad():
        model.codebooks[0].copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
        model.codebooks[1].copy_(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    return model


def test_quantize_by_hand(tiny):
    found = tiny.quantize(torch.tensor([[3.0, 0.5], [1.0, -2.0]]))
    assert found.codes.tolist() == [[1, 0], [0, 1]]
    assert found.residuals.tolist() == [[[3, 0.5], [-1, 0.5]], [[1, -2], [1, -2]]]
    assert found.codewords.tolist() == [[[4, 0], [0, 1]], [[0, 0], [0, -1]]]


def test_quantize_takes_the_nearest_codeword_of_each_residual():
    torch.manual_seed(0)
    model = RQVAE([5], [8, 4, 2], latent_dim=3, hidden_dim=4)
    latents = torch.randn(40, 3)
    found = model.quantize(latents)
    residual = latents
    for level, book in enumerate(model.codebooks):
        best = torch.cdist(residual, book).argmin(1)
        assert torch.equal(found.codes[:, level], best)
        residual = residual - book[best]


def test_squared_distances_leave_out_only_the_vectors_own_norm():
    vectors, book = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0], [3.0, 1.0]])
    assert (squared_distances(vectors, book) + 5).tolist() == [[5.0, 5.0]]


def test_quantization_loss_by_hand_and_its_gradients(tiny):
    latents = torch.tensor([[3.0, 0.5]], requires_grad=True)
    quantized = tiny.quantize(latents)
    # level 1: r - e = (-1, 0.5), mean square 0.625; level 2: (-1, -0.5), 0.625
    loss = quantization_loss(quantized, beta=0.25)
    assert loss.item() == pytest.approx(1.25 * (0.625 + 0.625))
    loss.backward()
    # commitment alone reaches the latent: 0.25 * 2/2 * ((-1, 0.5) + (-1, -0.5))
    assert latents.grad.tolist() == [[-0.5, 0.0]]
    # the codebook term alone reaches codewords, each its own level's, and only those in use: -(r - e)
    assert tiny.codebooks[0].grad.tolist() == [[0, 0], [1, -0.5]]
    assert tiny.codebooks[1].grad.tolist() == [[1, 0.5], [0, 0]]


def test_commitment_alone_leaves_codebooks_and_beta_zero_leaves_the_encoder(tiny):
    latents = torch.tensor([[3.0, 0.5]], requires_grad=True)
    quantization_loss(tiny.quantize(latents), beta=0.0).backward()
    assert latents.grad.abs().sum() == 0


def test_straight_through_gives_codewords_forward_and_the_identity_backward(tiny):
    latents = torch.tensor([[3.0, 0.5], [3.0, 0.5]], requires_grad=True)
    quantized = tiny.quantize(latents)
    value = straight_through(quantized, torch.tensor([1, 2]))
    assert value.tolist() == [[4, 0], [4, 1]]
    assert straight_through(quantized)[0].tolist() == [4, 1]
    (value * torch.tensor([[2.0, 3.0], [5.0, 7.0]])).sum().backward()
    assert latents.grad.tolist() == [[2, 3], [5, 7]]
    assert all(book.grad is None for book in tiny.codebooks)


def test_reconstruction_loss_is_the_sum_of_mean_squares_of_the_first_levels(tiny):
    tiny.decoders = torch.nn.ModuleList(torch.nn.Identity() for _ in range(2))
    items = [torch.tensor([[3.0, 2.0]]), torch.tensor([[4.0, -1.0]])]
    quantized = tiny.quantize(torch.tensor([[3.0, 0.5]]))
    # all levels give (4, 1): (1 + 1) / 2 + (0 + 4) / 2; the first gives (4, 0): (1 + 4) / 2 + (0 + 1) / 2
    assert reconstruction_loss(tiny, items, quantized).item() == 3.0
    assert reconstruction_loss(tiny, items, quantized, torch.tensor([1])).item() == 3.0
    items = [torch.tensor([[4.0, 1.0]]), torch.tensor([[4.0, 1.0]])]
    assert reconstruction_loss(tiny, items, quantized, torch.tensor([2])).item() == 0.0
    assert reconstruction_loss(tiny, items, quantized, torch.tensor([1])).item() == 1.0


def test_reconstruction_trains_encoders_and_decoders_but_no_codebook():
    torch.manual_seed(0)
    model = RQVAE([3, 2], [4, 4], latent_dim=2, hidden_dim=4)
    items = [torch.randn(6, 3), torch.randn(6, 2)]
    reconstruction_loss(model, items, model.quantize(model.encode(items)), torch.full((6,), 2)).backward()
    assert all(p.grad is not None for p in [*model.encoders.parameters(), *model.decoders.parameters()])
    assert all(book.grad is None for book in model.codebooks)
    assert all(p.grad is None for p in model.contrast.parameters())


def explicit_contrastive(projections, items):
    """PLUM's sum written out, with the extra rule that the item and its partner are no negatives."""
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in projections.tolist()]
    similarity = [[sum(a * b for a, b in zip(p, q, strict=True)) / 0.1 for q in unit] for p in unit]
    total = 0.0
    for i in range(len(unit)):
        partner = i + 1 if i % 2 == 0 else i - 1
        own = {items[i].item(), items[partner].item()}
        rivals = [j for j in range(len(unit)) if j != i and (j == partner or items[j].item() not in own)]
        total -= similarity[i][partner] - math.log(sum(math.exp(similarity[i][j]) for j in rivals))
    return total / len(unit)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [0, 1, 0, 2, 1, 0], [3, 4, 3, 4, 5, 6]])
def test_contrastive_loss_against_an_explicit_loop(rows):
    torch.manual_seed(1)
    projections, items = torch.randn(6, 4, dtype=torch.float64), torch.tensor(rows)
    assert contrastive_loss(projections, items).item() == pytest.approx(explicit_contrastive(projections, items))


def test_contrastive_loss_of_one_pair_is_zero_also_when_the_pair_is_drawn_twice():
    projections = torch.randn(4, 3)
    assert contrastive_loss(projections[:2], torch.tensor([7, 9])).item() == 0
    assert contrastive_loss(projections, torch.tensor([7, 9, 9, 7])).item() == pytest.approx(0, abs=1e-6)


def test_contrastive_gradients_stay_finite_with_masked_rivals():
    projections = torch.randn(4, 3, requires_grad=True)
    contrastive_loss(projections, torch.tensor([1, 2, 2, 3])).backward()
    assert torch.isfinite(projections.grad).all()
