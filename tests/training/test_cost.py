"""What a training cost, against counts by hand and by closed formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from plum.lm.cross_entropy import POSITIONS_MULTIPLE
from plum.lm.examples import IGNORED, Batch
from plum.lm.loss import next_token_loss
from plum.retrievers.dense import DenseBatch, ItemTransformer, dense_loss, size_of
from plum.retrievers.softmax import Negatives
from plum.training.cost import Cost, Size, measured_flops, training_cost


def test_a_product_of_matrices_is_two_operations_a_term():
    one, other = torch.randn(3, 5), torch.randn(5, 7)
    assert measured_flops(lambda: one @ other) == 2 * 3 * 5 * 7


def test_backward_counts_both_gradients_and_look_ups_are_free():
    table = nn.Embedding(11, 4)

    def step():
        hidden = table(torch.tensor([[1, 2, 3]]))
        (hidden @ table.weight.T).logsumexp(-1).sum().backward()  # the table is tied: used as matrix too

    assert measured_flops(step) == 3 * (2 * 3 * 4 * 11)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": torch.zeros(5, 5)}, {"dropout_p": 0.1}])
def test_attention_counts_the_square_of_positions(options):
    query = torch.randn(2, 3, 5, 8, requires_grad=True)

    def step():
        F.scaled_dot_product_attention(query, query, query, **options).sum().backward()

    product = 2 * (2 * 3 * 5 * 5 * 8)
    assert measured_flops(step) == 3 * 2 * product  # queries with keys, weights with values


def transformer_forward(rows, width, hidden_size, layers):
    """FLOPs of a transformer's layers: 4 D^2 of attention's projections and 8 D^2 of feed-forward a position."""
    return layers * (2 * 12 * hidden_size**2 * rows * width + 2 * 2 * rows * width**2 * hidden_size)


def dense_step(shape, negatives=None):
    model = ItemTransformer(30, 6, hidden_size=8, layers=2, heads=2, dropout=0.2, **shape)
    batch = DenseBatch(torch.tensor([[0, 2, 3, 9], [1, 4, 5, 6]]), torch.tensor([[IGNORED, 7, 8, 1], [3, 4, 5, 6]]))
    cost = training_cost(
        model, lambda epoch: [batch], size_of, lambda b: dense_loss(model, b, negatives), steps=1, steps_per_epoch=1
    )
    return cost, 3 * (transformer_forward(1, 3, 8, 2) + transformer_forward(1, 4, 8, 2))  # rows apart by length


def test_the_dense_baseline_costs_what_the_formula_says():
    cost, transformer = dense_step({})
    parameters = 31 * 8 + 6 * 8 + 2 * (12 * 8**2 + 13 * 8) + 2 * 8
    assert cost == Cost(parameters, examples=7, tokens=7, flops=transformer + 3 * 2 * 7 * 8 * 30, epochs=1)


def test_the_large_embedding_model_adds_its_projections():
    cost, transformer = dense_step({"embedding_size": 20, "tied": False})
    projections = 3 * 2 * 20 * 8 * (7 + 30)  # of 7 positions and of 30 items
    assert cost.flops == transformer + 3 * 2 * 7 * 8 * 30 + projections


def test_sampled_negatives_cost_by_their_number():
    cost, transformer = dense_step({}, Negatives(torch.ones(30).numpy(), 4, 1.0))
    assert cost.flops == transformer + 3 * 2 * 7 * 8 * 4  # a target's own product is taken elementwise


def test_a_language_model_costs_what_the_formula_says():
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, tie_word_embeddings=True, **shape))
    tokens = torch.arange(12).reshape(2, 6)
    batch = Batch(tokens, tokens)
    flops = measured_flops(lambda: next_token_loss(model, batch).backward())
    layers = 2 * (2 * 12 * (4 * 16**2 + 3 * 16 * 24) + 2 * 2 * 2 * 6**2 * 16)
    # The last of six positions has no next token; the head is asked for a multiple of positions, 64 where 10 count.
    expected = 3 * (layers + 2 * POSITIONS_MULTIPLE * 16 * 50)
    assert expected <= flops <= 1.02 * expected  # rotary angles are a small product of their own


def test_a_retriever_that_is_only_asked_counts_too():
    model = ItemTransformer(30, 6, hidden_size=8, layers=2, heads=2, dropout=0.2).eval()
    before = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad():
        flops = measured_flops(lambda: model(torch.tensor([[0, 2, 3, 9], [1, 4, 5, 6]])))
    assert flops == transformer_forward(2, 4, 8, 2)
    assert torch.backends.mha.get_fastpath_enabled() == before


class Counted(nn.Module):
    """A model whose batches are tensors (B, T); the loss costs 2 B T^2 operations forward, as many backward."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.frozen = nn.Parameter(torch.ones(5), requires_grad=False)
        self.modes = []

    def loss(self, batch):
        self.modes.append(self.training)
        return (self.weight[0, 0] * (batch @ torch.ones(batch.shape[1], batch.shape[1]))).sum()


def widths(*epochs):
    return lambda epoch: [torch.zeros(1, width) for width in epochs[epoch]]


def cost_of(batches, steps, steps_per_epoch, measured=3, size=lambda b: Size(1, b.shape[1] - 1, b.shape[1])):
    model = Counted().eval()
    model.weight.grad = torch.ones(2, 2)
    cost = training_cost(
        model, batches, size, model.loss, steps=steps, steps_per_epoch=steps_per_epoch, measured=measured
    )
    assert not model.training
    assert model.weight.grad is None
    assert (model.weight == 1).all()
    return cost, model


def test_sizes_are_added_up_over_all_epochs_and_flops_are_taken_per_position():
    cost, model = cost_of(widths([4, 2, 6], [3, 3, 3]), 6, 3)
    assert (cost.parameters, cost.examples, cost.tokens, cost.epochs) == (4, 6, 21 - 6, 2)
    measured = 2 * (4**2 + 2**2 + 6**2)
    assert cost.flops == measured * 21 // 12
    assert model.modes == [True] * 3


def test_flops_are_measured_on_batches_spread_over_the_first_epoch():
    cost, model = cost_of(widths([1, 1, 9, 1, 1, 1], [9] * 6), 12, 6, measured=2)
    assert len(model.modes) == 2  # the batches 0 and 3
    assert cost.flops == 2 * (1 + 1) * (14 + 54) // 2


def test_counts_beyond_what_a_float_holds_stay_exact():
    sizes = iter([Size(1, 1, 1), Size(1, 1, 10**17)])
    cost, _ = cost_of(widths([3, 3]), 2, 2, measured=1, size=lambda _: next(sizes))
    assert cost.flops == 18 * (10**17 + 1)


@pytest.mark.parametrize(("steps", "steps_per_epoch"), [(0, 2), (3, 2)])
def test_steps_that_are_no_whole_epochs_are_refused(steps, steps_per_epoch):
    with pytest.raises(ValueError, match="not a whole number of epochs"):
        cost_of(widths([1, 1], [1, 1]), steps, steps_per_epoch)


def test_batches_that_are_not_those_of_the_training_are_refused():
    with pytest.raises(ValueError, match="the batches of 2 epochs are 3, not 4"):
        cost_of(widths([1, 1], [1]), 4, 2)
