import numpy as np
import pytest
import torch
from torch import nn

from plum.lm.examples import IGNORED
from plum.retrievers import blocks
from plum.retrievers.dense import DenseBatch, ItemTransformer, dense_loss
from plum.retrievers.softmax import Negatives

N, T, D, HEADS, INNER = 3, 5, 8, 2, 12
BLOCKED = torch.ones(T, T, dtype=torch.bool).triu(1).expand(N, T, T)


def hidden_of():
    return torch.randn(N, T, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def block_of(kind, dropout=0.0):
    torch.manual_seed(0)
    block = blocks.Block(kind, D, HEADS, INNER, dropout).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.5)
    return block


def torchs_attention(attention):
    """The same attention as torch has it."""
    theirs = nn.MultiheadAttention(D, HEADS, batch_first=True).double()
    theirs.in_proj_weight, theirs.in_proj_bias = attention.inputs.weight, attention.inputs.bias
    theirs.out_proj.weight, theirs.out_proj.bias = attention.output.weight, attention.output.bias
    return theirs


@pytest.mark.parametrize("kind", ["pre-norm", "post-norm"])
def test_a_block_is_torchs_transformer_layer(kind):
    block = block_of(kind)
    layer = nn.TransformerEncoderLayer(
        D, HEADS, INNER, 0.0, activation="gelu", batch_first=True, norm_first=kind == "pre-norm"
    ).double()
    layer.self_attn = torchs_attention(block.attention)
    layer.linear1, layer.linear2 = block.feed_forward[0], block.feed_forward[3]
    layer.norm1, layer.norm2 = block.norms
    expected = layer(hidden_of(), src_mask=BLOCKED[0])
    torch.testing.assert_close(block(hidden_of(), BLOCKED[:, None]), expected)


@torch.no_grad()
def test_a_ligr_block_gates_each_branch_by_the_residual_stream():
    block, x = block_of("ligr"), hidden_of()
    attention = torchs_attention(block.attention)
    normed = nn.functional.layer_norm(x, (D,), block.norms[0].weight, block.norms[0].bias)
    attended, _ = attention(normed, normed, normed, attn_mask=BLOCKED[0])
    x = x + attended / (1 + torch.exp(-(x @ block.gates[0].weight.T + block.gates[0].bias)))
    normed = nn.functional.layer_norm(x, (D,), block.norms[1].weight, block.norms[1].bias)
    given = normed @ block.feed_forward.gate.weight.T
    changed = (given / (1 + torch.exp(-given)) * (normed @ block.feed_forward.up.weight.T)) @ (
        block.feed_forward.down.weight.T
    )
    expected = x + changed / (1 + torch.exp(-(x @ block.gates[1].weight.T + block.gates[1].bias)))
    torch.testing.assert_close(block(hidden_of(), BLOCKED[:, None]), expected)


@torch.no_grad()
def test_a_closed_gate_leaves_the_residual_stream_as_it_is():
    block = block_of("ligr")
    for gate in block.gates:
        gate.weight.zero_()
        gate.bias.fill_(-1e9)
    torch.testing.assert_close(block(hidden_of(), BLOCKED[:, None]), hidden_of())


@torch.no_grad()
@pytest.mark.parametrize("kind", blocks.KINDS)
def test_the_norms_stand_where_the_kind_has_them(kind):
    encoder = blocks.Encoder(kind, D, 2, HEADS, INNER, 0.0).double().eval()
    found = encoder(7 * hidden_of(), BLOCKED)
    torch.testing.assert_close(
        found.mean(-1), torch.zeros(N, T, dtype=torch.float64), atol=1e-6, rtol=0
    )  # the last is one
    if kind == "post-norm":  # the first, too: what is a multiple of the input gives the same
        torch.testing.assert_close(found, encoder(70 * hidden_of(), BLOCKED), atol=1e-4, rtol=1e-4)
    else:
        assert not torch.allclose(found, encoder(70 * hidden_of(), BLOCKED), atol=1e-2)


def test_another_kind_of_block_is_refused():
    with pytest.raises(ValueError, match="pre-norm, post-norm, ligr, found 'gru'"):
        blocks.Encoder("gru", D, 1, HEADS, INNER, 0.0)


def test_matrices_drawn_alike_are_small_and_biases_are_zero():
    model = ItemTransformer(50, 5, 64, 1, 2, 0.0, initial="normal", block="ligr")
    for name, parameter in model.encoder.named_parameters():
        if parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
    assert ItemTransformer(50, 5, 64, 1, 2, 0.0).encoder.blocks[0].attention.inputs.weight.std().item() > 0.05


@torch.no_grad()
def test_scaled_item_vectors_are_those_times_the_root_of_the_width():
    torch.manual_seed(0)
    plain = ItemTransformer(20, 4, 16, 1, 2, 0.0).eval()
    scaled = ItemTransformer(20, 4, 16, 1, 2, 0.0, scaled=True).eval()
    scaled.load_state_dict(plain.state_dict())
    items = torch.tensor([[3, 1, 7]])
    torch.testing.assert_close(scaled(items), plain(items, 4 * plain.items(items)))
    torch.testing.assert_close(scaled.item_vectors(), plain.item_vectors())  # the output's are as they are


@pytest.mark.parametrize(("width", "times", "inner"), [(16, 4.0, 64), (16, 2.0, 32), (10, 0.25, 2), (2, 0.1, 1)])
def test_the_feed_forward_width_is_a_multiple_of_the_transformers(width, times, inner):
    model = ItemTransformer(20, 4, width, 1, 2, 0.0, feed_forward=times)
    assert model.encoder.blocks[0].feed_forward[0].out_features == inner


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    dropout, ones = blocks.Dropout(rate), torch.ones(1001, 1003)
    found = dropout(ones)
    assert (found == 0).float().mean().item() == pytest.approx(rate, abs=0.002)
    assert found.mean().item() == pytest.approx(1.0, abs=0.02)
    assert found.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-4)
    places = [(found[:, place::4] == 0).float().mean().item() for place in range(4)]  # of the four in one random number
    assert places == pytest.approx([rate] * 4, abs=0.004)
    assert not torch.equal(found, dropout(ones))
    assert dropout.eval()(ones) is ones
    assert blocks.Dropout(0.0)(ones) is ones


def test_gradients_flow_where_dropout_let_values_through():
    torch.manual_seed(0)
    given = torch.ones(50, requires_grad=True)
    found = blocks.Dropout(0.5)(given)
    found.sum().backward()
    torch.testing.assert_close(given.grad, found.detach())


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize(
    "shape", [{"block": "ligr"}, {"block": "post-norm", "scaled": True}], ids=["ligr", "post-norm"]
)
def test_sampled_gradients_approach_the_full_softmaxs(shape, power):
    torch.manual_seed(0)
    model = ItemTransformer(12, 4, 16, 1, 2, 0.0, **shape).double()
    with torch.no_grad():
        model.items.weight.normal_(std=0.5)
    batch = DenseBatch(torch.tensor([[0, 2, 3], [1, 4, 12]]), torch.tensor([[IGNORED, IGNORED, 4], [3, 11, 0]]))
    weights = list(model.parameters())
    sampled = dense_loss(model, batch, Negatives(np.arange(12), 100_000, power))
    full = dense_loss(model, batch)
    assert sampled.item() == pytest.approx(full.item(), rel=0.02)
    for found, expected in zip(torch.autograd.grad(sampled, weights), torch.autograd.grad(full, weights), strict=True):
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.1)
