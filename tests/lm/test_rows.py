"""Rows of the vocabulary that are trained alone, against training all of it."""

from __future__ import annotations

import copy

import pytest
import tiny_lms
import torch
import transformers as hf

from plum.errors import PlumError
from plum.lm.cross_entropy import Labels, summed_loss
from plum.lm.examples import Batch
from plum.lm.logits import check_head, head_of, token_logits
from plum.lm.loss import labelled_states, next_token_loss
from plum.lm.rows import merge_rows, rows_of, train_rows
from plum.runtime import autocast

MODELS = tiny_lms.MODELS | {
    "untied": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**tiny_lms.SHAPE, tie_word_embeddings=False)),
    "tied": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**tiny_lms.SHAPE, tie_word_embeddings=True)),
}
NEW = {"consecutive": [25, 26, 27], "scattered": [4, 28, 9]}


def model_of(name):
    torch.manual_seed(0)
    return MODELS[name]().eval()


def batch():
    tokens = torch.randint(0, tiny_lms.VOCABULARY, (6, 12), generator=torch.Generator().manual_seed(1))
    return Batch(tokens, tokens)


def matrices(model):
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_the_whole_matrix_in_these_rows(name, new):
    whole = model_of(name)
    model = copy.deepcopy(whole)
    rows = train_rows(model, torch.tensor(NEW[new]))
    expected, found = next_token_loss(whole, batch()), next_token_loss(model, batch())
    expected.backward()
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(rows.of_input.weight.grad, matrices(whole)[0].grad[NEW[new]])
    torch.testing.assert_close(rows.of_head.weight.grad, matrices(whole)[1].grad[NEW[new]])
    assert all(matrix.grad is None for matrix in matrices(model))
    others = {key: value.grad for key, value in whole.named_parameters() if value.grad.shape[0] != 30}
    for key, gradient in others.items():
        torch.testing.assert_close(model.get_parameter(key).grad, gradient)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_changes_these_rows_and_nothing_else_of_the_vocabulary(name):
    model, ids = model_of(name), NEW["scattered"]
    before = [matrix.detach().clone() for matrix in matrices(model)]
    rows = train_rows(model, torch.tensor(ids))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        next_token_loss(model, batch()).backward()
        optimizer.step()
    merge_rows(model)
    assert rows_of(model) is None
    assert set(model.state_dict()) == set(model_of(name).state_dict())
    old = [number for number in range(30) if number not in ids]
    for matrix, was, trained in zip(matrices(model), before, (rows.of_input, rows.of_head), strict=True):
        assert torch.equal(matrix[old], was[old])
        assert torch.equal(matrix[ids], trained.weight)
        assert not (matrix[ids] == was[ids]).any(1).all()


@pytest.mark.parametrize("name", MODELS)
def test_all_that_reads_the_matrices_sees_the_trained_rows(name):
    model = model_of(name)
    rows = train_rows(model, torch.tensor(NEW["scattered"]))
    with torch.no_grad():
        rows.of_input.weight += 1
        if rows.of_head is not rows.of_input:
            rows.of_head.weight -= 1
        tokens = batch().tokens
        logits = model(input_ids=tokens).logits
        check_head(model)
        merge_rows(model)
        torch.testing.assert_close(model(input_ids=tokens).logits, logits)
    plain = model_of(name)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(input_ids=tokens).logits, logits)


@pytest.mark.parametrize("ids", [[25, 26], [2, 26, 9]])
def test_logits_of_some_tokens_have_gradients_in_trained_rows_alone(ids):
    whole = model_of("gemma2")
    model = copy.deepcopy(whole)
    rows = train_rows(model, torch.tensor(NEW["consecutive"]))
    codes = torch.arange(66) % len(ids)
    for one in (whole, model):
        hidden, _ = labelled_states(one, batch())
        summed_loss(head_of(one).only(torch.tensor(ids)), hidden.detach(), Labels(codes)).backward()
    expected = matrices(whole)[1].grad[NEW["consecutive"]]
    torch.testing.assert_close(rows.of_head.weight.grad, expected)
    hidden, _ = labelled_states(model, batch())
    torch.testing.assert_close(
        token_logits(model, hidden, torch.tensor(ids)), token_logits(model, hidden)[:, ids], atol=1e-6, rtol=1e-5
    )


def test_it_works_in_autocast_and_is_copied_with_its_model():
    model = model_of("tied")
    train_rows(model, torch.tensor(NEW["consecutive"]))
    other = copy.deepcopy(model)
    with torch.no_grad():
        rows_of(other).of_input.weight += 1
        other(input_ids=batch().tokens)
    assert not torch.equal(matrices(other)[0][26], matrices(model)[0][26])
    with autocast(torch.device("cpu"), "bfloat16"):
        loss = next_token_loss(model, batch())
    loss.backward()
    assert rows_of(model).of_input.weight.grad.isfinite().all()


def test_other_embeddings_are_refused():
    model = model_of("tied")
    model.set_input_embeddings(torch.nn.Linear(30, 16))
    with pytest.raises(PlumError, match="its input embeddings are a Linear"):
        train_rows(model, torch.tensor([1]))
