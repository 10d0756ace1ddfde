"""The RQ-VAE's maths against hand-computed numbers, and where its gradients go."""

from __future__ import annotations

import math

import pytest
import torch

from plum.sid.rqvae import (
    RQVAE,
    Content,
    Layers,
    contrastive_loss,
    nearest_codewords,
    quantization_loss,
    reconstruction_errors,
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


@pytest.mark.parametrize("n", [0, 1, 511, 513, 1500])
def test_nearest_codewords_in_chunks_are_those_of_all_distances(n):
    torch.manual_seed(0)
    vectors, book = torch.randn(n, 6), torch.randn(40, 6)
    assert torch.equal(nearest_codewords(vectors, book), torch.cdist(vectors, book).argmin(1))


def test_of_equal_codewords_the_first_is_taken():
    book = torch.tensor([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0]])
    assert nearest_codewords(torch.tensor([[1.0, 0.1], [9.0, 9.0]]), book).tolist() == [1, 0]


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


def test_codewords_that_are_averages_have_no_term_of_their_own(tiny):
    latents = torch.tensor([[3.0, 0.5]], requires_grad=True)
    loss = quantization_loss(tiny.quantize(latents), beta=0.25, codebook=False)
    assert loss.item() == pytest.approx(0.25 * (0.625 + 0.625))
    loss.backward()
    assert latents.grad.tolist() == [[-0.5, 0.0]]
    assert all(book.grad is None or not book.grad.any() for book in tiny.codebooks)


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


def test_the_gradient_of_a_sum_reaches_its_codewords_if_asked_for(tiny):
    latents = torch.tensor([[3.0, 0.5], [3.0, 0.5]], requires_grad=True)
    value = straight_through(tiny.quantize(latents), torch.tensor([1, 2]), codewords=True)
    assert value.tolist() == [[4, 0], [4, 1]]
    (value * torch.tensor([[2.0, 3.0], [5.0, 7.0]])).sum().backward()
    assert latents.grad.tolist() == [[2, 3], [5, 7]]
    # the first level's codeword is in both sums, the second level's in the second alone
    assert tiny.codebooks[0].grad.tolist() == [[0, 0], [7, 10]]
    assert tiny.codebooks[1].grad.tolist() == [[5, 7], [0, 0]]


def test_reconstruction_errors_are_mean_squares_of_the_decoded_sum_of_the_first_levels(tiny):
    tiny.decoders = torch.nn.ModuleList(torch.nn.Identity() for _ in range(2))
    items = [torch.tensor([[3.0, 2.0]]), torch.tensor([[4.0, -1.0]])]
    quantized = tiny.quantize(torch.tensor([[3.0, 0.5]]))
    whole, first = straight_through(quantized), straight_through(quantized, torch.tensor([1]))
    # all levels give (4, 1): (1 + 1) / 2 and (0 + 4) / 2; the first gives (4, 0): (1 + 4) / 2 and (0 + 1) / 2
    assert reconstruction_errors(tiny, items, whole).tolist() == [1, 2]
    assert reconstruction_errors(tiny, items, first).tolist() == [2.5, 0.5]


def test_reconstruction_trains_encoders_decoders_and_the_codewords_in_use():
    torch.manual_seed(0)
    model = RQVAE([3, 2], [4, 4], latent_dim=2, hidden_dim=4)
    items = [torch.randn(6, 3), torch.randn(6, 2)]
    quantized = model.quantize(model.encode(items))
    sums = straight_through(quantized, torch.full((6,), 1), codewords=True)
    reconstruction_errors(model, items, sums).sum().backward()
    assert all(layers.linear.weight.grad.any() for layers in [*model.encoders, *model.decoders])
    used = set(quantized.codes[:, 0].tolist())
    assert {row for row in range(4) if model.codebooks[0].grad[row].any()} == used
    assert not model.codebooks[1].grad.any()  # of a level that was left out
    assert all(p.grad is None for p in model.contrast.parameters())


def test_the_networks_beside_the_linear_maps_begin_at_zero_and_learn():
    torch.manual_seed(0)
    layers = Layers(3, 5, 2)
    x = torch.randn(4, 3)
    assert torch.equal(layers(x), layers.linear(x))
    layers(x).sum().backward()
    assert layers.network[-1].weight.grad.any()


def test_an_absent_modality_is_encoded_by_its_learned_vector():
    torch.manual_seed(0)
    model = RQVAE([3, 2], [4], latent_dim=2, hidden_dim=4)
    with torch.no_grad():
        model.absent[1].copy_(torch.tensor([7.0, -3.0]))
    items = [torch.randn(3, 3), torch.randn(3, 2)]
    present = torch.tensor([[True, True], [True, False], [False, False]])
    found = model.encode(items, present)
    assert torch.equal(found[0], model.encode(items)[0])
    first = model.encoders[0](items[0])
    by_hand = [model.projection(torch.cat([first[1], model.absent[1]])), model.projection(torch.cat([*model.absent]))]
    torch.testing.assert_close(found[1:], torch.stack(by_hand))
    other = [items[0], torch.full((3, 2), 9.0)]  # what stands in the place of an absent modality counts nothing
    assert torch.equal(model.encode(other, present)[1:], found[1:])


def test_only_absent_modalities_train_their_vectors():
    torch.manual_seed(0)
    model = RQVAE([3, 2], [4], latent_dim=2, hidden_dim=4)
    items, present = [torch.randn(2, 3), torch.randn(2, 2)], torch.tensor([[True, True], [True, False]])
    model.encode(items, present).sum().backward()
    assert not model.absent[0].grad.any()
    assert model.absent[1].grad.all()
    without = [x.grad.clone() for x in model.encoders[1].parameters()]
    model.zero_grad()
    model.encode([x[:1] for x in items]).sum().backward()  # the item that has both
    for found, expected in zip(without, [x.grad for x in model.encoders[1].parameters()], strict=True):
        torch.testing.assert_close(found, expected)


def test_the_error_of_a_modality_is_over_the_items_that_have_it(tiny):
    tiny.decoders = torch.nn.ModuleList(torch.nn.Identity() for _ in range(2))
    items = [torch.tensor([[3.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, -1.0], [50.0, 50.0]])]
    quantized = tiny.quantize(torch.tensor([[3.0, 0.5], [1.0, -2.0]]))  # reconstructed as (4, 1) and (0, -1)
    present = torch.tensor([[True, True], [True, False]])
    sums = straight_through(quantized)
    errors = reconstruction_errors(tiny, items, sums, present)
    assert errors.tolist() == [((1 + 1) / 2 + (0 + 1) / 2) / 2, (0 + 4) / 2]
    assert reconstruction_errors(tiny, items, sums, present).sum().item() == 0.75 + 2
    nobody = torch.tensor([[True, False], [True, False]])
    assert reconstruction_errors(tiny, items, sums, nobody).tolist() == [0.75, 0]
    everybody = torch.ones(2, 2, dtype=torch.bool)
    torch.testing.assert_close(
        reconstruction_errors(tiny, items, sums, everybody), reconstruction_errors(tiny, items, sums)
    )


def test_content_is_cut_by_rows_with_its_presence():
    content = Content([torch.arange(5.0)[:, None]], torch.tensor([[True], [False], [True], [True], [False]]))
    parts = list(content.blocks(2))
    assert [part.modalities[0].reshape(-1).tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.present.reshape(-1).tolist() for part in parts] == [[True, False], [True, True], [False]]
    assert Content(content.modalities).rows(torch.tensor([4, 1])).modalities[0].reshape(-1).tolist() == [4, 1]
    assert content.n_items == 5


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
