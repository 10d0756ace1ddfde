import math

import numpy as np
import pytest
import torch
import transformers as hf

from plum.lm.distill import SoftLabels, distillation_loss
from plum.lm.examples import Window, batches
from plum.lm.loss import Levels, level_loss, next_token_loss
from plum.lm.train import train
from plum.training.loop import Recipe

LEVELS = Levels.of([np.arange(5, 9), np.arange(9, 12)], torch.device("cpu"))  # 4 and 3 codes in a vocabulary of 12
ITEM_TOKENS = np.array([[5 + first, 9 + second] for first in range(4) for second in range(3)])
CUT = [Window(np.array([3, 0, 4]), 1), Window(np.array([2, 7]), 0)]
FIRST_CODES, SECOND_CODES = [0, 1, 0, 2], [0, 1, 2, 1]  # of the targets 0, 4, 2 and 7


def model_of():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return hf.LlamaForCausalLM(hf.LlamaConfig(vocab_size=12, initializer_range=0.3, **shape)).eval()


def batch_of():
    (batch,) = batches(CUT, ITEM_TOKENS, np.array([1]), 4, 0.0, pad=0, seed=0, epoch=0)
    order = [3, 2] if batch.history.items[0, 0] == 4 else [2, 3]
    assert (batch.history.items > 0).sum(dim=1).tolist() == order
    return batch


def codes_in_order(batch):
    first = batch.history.items[0, 0] == 4  # item 3: the longer window
    order = [0, 1, 2, 3] if first else [2, 3, 0, 1]
    return [[codes[place] for place in order] for codes in (FIRST_CODES, SECOND_CODES)]


def soft_of(probabilities, known=(True,) * 4):
    return SoftLabels(torch.tensor(known), tuple(torch.tensor(level) for level in probabilities))


def one_hot(codes, size):
    return np.eye(size, dtype=np.float32)[codes]


UNIFORM = [np.full((4, 4), 0.25, dtype=np.float32), np.full((4, 3), 1 / 3, dtype=np.float32)]


def test_without_weight_it_is_the_loss_of_the_tokens():
    model, batch = model_of(), batch_of()
    loss = distillation_loss(model, batch, soft_of(UNIFORM), LEVELS, 0.0)
    torch.testing.assert_close(loss, next_token_loss(model, batch))


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_a_teacher_that_is_sure_of_what_came_changes_nothing(weight):
    model, batch = model_of(), batch_of()
    sure = [one_hot(codes, size) for codes, size in zip(codes_in_order(batch), (4, 3), strict=True)]
    loss = distillation_loss(model, batch, soft_of(sure), LEVELS, weight)
    torch.testing.assert_close(loss, next_token_loss(model, batch))


def test_what_it_does_not_know_is_learnt_from_the_tokens():
    model, batch = model_of(), batch_of()
    loss = distillation_loss(model, batch, soft_of(UNIFORM, known=(False,) * 4), LEVELS, 1.0)
    torch.testing.assert_close(loss, next_token_loss(model, batch))


def test_a_mixture_by_hand():
    model, batch = model_of(), batch_of()
    loss = distillation_loss(model, batch, soft_of(UNIFORM, known=(True, True, False, True)), LEVELS, 0.25)
    total, target = 0.0, 0
    with torch.no_grad():
        for tokens, labels in zip(batch.tokens, batch.labels, strict=True):
            logp = model(input_ids=tokens[None]).logits[0].log_softmax(-1)
            labelled = [place for place, label in enumerate(labels.tolist()) if label >= 0]
            for number, place in enumerate(labelled):
                ids = LEVELS.token_ids[number % 2]
                own = -logp[place - 1, labels[place]].item()
                taught = -logp[place - 1, ids].mean().item()
                share = 0.0 if target + number // 2 == 2 else 0.25
                total += (1 - share) * own + share * taught
            target += len(labelled) // 2
    assert loss.item() == pytest.approx(total / 8, rel=1e-5)


@pytest.mark.parametrize("known", [(True,) * 4, (True, True, False, True)])
def test_over_levels_both_labels_are_over_the_codes_of_the_level(known):
    model, batch = model_of(), batch_of()
    rng = np.random.default_rng(0)
    held = [rng.dirichlet(np.ones(size), 4).astype(np.float32) for size in (4, 3)]
    loss = distillation_loss(model, batch, soft_of(held, known), LEVELS, 0.25, "level")
    total, target = 0.0, 0
    with torch.no_grad():
        for tokens, labels in zip(batch.tokens, batch.labels, strict=True):
            logits = model(input_ids=tokens[None]).logits[0]
            labelled = [place for place, label in enumerate(labels.tolist()) if label >= 0]
            for number, place in enumerate(labelled):
                item, level = target + number // 2, number % 2
                logp = logits[place - 1, LEVELS.token_ids[level]].log_softmax(0)
                own = -logp[LEVELS.token_ids[level].tolist().index(labels[place])].item()
                share = 0.25 if known[item] else 0.0
                total += (1 - share) * own - share * (logp * torch.from_numpy(held[level][item])).sum().item()
            target += len(labelled) // 2
    assert loss.item() == pytest.approx(total / 8, rel=1e-5)


def test_over_levels_without_weight_it_is_the_loss_of_the_codes():
    model, batch = model_of(), batch_of()
    loss = distillation_loss(model, batch, soft_of(UNIFORM), LEVELS, 0.0, "level")
    torch.testing.assert_close(loss, level_loss(model, batch, LEVELS))


def test_the_pupil_comes_to_hold_what_the_teacher_does(tmp_path):
    model, batch = model_of(), batch_of()
    rng = np.random.default_rng(0)
    held = [rng.dirichlet(np.ones(size), 4).astype(np.float32) for size in (4, 3)]
    soft = soft_of(held)

    def loss(pupil, one):
        return distillation_loss(pupil, one, soft, LEVELS, 1.0)

    recipe = Recipe(epochs=1, steps_per_epoch=300, learning_rate=0.01)
    train(model, recipe, lambda epoch: [batch] * 300, checkpoint=tmp_path / "c", name="test", batch_loss=loss)
    entropy = -sum((level * np.log(level)).sum() for level in held) / 8
    with torch.no_grad():
        reached = loss(model.eval(), batch).item()
    assert entropy <= reached + 1e-6  # cross-entropy is least where the two agree
    assert reached < entropy + 0.02
    assert math.isfinite(reached)
