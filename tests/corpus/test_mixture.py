"""Batches of several kinds of documents in fixed shares."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.corpus.documents import Document
from plum.corpus.mixture import Mixture, apart
from plum.errors import PlumError
from plum.lm.examples import IGNORED

END = 0
FIRST = {"behaviour": 1, "metadata": 10_000, "replay": 20_000}


class InMemory:
    """Documents that need no file; every token of them is different, so that each can be traced."""

    def __init__(self, lengths, first, head=0, unit=0):
        stops = first + np.cumsum(lengths)
        self.ids = [np.arange(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
        self.lengths = np.array(lengths, dtype=np.int32)
        self.head, self.unit = head, unit

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, number):
        ids = self.ids[number]
        cuts = np.arange(self.head + self.unit, len(ids), self.unit) if self.unit else np.zeros(0, np.int64)
        return Document(ids, cuts, self.head, number)

    def tokens(self, number):
        return self.ids[number]


def mixture_of(batch_size=4, block_length=32, seed=0, by_epochs=False, weights=None, unit=0, **lengths):
    corpora = {name: InMemory(each, FIRST[name], 2 if unit else 0, unit) for name, each in lengths.items()}
    weights = weights or dict.fromkeys(lengths, 1.0)
    return Mixture(corpora, weights, block_length, batch_size, END, seed, by_epochs)


def kinds_of(batches):
    """How many tokens of each kind there are."""
    tokens = np.concatenate([batch.tokens.numpy().ravel() for batch in batches])
    borders = [1, 10_000, 20_000, 30_000]
    return [int(((tokens >= low) & (tokens < high)).sum()) for low, high in itertools.pairwise(borders)]


LENGTHS = st.lists(st.integers(3, 30), min_size=1, max_size=30)


@given(batch_size=st.integers(1, 5), behaviour=LENGTHS, metadata=st.lists(st.integers(3, 30), max_size=30))
def test_an_epoch_holds_all_behaviour_and_as_much_of_the_rest(batch_size, behaviour, metadata):
    mixture = mixture_of(batch_size, behaviour=behaviour, metadata=metadata)
    batches = list(mixture.batches(0))
    assert len(batches) == mixture.steps_per_epoch >= 1
    for batch in batches:
        assert batch.tokens.shape == batch.labels.shape == batch.positions.shape == (batch_size, 32)
    counts = Counter(itertools.chain.from_iterable(batch.tokens.flatten().tolist() for batch in batches))
    assert all(counts[token] >= 1 for token in range(1, sum(behaviour) + 1))
    assert 0 < mixture.packing_efficiency <= 1
    assert mixture.shares == ({"behaviour": 0.5, "metadata": 0.5} if metadata else {"behaviour": 1.0})


@pytest.mark.parametrize(("weights", "shares"), [((1, 1, 2), (0.25, 0.25, 0.5)), ((7, 3, 0.5), (2 / 3, 2 / 7, 1 / 21))])
def test_weights_are_shares_of_the_tokens(weights, shares):
    named = dict(zip(FIRST, weights, strict=True))
    rng = np.random.default_rng(0)
    lengths = {name: rng.integers(3, 32, 300).tolist() for name in FIRST}
    mixture = mixture_of(weights=named, **lengths)
    assert list(mixture.shares.values()) == pytest.approx(shares)
    counts = kinds_of(mixture.batches(0))
    assert np.array(counts) / sum(counts) == pytest.approx(shares, abs=0.05)
    assert mixture.packing_efficiency > 0.95


def test_an_epoch_is_hardly_longer_than_a_pass():
    rng = np.random.default_rng(0)
    lengths = {"behaviour": rng.integers(60, 200, 400).tolist(), "metadata": rng.integers(8, 24, 6000).tolist()}
    mixture = mixture_of(block_length=200, **lengths)
    pass_alone = 2 * sum(lengths["behaviour"]) / 200 / 4
    assert mixture.steps_per_epoch < 1.05 * pass_alone + 1


def test_weights_may_count_passes():
    rng = np.random.default_rng(0)
    lengths = {"behaviour": rng.integers(3, 32, 200).tolist(), "metadata": rng.integers(3, 32, 400).tolist()}
    mixture = mixture_of(weights={"behaviour": 2, "metadata": 0.5}, by_epochs=True, **lengths)
    behaviour, metadata, _ = kinds_of(mixture.batches(0))
    assert behaviour / sum(lengths["behaviour"]) == pytest.approx(2, rel=0.05)
    assert metadata / sum(lengths["metadata"]) == pytest.approx(0.5, rel=0.05)


def test_later_epochs_go_on_where_the_one_before_stopped():
    rng = np.random.default_rng(0)
    lengths = {"behaviour": rng.integers(3, 32, 100).tolist(), "metadata": rng.integers(3, 32, 400).tolist()}
    mixture = mixture_of(**lengths)
    seen = [
        {token for batch in mixture.batches(epoch) for token in batch.tokens.flatten().tolist() if token >= 10_000}
        for epoch in range(4)
    ]
    assert len(set.union(*seen)) / sum(lengths["metadata"]) > 0.9  # a fourth in each epoch
    behaviour = {token for batch in mixture.batches(3) for token in batch.tokens.flatten().tolist() if token < 10_000}
    assert len(behaviour) / sum(lengths["behaviour"]) > 0.95


def test_an_epoch_is_a_function_of_seed_and_number():
    def epoch(number, seed=0):
        mixture = mixture_of(behaviour=[9, 17, 30, 5] * 9, metadata=[3, 8, 12] * 9, seed=seed)
        return np.concatenate([batch.tokens.numpy() for batch in mixture.batches(number)])

    assert np.array_equal(epoch(0), epoch(0))
    assert not np.array_equal(epoch(0), epoch(1))
    assert not np.array_equal(epoch(0), epoch(0, seed=1))


@given(behaviour=st.lists(st.integers(4, 15), min_size=1, max_size=20), seed=st.integers(0, 9))
def test_labels_and_positions_are_those_of_each_document_alone(behaviour, seed):
    lengths = [2 + 2 * n for n in behaviour]
    mixture = mixture_of(1, seed=seed, unit=2, behaviour=lengths)
    for batch in mixture.batches(0):
        tokens, labels, positions = (part[0].numpy() for part in (batch.tokens, batch.labels, batch.positions))
        starts = np.flatnonzero(positions == 0)
        for start, stop in zip(starts, [*starts[1:], 32], strict=True):
            assert positions[start:stop].tolist() == list(range(stop - start))
            assert labels[start] == IGNORED
            if tokens[start] == END:
                assert (labels[start:stop] == IGNORED).all()
            else:
                assert labels[start + 1 : stop].tolist() == tokens[start + 1 : stop].tolist()
        rows = apart(batch)
        assert rows.positions is None
        assert (rows.labels != IGNORED).sum() == (batch.labels != IGNORED).sum()
        found = [
            row[: int((mask != IGNORED).sum()) + 1].tolist() for row, mask in zip(rows.tokens, rows.labels, strict=True)
        ]
        assert [token for row in found for token in row] == tokens[tokens != END].tolist()


def test_mistakes_are_named():
    with pytest.raises(PlumError, match=r"no documents to pre-train on(.|\n)*none of behaviour, metadata"):
        mixture_of(behaviour=[], metadata=[])
    with pytest.raises(PlumError, match=r"a document of metadata is longer than the context(.|\n)*33 tokens"):
        mixture_of(behaviour=[5], metadata=[33])
