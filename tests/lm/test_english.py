"""Bits per character and cloze accuracy: by hand on models whose probabilities are known, and on the model's own."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import tiny_lms
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.lm import english, vocab

TEXTS = ["The cat sat on the mat . A dog barked at the cat !", "naïve café: 1995, <|eos|> and <unk>"] * 3
SIZES = (5, 4)


@pytest.fixture
def tokenizer() -> hf.PreTrainedTokenizerBase:
    return vocab.train_tokenizer(TEXTS, 280)


def random_model(tokenizer: hf.PreTrainedTokenizerBase, positions: int = 64) -> hf.LlamaForCausalLM:
    torch.manual_seed(0)
    model = vocab.scratch_model(vocab.ScratchShape(16, 2, 2, 32), tokenizer, positions)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data.normal_(std=0.3)
    return model.train()


def following(tokenizer: hf.PreTrainedTokenizerBase, after: dict[int, int]) -> hf.LlamaForCausalLM:
    """A model whose first choice after a token is the one given, by one-hot embeddings and layers that add nothing."""
    n = len(tokenizer)
    config = hf.LlamaConfig(
        vocab_size=n,
        hidden_size=n,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    model = hf.LlamaForCausalLM(config)
    for weight in model.model.layers.parameters():
        weight.data.zero_()
    model.model.embed_tokens.weight.data = torch.eye(n)
    model.lm_head.weight.data.zero_()
    for token, other in after.items():
        model.lm_head.weight.data[other, token] = 1.0
    return model


def log_probability(model: hf.PreTrainedModel, tokens: list[int], first: int, rows: list[int]) -> float:
    """Of the tokens from ``first`` on, each after all before it, by the model's own output over some rows."""
    model.eval()
    logits = model(input_ids=torch.tensor([tokens])).logits[0].double()
    among = torch.full_like(logits, -math.inf)
    among[:, rows] = logits[:, rows]
    chosen = among.log_softmax(-1)[range(first - 1, len(tokens) - 1), tokens[first:]]
    return float(chosen.sum().detach())


def test_a_model_that_knows_nothing_needs_the_same_bits_for_each_token(tokenizer):
    model = random_model(tokenizer)
    model.model.embed_tokens.weight.data.zero_()
    text = TEXTS[0]
    found = english.text_bits(model, tokenizer, text)
    n = len(tokenizer(text)["input_ids"])
    assert (found.tokens, found.characters, found.unknown) == (n, len(text), 0)
    assert found.bits_per_character == pytest.approx(n * math.log2(len(tokenizer)) / len(text))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2"])
def test_a_short_text_has_the_probability_that_the_model_gives_it(name, tokenizer):
    model = tiny_lms.model_of(name)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    text = "The cat"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) < 11
    found = english.text_bits(model, tokenizer, text)
    every = list(range(len(tokenizer)))
    nats = -log_probability(model, [tokenizer.eos_token_id, *ids], 1, every)
    assert found.bits_per_character == pytest.approx(nats / math.log(2) / len(text), rel=1e-5)


def test_windows_overlap_by_half_and_score_each_token_once(tokenizer):
    model, text = random_model(tokenizer), " ".join(TEXTS)
    ids, start = tokenizer(text, split_special_tokens=True)["input_ids"], tokenizer.eos_token_id
    nats, every = 0.0, list(range(len(tokenizer)))
    body = 12  # of windows of 13
    nats -= log_probability(model, [start, *ids[:body]], 1, every)
    for begin in range(body, len(ids), 6):
        nats -= log_probability(model, [start, *ids[begin - 6 : begin + 6]], 7, every)
    for batch_size in (1, 3):
        found = english.text_bits(model, tokenizer, text, window=13, batch_size=batch_size)
        assert found.bits_per_character == pytest.approx(nats / math.log(2) / len(text), rel=1e-5)


@given(n=st.integers(0, 200), body=st.integers(1, 50))
def test_windows_cover_a_text_without_gaps(n, body):
    windows = list(english._windows(n, body))
    assert [begin for _, begin, _ in windows] == [0, *(end for *_, end in windows)][: len(windows)]
    assert (windows[-1][2] if windows else 0) == n
    for first, begin, end in windows:
        assert 0 < end - first <= body
        assert begin == 0 or begin - first == body // 2


def test_the_windows_of_the_docstring():
    assert list(english._windows(7, 4)) == [(0, 0, 4), (2, 4, 6), (4, 6, 7)]


def test_a_model_of_short_sequences_reads_short_windows(tokenizer):
    text = " ".join(TEXTS)
    short, long = random_model(tokenizer, positions=16), random_model(tokenizer, positions=64)
    assert english.text_bits(short, tokenizer, text) == english.text_bits(long, tokenizer, text, window=16)


def test_semantic_ids_in_the_vocabulary_change_nothing(tokenizer):
    model, text = random_model(tokenizer), " ".join(TEXTS)
    gaps = english.Gaps((english.Gap("The cat sat on the", "mat"), english.Gap("A dog barked at the", "cat")), "cat")
    bits, guessed = english.text_bits(model, tokenizer, text), english.cloze(model, tokenizer, gaps)
    vocab.add_sid_tokens(tokenizer, SIZES)
    vocab.extend_embeddings(model, tokenizer, SIZES)
    with torch.no_grad():  # the codes' rows as likely as can be
        model.model.embed_tokens.weight[-sum(SIZES) :] *= 50
    again = english.text_bits(model, tokenizer, text)
    assert again.bits_per_character == pytest.approx(bits.bits_per_character, rel=1e-6)
    assert english.cloze(model, tokenizer, gaps) == guessed


def test_the_beginning_alone_is_measured_and_the_mode_stays(tokenizer):
    model, text = random_model(tokenizer), " ".join(TEXTS)
    found = english.text_bits(model, tokenizer, text, limit=20)
    assert found == english.text_bits(model, tokenizer, text[:20])
    assert (found.characters, model.training) == (20, True)


def test_what_looks_like_a_control_token_is_text(tokenizer):
    model = random_model(tokenizer)
    assert english.text_bits(model, tokenizer, "<|eos|>").tokens > 1


def test_no_text_is_an_error(tokenizer):
    with pytest.raises(PlumError, match="no text to measure"):
        english.text_bits(random_model(tokenizer), tokenizer, "")


def paragraph(end: str) -> str:
    return (
        "This goes on and on for so many words that any patient reader may guess what follows, which is where we all "
        + end
    )


TEXT = "\n".join(
    [paragraph("agree ."), paragraph("meet!"), "Too short to tell.", paragraph("meet?"), paragraph("go ?")]
)


def test_gaps_are_last_words_of_sentences_with_enough_before_them():
    gaps = english.draw_gaps(TEXT, 10, seed=0)
    assert [gap.word for gap in gaps.drawn] == ["agree", "meet", "meet"]
    assert gaps.drawn[0].context == paragraph("").rstrip()
    assert gaps.usual is None
    twice = english.draw_gaps(TEXT.replace("so many words", "so many words ." + " x" * 500 + " again ,"), 10, seed=0)
    assert all(len(gap.context) <= english.CONTEXT for gap in twice.drawn)
    assert [gap.word for gap in twice.drawn] == ["agree", "meet", "meet"]


def test_gaps_are_drawn_by_the_seed_and_the_usual_word_is_of_the_others():
    many = "\n".join([paragraph("agree ."), paragraph("meet !"), paragraph("meet .")] * 10)
    one, same, other = (english.draw_gaps(many, 8, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one.drawn) == 8
    assert one.usual == "meet"
    assert english.draw_gaps("", 3, 0) == english.Gaps((), None)


def test_a_gap_is_filled_if_all_tokens_of_the_word_are_first_choices(tokenizer):
    tokens = tokenizer(" the café")["input_ids"]
    assert len(tokens) > 2
    gaps = english.Gaps(
        (english.Gap("on the", "café"), english.Gap("on the", "cat"), english.Gap("on a", "café")), "cat"
    )
    knows = following(tokenizer, dict(pairwise(tokens)))
    found = english.cloze(knows, tokenizer, gaps)
    assert (found.accuracy, found.gaps, found.usual_accuracy) == (1 / 3, 3, 1 / 3)
    forgets = following(tokenizer, dict(pairwise(tokens[:-1])))
    assert english.cloze(forgets, tokenizer, gaps).accuracy == 0


def test_no_gaps_give_no_accuracy(tokenizer):
    found = english.cloze(random_model(tokenizer), tokenizer, english.Gaps((), None))
    assert found.gaps == 0
    assert math.isnan(found.accuracy)


def test_a_long_context_is_cut_on_the_left(tokenizer):
    tokens = tokenizer(" the cat")["input_ids"]
    model = following(tokenizer, dict(pairwise(tokens)))
    gaps = english.Gaps((english.Gap("dog " * 100 + "the", "cat"),), None)
    assert english.cloze(model, tokenizer, gaps).accuracy == 1


def test_a_text_begins_with_the_start_token_only_where_the_tokenizer_sets_it(tokenizer):
    assert english.start_token(tokenizer) == tokenizer.eos_token_id
    from tokenizers.processors import TemplateProcessing

    begun = vocab.train_tokenizer(TEXTS, 280)
    start = str(begun.bos_token)
    begun.backend_tokenizer.post_processor = TemplateProcessing(
        single=[start, "$A"], special_tokens=[(start, begun.bos_token_id)]
    )
    assert english.start_token(begun) == begun.bos_token_id
