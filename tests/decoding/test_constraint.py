"""The index on the device: children, rules and seen items against sets of Semantic IDs."""

import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny

from plum.decoding import constraint
from plum.decoding.beam import beam_search
from plum.decoding.constraint import AllCodes, DeviceTrie
from plum.decoding.trie import Trie
from plum.errors import PlumError
from plum.retrievers.generative import Generative
from plum.sid.codec import Codec
from plum.sid.table import SidTable

CPU = torch.device("cpu")


def codec_of(sizes):
    return Codec(tuple(np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])))


def device_trie(codes, sizes):
    return DeviceTrie.put(Trie.build(codes, sizes), codec_of(sizes), CPU)


def legal_codes(index, level, nodes, legal):
    """Per user and beam the set of (code, node) that may follow."""
    children = index.children(level, nodes, legal)
    allowed = torch.ones_like(children.nodes, dtype=torch.bool) if children.legal is None else children.legal
    codes = torch.arange(allowed.shape[2]).expand_as(allowed) if children.codes is None else children.codes
    return [
        [
            set(zip(codes[user, beam][row].tolist(), children.nodes[user, beam][row].tolist(), strict=True))
            for beam, row in enumerate(rows)
        ]
        for user, rows in enumerate(allowed)
    ]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), dense=st.booleans())
def test_what_may_follow_is_what_some_legal_item_goes_on_with(seed, dense):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 3).tolist()
    codes = np.stack([rng.integers(0, size, 30) for size in sizes], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        if not dense:  # no small table: only levels that are nearly full get one
            patch.setattr(constraint, "SMALL_TABLE", 0)
        index = device_trie(codes, sizes)
    masks = [None, rng.random(30) < 0.5, rng.random(30) < 0.1]
    seen = [rng.integers(0, 30, rng.integers(0, 12)) for _ in masks]
    legal = index.legal([None if mask is None else index.prune(mask) for mask in masks], seen)
    free = [np.ones(30, bool) if mask is None else mask.copy() for mask in masks]
    for user, items in enumerate(seen):
        free[user][items] = False
    for level in range(3):
        prefixes = np.unique(codes[:, :level], axis=0) if level else np.zeros((1, 0), dtype=int)
        nodes = torch.arange(len(prefixes)).expand(3, -1)
        deeper = [tuple(row) for row in np.unique(codes[:, : level + 1], axis=0)]
        for user, beams in enumerate(legal_codes(index, level, nodes, legal)):
            for prefix, found in zip(prefixes, beams, strict=True):
                under = codes[free[user] & (codes[:, :level] == prefix).all(axis=1)]
                follows = {int(code) for code in under[:, level]}
                assert found == {(code, deeper.index((*prefix.tolist(), code))) for code in follows}
    for user in range(3):
        alone = legal_codes(index, 0, torch.zeros(1, 1, dtype=torch.long), legal.user(user))
        assert alone[0] == legal_codes(index, 0, torch.zeros(3, 1, dtype=torch.long), legal)[user]


def test_no_rule_and_nothing_seen_is_no_constraint():
    index = device_trie(np.array([[0, 1], [1, 0]]), (2, 2))
    assert index.legal([None, None], None) is None
    assert index.legal([None, None], [np.array([], dtype=np.int64)] * 2) is None


def test_users_of_one_rule_share_its_memory():
    index = device_trie(np.array([[0, 1], [1, 0]]), (2, 2))
    rule = index.prune(np.array([True, False]))
    legal = index.legal([rule] * 50, None)
    assert [len(level) for level in legal.alive] == [1, 1]


def test_masks_that_do_not_fit_are_refused_and_read_only_ones_are_taken_in_silence():
    index = device_trie(np.array([[0, 1], [1, 0]]), (2, 2))
    for mask in (np.ones(3, dtype=bool), np.ones(2), np.ones((2, 1), dtype=bool)):
        with pytest.raises(ValueError, match=r"a mask must be \(2,\) bool"):
            index.prune(mask)
    mask = np.array([True, False])
    mask.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert index.prune(mask).counts.tolist() == [0, 1, 1]


def test_an_empty_index_and_one_of_other_tokens_are_refused():
    with pytest.raises(PlumError, match="holds no item"):
        device_trie(np.zeros((0, 2), dtype=np.int64), (2, 2))
    trie = Trie.build(np.array([[0, 1]]), (2, 2))
    with pytest.raises(PlumError, match="belong to different Semantic IDs"):
        DeviceTrie.put(trie, codec_of((2, 3)), CPU)


@pytest.mark.parametrize("other", [np.array([[1, 0], [0, 1], [0, 1]]), np.array([[0, 1], [1, 0]])])
def test_a_retriever_refuses_the_index_of_another_table(other):
    codes = np.array([[0, 1], [0, 1], [1, 0]])
    table, codec = SidTable(codes, (2, 2)), codec_of((2, 2))
    options = {"prefix": np.array([9]), "max_history": 3, "popularity": np.zeros(3)}
    Generative(tiny("llama"), table, codec, **options, trie=Trie.build(codes, (2, 2)))
    with pytest.raises(PlumError):
        Generative(tiny("llama"), table, codec, **options, trie=Trie.build(other, (2, 2)))


def test_nodes_without_a_constraint_are_counted_by_digits():
    free = AllCodes((3, 4, 5), codec_of((3, 4, 5)).token_ids)
    assert free.n_nodes == (3, 12, 60)
    index = device_trie(np.array([[0, 1], [0, 1], [1, 0]]), (2, 2))
    assert index.n_nodes == (2, 2)


@pytest.mark.slow
def test_the_parts_of_decoding_are_at_the_door_and_loaded_when_asked_for():
    code = (
        "import sys, plum.decoding as door; assert 'torch' not in sys.modules; "
        "assert all(getattr(door, name).__name__ == name for name in door.__all__); "
        "from plum.decoding import beam_search; assert not hasattr(door, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("n_users", [1, 8])
def test_look_ups_are_a_fiftieth_of_a_search_at_most(n_users):
    """With a million parameters, a rule and 50 seen items; a share of time, since the machine may be busy."""
    rng, sizes, text = np.random.default_rng(0), (256, 256, 256, 8), 2000
    codes = np.stack([rng.integers(0, size, 12_000) for size in sizes], axis=1)
    shape = hf.LlamaConfig(
        vocab_size=text + sum(sizes),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    model = hf.LlamaForCausalLM(shape).eval()
    codec = Codec(tuple(np.split(np.arange(text, shape.vocab_size), np.cumsum(sizes)[:-1])))
    index = DeviceTrie.put(Trie.build(codes, sizes), codec, CPU)
    prompts = [codec.encode(codes[rng.integers(0, 12_000, 12)]).reshape(-1) for _ in range(n_users)]
    rule, seen = index.prune(rng.random(12_000) < 0.3), [rng.integers(0, 12_000, 50) for _ in prompts]
    beams = [torch.from_numpy(rng.integers(0, n, (n_users, 50))) for n in (1, *index.n_nodes[:-1])]

    def legal():
        return index.legal([rule] * n_users, seen)

    def look_up():
        allowed = legal()
        for level, nodes in enumerate(beams):
            index.children(level, nodes, allowed)

    def seconds(run):
        run()
        times = []
        for _ in range(9):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return np.median(times)

    whole = seconds(lambda: beam_search(model, prompts, index, 50, legal()))
    assert seconds(look_up) < 0.02 * whole
