import numpy as np
import pytest
import torch
import transformers as hf

from plum.errors import PlumError
from plum.lm.examples import IGNORED, Batch, pad_rows
from plum.lm.loss import Levels, labelled_loss, level_loss, mean_loss, next_token_loss
from plum.lm.train import train
from plum.training.loop import Recipe

VOCABULARY = 30
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
MODELS = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SHAPE)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**SHAPE, num_key_value_heads=1, head_dim=8, final_logit_softcapping=1.0)
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=12, bos_token_id=0, eos_token_id=1
        )
    ),
}


def model_of(name="llama"):
    torch.manual_seed(0)
    return MODELS[name]().eval()


def random_rows(rng, n, longest=12):
    rows = []
    for _ in range(n):
        tokens = rng.integers(0, VOCABULARY, rng.integers(2, longest + 1))
        labels = np.where(rng.random(len(tokens)) < 0.6, tokens, IGNORED)
        labels[-1] = tokens[-1]
        rows.append((tokens, labels))
    return rows


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_loss_of_transformers(name):
    model = model_of(name)
    batch = pad_rows(random_rows(np.random.default_rng(1), 5), pad=2)
    expected = model(input_ids=batch.tokens, labels=batch.labels).loss
    torch.testing.assert_close(next_token_loss(model, batch), expected)


def test_it_is_the_loss_of_transformers_with_a_padding_mask():
    model = model_of()
    rows = random_rows(np.random.default_rng(2), 4)
    batch = pad_rows(rows, pad=2)
    mask = torch.tensor([[1] * len(tokens) + [0] * (batch.tokens.shape[1] - len(tokens)) for tokens, _ in rows])
    expected = model(input_ids=batch.tokens, labels=batch.labels, attention_mask=mask).loss
    torch.testing.assert_close(next_token_loss(model, batch), expected)


def test_the_padding_token_is_of_no_account():
    rows = random_rows(np.random.default_rng(3), 4)
    assert torch.equal(next_token_loss(model_of(), pad_rows(rows, 2)), next_token_loss(model_of(), pad_rows(rows, 9)))


def test_gradients_reach_every_weight():
    model = model_of().train()
    next_token_loss(model, pad_rows(random_rows(np.random.default_rng(0), 4), 2)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_too_long_sequences_are_refused_in_words():
    with pytest.raises(PlumError, match="13 tokens, the model supports 12"):
        next_token_loss(model_of("gpt2"), Batch(torch.ones(1, 13).long(), torch.ones(1, 13).long()))


def test_the_mean_loss_weighs_tokens_not_documents():
    model, rng = model_of().train(), np.random.default_rng(5)
    corpus = [rng.integers(0, VOCABULARY, length) for length in (7, 2, 1, 12, 5)]
    losses = []
    with torch.no_grad():
        for ids in corpus:
            logp = model_of()(input_ids=torch.from_numpy(ids)[None]).logits[0].log_softmax(-1)
            losses += [-float(logp[place, token]) for place, token in enumerate(ids[1:])]
    for batch_size in (1, 2, 5):
        assert mean_loss(model, corpus, batch_size, pad=2) == pytest.approx(np.mean(losses), rel=1e-5)
    assert model.training


def test_the_mean_loss_of_nothing_is_not_a_number():
    assert np.isnan(mean_loss(model_of(), [], 2, pad=2))
    assert np.isnan(mean_loss(model_of(), [np.array([3])], 2, pad=2))


def test_of_a_document_beyond_the_context_the_start_counts():
    document = np.random.default_rng(0).integers(0, VOCABULARY, 40)
    model = model_of("gpt2")
    assert mean_loss(model, [document], 2, pad=2) == mean_loss(model, [document[:12]], 2, pad=2)


def test_training_learns_a_sequence(tmp_path):
    model = model_of()
    batch = pad_rows([(np.arange(3, 11), np.arange(3, 11))], pad=2)
    recipe = Recipe(epochs=1, steps_per_epoch=60, learning_rate=0.01)
    train(model, recipe, lambda epoch: [batch] * 60, checkpoint=tmp_path / "checkpoint", name="test")
    assert next_token_loss(model.eval(), batch).item() < 0.1


LEVELS = ([20, 22, 24], [21, 23], [25, 26, 27, 28])


def items_of(rng, n_rows):
    """Rows of whole items, of which some are labelled."""
    rows = []
    for _ in range(n_rows):
        n = rng.integers(1, 4)
        tokens = np.concatenate([[5], *([rng.choice(level) for level in LEVELS] for _ in range(n))])
        labels = np.where(np.arange(len(tokens)) >= 1 + 3 * rng.integers(0, n), tokens, IGNORED)
        rows.append((tokens, labels))
    return pad_rows(rows, 2)


@pytest.mark.parametrize("name", MODELS)
def test_the_level_loss_is_over_the_codes_of_the_targets_level(name):
    model, batch = model_of(name), items_of(np.random.default_rng(0), 5)
    losses = []
    for tokens, labels in zip(batch.tokens, batch.labels, strict=True):
        logits = model(input_ids=tokens[None]).logits[0]
        for place, label in enumerate(labels.tolist()):
            if label != IGNORED:
                ids = LEVELS[(place - 1) % 3]
                losses.append(-logits[place - 1, ids].log_softmax(0)[ids.index(label)])
    expected = torch.stack(losses).mean()
    found = level_loss(model, batch, Levels.of([np.array(ids) for ids in LEVELS], torch.device("cpu")))
    torch.testing.assert_close(found, expected)
    of_found, of_expected = (torch.autograd.grad(loss, list(model.parameters())) for loss in (found, expected))
    for one, other in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_without_labels_there_is_no_loss():
    batch = Batch(torch.ones(2, 4).long(), torch.full((2, 4), IGNORED))
    assert next_token_loss(model_of(), batch).isnan()


def test_the_validation_loss_counts_labelled_tokens_alone_and_leaves_the_model_as_it_was():
    model = model_of("gpt2")
    rows = [(np.array([3, 4, 5, 6]), np.array([IGNORED, IGNORED, 5, 6])), (np.array([7, 8]), np.array([IGNORED, 8]))]
    with torch.no_grad():
        logp = [model.eval()(torch.from_numpy(tokens)[None]).logits[0].log_softmax(-1) for tokens, _ in rows]
    expected = -(logp[0][1, 5] + logp[0][2, 6] + logp[1][0, 8]) / 3
    model.train()
    batches = [pad_rows(rows[:1], 2), pad_rows(rows[1:], 2)]
    assert labelled_loss(model, batches) == pytest.approx(expected.item(), rel=1e-5)
    assert model.training
