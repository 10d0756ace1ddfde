"""Codes in texts under every type of tokenizer, before and after saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_tokenizers
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from plum.config.templates import parse_template
from plum.corpus import metadata
from plum.corpus.encoder import Encoder
from plum.errors import PlumError
from plum.lm import documents, vocab
from plum.sid.codec import sid_tokens

SIZES = (12, 3, 2)
CODES = np.array([[11, 2, 0], [1, 0, 1], [10, 1, 1], [0, 0, 0]])
TEMPLATES = {
    name: [parse_template(f"Item {{sid}} has {name}: {{{name}}}")]
    for name in ("title", "topics", "creator", "description")
}
ITEMS = {
    "title": ["Heat (1995)", " Åß naïve", "<|sid_0_3|> </s> [x]", "ſ ﬁ Ⅳ"],
    "topics": [["Action", "Crime"], None, ["<|sid_1_1|><|sid_2_0|>"], []],
    "creator": [None, "Mann", "<s><unk><pad>", None],
    "description": ["Cops. And robbers.", None, "東京 \t x", "<|sid_0_1|"],
}


def check(tokenizer: hf.PreTrainedTokenizerBase) -> None:
    """Every document holds its item's codes in order and nothing that looks like one."""
    codec = vocab.codec_of(tokenizer, SIZES)
    known = set(np.concatenate(codec.token_ids).tolist())
    found = list(metadata.facts(range(len(CODES)), ITEMS, TEMPLATES, seed=0))
    owners = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3]
    assert [sentence.owner for sentence in found] == owners
    for draft in metadata.drafts(found, codec.encode(CODES), Encoder(tokenizer)):
        ids = np.concatenate([draft.head, *draft.units, draft.tail]).tolist()
        assert [token for token in ids if token in known] == codec.encode(CODES)[draft.owner].tolist()
        assert not set(ids) & ({tokenizer.eos_token_id, tokenizer.pad_token_id} - {tokenizer.unk_token_id})
        pieces = tokenizer.decode(ids, skip_special_tokens=False).replace(" ", "")
        assert codec.text(CODES[draft.owner]) in pieces
    sid = codec.text(CODES[0])
    assert tokenizer.encode(sid, add_special_tokens=False) == codec.encode(CODES)[0].tolist()
    assert len(documents.history_prefix(tokenizer)) > 0


@pytest.mark.parametrize("kind", tiny_tokenizers.KINDS)
def test_documents_hold_their_codes_before_and_after_saving(kind: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizers.tokenizer_of(kind, tmp_path)
    vocab.add_sid_tokens(tokenizer, SIZES)
    check(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    check(hf.AutoTokenizer.from_pretrained(tmp_path))


def test_codes_of_an_older_tokenizer_are_made_whole() -> None:
    tokenizer = tiny_tokenizers.tokenizer_of("prepend (Mistral, Phi-3)", Path())
    tokenizer.add_tokens(sid_tokens(SIZES))  # looked for after the normaliser
    before = vocab.flat_token_ids(tokenizer, SIZES)
    codec = vocab.codec_of(tokenizer, SIZES)
    sid = codec.text(CODES[0])
    assert tokenizer.encode(sid, add_special_tokens=False) != codec.encode(CODES)[0].tolist()
    vocab.add_sid_tokens(tokenizer, SIZES)
    assert vocab.flat_token_ids(tokenizer, SIZES).tolist() == before.tolist()
    check(tokenizer)


def bare(words: dict[str, int]) -> hf.PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_a_tokenizer_that_cannot_encode_a_text_is_named() -> None:
    with pytest.raises(PlumError, match="TokenizersBackend can't encode the text 'wh ='"):
        documents.history_prefix(bare({"Item": 0}))


def test_a_tokenizer_without_a_vocabulary_is_named() -> None:
    empty = hf.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(PlumError, match="makes no token of 'wh ='"):
        documents.history_prefix(empty)
