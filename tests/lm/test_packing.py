from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.lm.packing import Mixture, pack

END = 0


def documents(lengths, first=1):
    """Documents of distinct tokens, so that each can be traced."""
    stops = first + np.cumsum(lengths)
    return [np.arange(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    block_length=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_packing_loses_no_token_and_keeps_documents_whole(lengths, block_length, seed):
    corpus = documents(lengths)
    blocks = pack(corpus, block_length, END, np.random.default_rng(seed))
    total = sum(lengths) + len(lengths)
    assert blocks.shape == (-(-total // block_length), block_length)
    assert blocks.dtype == np.int64
    stream = blocks.reshape(-1)
    closed = "".join(f"{token}," for token in stream[:total])
    for document in corpus:
        assert "".join(f"{token}," for token in [*document, END]) in closed
    assert Counter(stream[:total].tolist())[END] == len(lengths)
    assert np.array_equal(stream[total:], np.resize(stream[:total], len(stream))[total:])  # filled up from the start


def rows_from_behaviour(mixture, epoch=0):
    """Per step, how many rows hold behaviour tokens (below 1000), and the rows."""
    steps = list(mixture.batches(epoch))
    return [int((step.max(1) < 1000).sum()) for step in steps], steps


def mixture_of(behaviour=(30, 50, 80), metadata=(20, 5), batch_size=4, share=0.5, seed=0, block_length=8):
    return Mixture(documents(behaviour), documents(metadata, 1000), block_length, batch_size, share, end=END, seed=seed)


@given(
    batch_size=st.integers(1, 9),
    share=st.floats(0.05, 1.0),
    behaviour=st.lists(st.integers(8, 60), min_size=1, max_size=8),
    metadata=st.lists(st.integers(8, 60), max_size=5),
)
def test_shapes_share_and_one_pass_over_behaviour(batch_size, share, behaviour, metadata):
    mixture = mixture_of(behaviour, metadata, batch_size, share)
    counts, steps = rows_from_behaviour(mixture)
    assert len(steps) == mixture.steps_per_epoch >= 1
    assert all(step.shape == (batch_size, 8) and step.dtype == np.int64 for step in steps)
    wanted = batch_size * (share if metadata else 1.0)
    assert np.abs(np.cumsum(counts) - wanted * np.arange(1, len(steps) + 1)).max() < 1.001
    assert set(range(1, sum(behaviour) + 1)) <= set(np.concatenate(steps).reshape(-1).tolist())
    blocks = -(-(sum(behaviour) + len(behaviour)) // 8)
    assert wanted * (len(steps) - 1) < blocks + 1e-6  # no step more than one pass needs


def test_half_and_half():
    assert set(rows_from_behaviour(mixture_of())[0]) == {2}
    assert rows_from_behaviour(mixture_of(batch_size=1))[0][:4] == [0, 1, 0, 1]


def test_without_metadata_all_rows_are_behaviour():
    assert set(rows_from_behaviour(mixture_of(metadata=()))[0]) == {4}


def test_an_epoch_is_a_function_of_seed_and_number():
    def epoch(number, seed=0):
        return np.concatenate(list(mixture_of(seed=seed).batches(number)))

    assert np.array_equal(epoch(0), epoch(0))
    assert not np.array_equal(epoch(0), epoch(1))
    assert not np.array_equal(epoch(0), epoch(0, seed=1))


def test_a_small_corpus_is_packed_anew_when_used_up():
    _, steps = rows_from_behaviour(mixture_of(behaviour=(200,), metadata=(3, 2)))
    metadata = np.concatenate([row for step in steps for row in step if row.max() >= 1000])
    counts = Counter(metadata[metadata >= 1000].tolist())
    assert sorted(counts) == [1000, 1001, 1002, 1003, 1004]
    assert min(counts.values()) == 2 * len(steps)  # one pass fills one block, a step takes two


def test_mistakes_are_named():
    with pytest.raises(PlumError, match="no behaviour documents"):
        mixture_of(behaviour=())
    with pytest.raises(ValueError, match="behaviour_share"):
        mixture_of(share=0.0)
