"""Codes <-> tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.sid.codec import Codec, sid_tokens


def test_tokens_by_hand():
    assert sid_tokens((2, 1)) == ["<|sid_0_0|>", "<|sid_0_1|>", "<|sid_1_0|>"]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_encoding_is_the_vocabulary_s_id_of_the_text_and_can_be_undone(sizes, data):
    order = data.draw(st.permutations(sid_tokens(sizes)))  # a tokenizer may give the tokens any ids
    vocabulary = {token: 100 + place for place, token in enumerate(order)}
    codec = Codec.from_vocabulary(sizes, vocabulary)
    codes = np.array([[data.draw(st.integers(0, size - 1)) for size in sizes] for _ in range(3)])
    ids = codec.encode(codes)
    assert codec.n_levels == len(sizes)
    assert ids.shape == codes.shape
    name = {number: token for token, number in vocabulary.items()}
    for row in range(3):
        assert "".join(name[i] for i in ids[row].tolist()) == codec.text(codes[row])
    back = [[codec.token_ids[level].tolist().index(i) for level, i in enumerate(row)] for row in ids.tolist()]
    assert back == codes.tolist()


def test_a_vocabulary_without_the_tokens_is_an_error():
    with pytest.raises(KeyError, match="sid_0_1"):
        Codec.from_vocabulary([2], {"<|sid_0_0|>": 0})
