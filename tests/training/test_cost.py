"""What a training cost: formulas against counts by hand and against what torch counts while a step runs."""

from __future__ import annotations

import pytest
import torch
from measured_flops import measured_flops
from torch import nn
from transformers import GemmaConfig, GPT2Config, LlamaConfig, Qwen3Config
from transformers.models.auto import AutoModelForCausalLM

from plum.lm.cross_entropy import POSITIONS_MULTIPLE
from plum.lm.examples import IGNORED, Batch
from plum.lm.loss import next_token_loss
from plum.lm.parts import StepFlops, n_tokens
from plum.retrievers.dense import DenseBatch, ItemTransformer, answer_flops, dense_loss, sizes
from plum.retrievers.softmax import Negatives
from plum.training.cost import Cost, Size, matrix_numbers, training_cost, training_flops
from plum.training.loop import Recipe, fit


def test_a_product_of_matrices_is_two_operations_a_term():
    one, other = torch.randn(3, 5), torch.randn(5, 7)
    assert measured_flops(lambda: one @ other) == 2 * 3 * 5 * 7


def test_matrices_count_but_not_look_ups_and_vectors():
    model = nn.ModuleDict({"table": nn.Embedding(11, 4), "linear": nn.Linear(4, 6), "norm": nn.LayerNorm(6)})
    assert matrix_numbers(model) == (24, 0)
    model["linear"].requires_grad_(False)
    assert matrix_numbers(model, nn.Linear(2, 3)) == (6, 24)
    assert training_flops((6, 24), 10) == 10 * (3 * 2 * 6 + 2 * 2 * 24)


def test_a_frozen_matrix_has_no_gradient_of_its_own():
    first, frozen = nn.Linear(5, 6, bias=False), nn.Linear(6, 7, bias=False).requires_grad_(False)
    x = torch.randn(3, 5, requires_grad=True)
    numbers = matrix_numbers(first, frozen)
    assert measured_flops(lambda: frozen(first(x)).sum().backward()) == training_flops(numbers, 3)


def dense(shape, block="pre-norm"):
    return ItemTransformer(30, 6, hidden_size=8, layers=2, heads=2, dropout=0.2, block=block, **shape)


DENSE = DenseBatch(torch.tensor([[0, 2, 3, 9], [1, 4, 5, 6]]), torch.tensor([[IGNORED, 7, 8, 1], [3, 4, 5, 6]]))


@pytest.mark.parametrize("block", ["pre-norm", "post-norm", "ligr"])
@pytest.mark.parametrize("negatives", [None, 4])
@pytest.mark.parametrize("shape", [{}, {"embedding_size": 20, "tied": False}, {"embedding_size": 20}])
def test_the_dense_baseline_costs_what_torch_counts(shape, negatives, block):
    model = dense(shape, block)
    drawn = Negatives(torch.ones(30).numpy(), negatives, 1.0) if negatives else None
    size = sizes(model, drawn)(DENSE)
    assert size[:3] == (7, 7, 8)
    assert size.flops == measured_flops(lambda: dense_loss(model, DENSE, drawn).backward())


def test_the_dense_baseline_costs_what_the_formula_says():
    """4 D^2 of attention's projections and 8 D^2 of feed-forward a position; rows go apart by length."""

    def forward(rows, width):
        return 2 * (2 * 12 * 8**2 * rows * width + 2 * 2 * rows * width**2 * 8)

    assert sizes(dense({}), None)(DENSE).flops == 3 * (forward(1, 3) + forward(1, 4) + 2 * 7 * 8 * 30)


def test_a_retriever_that_is_only_asked_counts_too():
    model = dense({}).eval()
    with torch.no_grad():
        flops = measured_flops(lambda: model(DENSE.items))
    assert flops == answer_flops(model, 2, 4)


SHAPES = {
    "llama": LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    ),
    "tied": LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ),
    "qwen3": Qwen3Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
    ),
    "gemma": GemmaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    ),
    "gpt2": GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_language_model_costs_what_torch_counts(kind):
    model = AutoModelForCausalLM.from_config(SHAPES[kind])
    width = POSITIONS_MULTIPLE // 4 + 1  # the head is asked for a multiple of positions, here for the labelled ones
    tokens = torch.arange(4 * width).reshape(4, width) % 50
    batch = Batch(tokens, tokens)
    counted = measured_flops(lambda: next_token_loss(model, batch).backward())
    formula = StepFlops(model)(batch)
    assert formula <= counted <= 1.02 * formula  # rotary angles are a product too


def test_positions_behind_the_last_label_are_padding():
    labels = torch.tensor([[IGNORED, 5, IGNORED, IGNORED], [IGNORED, 1, 2, 3]])
    assert n_tokens(Batch(labels, labels)) == 2 + 4


def test_sizes_are_added_up_also_over_a_kill(tmp_path):
    def train(folder, kill_at=None):
        torch.manual_seed(0)
        model = nn.Linear(1, 1)

        def loss(number):
            if number == kill_at:
                raise KeyboardInterrupt
            return {"loss": model(torch.ones(2, 1)).sum() ** 2}

        recipe = Recipe(2, 3, 0.1, checkpoint_steps=2, max_steps=5)

        def batches(epoch):
            return range(3 * epoch, 3 * epoch + 3)

        def size(number):
            return Size(1, number, 10**17, 10**18 + number)

        return fit(model, recipe, batches, loss, checkpoint=folder, name="toy", size=size)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, kill_at=4)
    state = train(tmp_path)
    assert state.size == Size(5, 10, 5 * 10**17, 5 * 10**18 + 10)  # beyond what a float holds
    cost = training_cost(nn.Linear(2, 2), state.size, state.step, 3)
    assert cost == Cost(6, 5, 10, 5 * 10**18 + 10, 1.667)
    assert training_cost(nn.Linear(2, 2), state.size, 6, 3).epochs == 2
