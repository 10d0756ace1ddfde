"""Texts as tokens, piece by piece."""

import pytest
import tiny_tokenizers
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from plum.corpus.encoder import Encoder
from plum.errors import PlumError
from plum.lm.vocab import add_tokens, train_tokenizer


def lists(found):
    return [ids.tolist() for ids in found]


def test_texts_become_what_the_tokenizer_makes_of_them_in_their_order():
    tokenizer = train_tokenizer(["one two"], 300)
    texts = ["one", " two", "one", "東京"]
    assert lists(Encoder(tokenizer).encode(texts)) == [
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts
    ]
    assert lists(Encoder(tokenizer).encode([])) == []


def test_no_text_becomes_a_control_token_a_code_or_a_bin():
    tokenizer = train_tokenizer(["one"], 300)
    add_tokens(tokenizer, ["<|sid_0_1|>", "<|rating_0|>"])
    control = tokenizer.convert_tokens_to_ids(["<|bos|>", "<|eos|>", "<|pad|>", "<|sid_0_1|>", "<|rating_0|>"])
    text = "<|bos|> <|eos|><|pad|>x<|sid_0_1|> <|rating_0|>"
    found = Encoder(tokenizer, ["<|rating_0|>"]).encode([text])[0].tolist()
    assert not set(found) & set(control)
    assert tokenizer.decode(found).replace("< |", "<|") == text.replace("<|sid_", "<|sid_")


def test_a_tokenizer_that_adds_a_space_adds_no_second_one(tmp_path):
    tokenizer = tiny_tokenizers.tokenizer_of("prepend (Mistral, Phi-3)", tmp_path)
    encoder = Encoder(tokenizer)
    assert lists(encoder.encode([" Cops"])) == lists(encoder.encode(["Cops"]))


def test_a_vocabulary_that_is_too_small_is_refused():
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "cat": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encoder = Encoder(hf.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>"))
    encoder.encode(["a cat " * 900 + "a dog " * 50])
    assert (encoder.tokens, encoder.unknown) == (1900, 50)
    with pytest.raises(PlumError, match=r"too small for the texts(.|\n)*as in 'a dog"):
        encoder.encode(["a dog " * 900])
