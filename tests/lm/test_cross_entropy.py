"""The chunked loss against torch's own cross-entropy of all logits at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from plum.lm import cross_entropy
from plum.lm.cross_entropy import POSITIONS_MULTIPLE, Labels, chunk_positions, summed_loss
from plum.lm.logits import Head

VOCABULARY, WIDTH = 30, 8


def head_of(seed=0, bias=False, vocabulary=VOCABULARY, **more):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocabulary, WIDTH, generator=generator).requires_grad_()
    return Head(weight, torch.randn(vocabulary, generator=generator).requires_grad_() if bias else None, **more)


def states_of(n, seed=1):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, WIDTH, generator=generator).requires_grad_()
    return hidden, torch.randint(0, VOCABULARY, (n,), generator=generator)


def plain(head, hidden):
    """All logits at once."""
    logits = F.linear(hidden, head.weight, head.bias).float() * head.scale
    return torch.tanh(logits / head.cap) * head.cap if head.cap else logits


def small_chunks(monkeypatch, positions):
    monkeypatch.setattr(cross_entropy, "POSITIONS_MULTIPLE", positions)
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", positions * VOCABULARY * 4)


def assert_same_gradients(found, expected, tensors, **tolerance):
    for one, other in zip(torch.autograd.grad(found, tensors), torch.autograd.grad(expected, tensors), strict=True):
        torch.testing.assert_close(one, other, **tolerance)


HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "scaled": {"scale": 0.3},
    "capped": {"cap": 2.0},
    "all": {"bias": True, "scale": 0.5, "cap": 3.0},
}


@pytest.mark.parametrize("positions", [1, 7, 64])
@pytest.mark.parametrize("kind", HEADS)
def test_value_and_gradients_are_those_of_torch(monkeypatch, kind, positions):
    small_chunks(monkeypatch, positions)
    head, (hidden, targets) = head_of(**HEADS[kind]), states_of(50)
    found = summed_loss(head, hidden, Labels(targets)) / 50
    expected = F.cross_entropy(plain(head, hidden), targets)
    torch.testing.assert_close(found, expected)
    tensors = [hidden, head.weight, *([head.bias] if head.bias is not None else [])]
    assert_same_gradients(found, expected, tensors)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 40), positions=st.integers(1, 20), levels=st.integers(1, 4), weight=st.floats(0, 1))
def test_mixed_labels_are_those_of_torch(n, positions, levels, weight):
    """Targets and taught shares of some columns, with chunks that begin at any level."""
    n *= levels
    generator = torch.Generator().manual_seed(n)
    head, (hidden, targets) = head_of(), states_of(n)
    columns = [
        torch.tensor([3 + level, 17, 29 - level]) if level % 2 else slice(level, level + 3) for level in range(4)
    ]
    shares = [torch.rand(n // levels, 3, generator=generator).softmax(1) * weight for _ in range(levels)]
    whole = torch.zeros(n, VOCABULARY)
    whole[torch.arange(n), targets] += 1 - weight
    for level, share in enumerate(shares):
        whole[level::levels, columns[level]] += share
    labels = Labels(targets, torch.full((n,), 1 - weight), tuple(zip(shares, columns[:levels], strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, positions)
        found = summed_loss(head, hidden, labels)
    expected = F.cross_entropy(plain(head, hidden), whole, reduction="sum")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert_same_gradients(found, expected, [hidden, head.weight], atol=1e-4, rtol=1e-4)


def test_some_tokens_alone_give_gradients_to_their_rows():
    head, (hidden, _) = head_of(bias=True, cap=2.0), states_of(12)
    ids, codes = torch.tensor([4, 28, 9]), torch.arange(12) % 3
    found = summed_loss(head.only(ids), hidden, Labels(codes))
    expected = F.cross_entropy(plain(head, hidden)[:, ids], codes, reduction="sum")
    torch.testing.assert_close(found, expected)
    assert_same_gradients(found, expected, [hidden, head.weight, head.bias])


def test_in_autocast_products_alone_are_in_bfloat16(monkeypatch):
    small_chunks(monkeypatch, 7)
    head, (hidden, targets) = head_of(bias=True), states_of(50)
    exact = F.cross_entropy(plain(head, hidden), targets, reduction="sum")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = summed_loss(head, hidden, Labels(targets))
        expected = F.cross_entropy(plain(head, hidden), targets, reduction="sum")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert found.item() != exact.item()
    gradients = torch.autograd.grad(found, [hidden, head.weight, head.bias])
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    for one, other in zip(gradients, torch.autograd.grad(exact, [hidden, head.weight, head.bias]), strict=True):
        assert F.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


def test_weights_in_bfloat16_have_gradients_in_it():
    head, (hidden, targets) = head_of(), states_of(20)
    half = Head(head.weight.detach().bfloat16().requires_grad_())
    states = hidden.detach().bfloat16().requires_grad_()
    loss = summed_loss(half, states, Labels(targets))
    assert loss.item() == pytest.approx(summed_loss(head, hidden, Labels(targets)).item(), rel=0.02)
    assert {gradient.dtype for gradient in torch.autograd.grad(loss, [states, half.weight])} == {torch.bfloat16}


def test_a_frozen_head_has_no_gradient_and_without_gradients_none_is_computed(monkeypatch):
    head, (hidden, targets) = head_of(), states_of(20)
    frozen = Head(head.weight.detach())
    loss = summed_loss(frozen, hidden, Labels(targets))
    assert_same_gradients(loss, F.cross_entropy(plain(frozen, hidden), targets, reduction="sum"), [hidden])
    monkeypatch.setattr(cross_entropy._Gradients, "add", lambda *_: pytest.fail("a gradient was computed"))
    with torch.no_grad():
        assert summed_loss(head, hidden, Labels(targets)).item() == pytest.approx(loss.item())


def test_an_outer_factor_scales_the_gradients():
    head, (hidden, targets) = head_of(), states_of(20)
    (once,) = torch.autograd.grad(summed_loss(head, hidden, Labels(targets)), [hidden])
    (thrice,) = torch.autograd.grad(3 * summed_loss(head, hidden, Labels(targets)), [hidden])
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130, 200])
def test_the_head_is_asked_for_a_multiple_of_positions(monkeypatch, n):
    asked, true = [], F.linear
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 128 * VOCABULARY * 4)
    monkeypatch.setattr(cross_entropy.F, "linear", lambda part, *more: asked.append(len(part)) or true(part, *more))
    head, (hidden, targets) = head_of(), states_of(n)
    summed_loss(head, hidden, Labels(targets))
    assert sum(asked) == -(-n // POSITIONS_MULTIPLE) * POSITIONS_MULTIPLE
    assert max(asked) <= 128
    assert all(length % POSITIONS_MULTIPLE == 0 for length in asked)


def test_small_vocabularies_take_one_chunk():
    assert chunk_positions(2500, 32 * 256) == 32 * 256
    assert chunk_positions(2500, 100) == 128
    assert chunk_positions(49_152, 4096) % POSITIONS_MULTIPLE == 0
    assert chunk_positions(10**9, 4096) == POSITIONS_MULTIPLE


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation gives."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


def test_no_tensor_has_the_size_of_all_logits():
    head, hidden = head_of(vocabulary=49_152), torch.randn(4096, WIDTH).requires_grad_()
    targets = torch.arange(4096) * 12
    with Largest() as largest:
        summed_loss(head, hidden, Labels(targets)).backward()
    assert 0 < largest.numbers * 4 <= cross_entropy.CHUNK_BYTES
    assert largest.numbers < 4096 * 49_152 / 4


MEASURED = """
import torch
from plum.lm.cross_entropy import Labels, summed_loss
from plum.lm.logits import Head
from plum.runtime import peak_memory_mib, reset_peak_memory

torch.set_num_threads(1)
weight, hidden = torch.randn(49_152, 8).requires_grad_(), torch.randn(4096, 8).requires_grad_()
summed_loss(Head(weight), hidden[:64], Labels(torch.arange(64))).backward()
before = peak_memory_mib()
summed_loss(Head(weight), hidden, Labels(torch.arange(4096))).backward()
print(peak_memory_mib() - before)
"""


@pytest.mark.slow
def test_the_process_never_holds_all_logits():
    """768 MiB in float32; torch's own loss has them three times."""
    run = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 400
