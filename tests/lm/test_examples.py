import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plum.lm.examples import IGNORED, Window, batches, n_batches, next_item_windows, pad_rows, windows

ITEM_TOKENS = np.arange(200).reshape(100, 2) + 10  # item i is tokens 10 + 2i, 11 + 2i
PREFIX = np.array([1, 2])
PAD = 0


def epoch_of(cut, batch_size=4, history_dropout=0.0, seed=0, epoch=0):
    return list(batches(cut, ITEM_TOKENS, PREFIX, batch_size, history_dropout, PAD, seed, epoch))


def rows_of(cut, **options):
    """(tokens, labels) of each window without padding, as item rows."""
    rows = []
    for batch in epoch_of(cut, **options):
        for tokens, labels in zip(batch.tokens.tolist(), batch.labels.tolist(), strict=True):
            length = len(tokens) - tokens[::-1].index(next(t for t in reversed(tokens) if t != PAD))
            rows.append((tokens[:length], labels[:length]))
            assert set(labels[length:]) <= {IGNORED}
    return rows


def test_the_worked_example():
    cut = windows([np.arange(7)], 4)
    assert [(window.items.tolist(), window.n_context) for window in cut] == [
        ([0, 1, 2, 3], 0),
        ([2, 3, 4, 5], 2),
        ([3, 4, 5, 6], 3),
    ]


def test_short_and_empty_histories():
    cut = windows([np.array([5]), np.array([], dtype=np.int64), np.arange(4)], 4)
    assert [(window.items.tolist(), window.n_context) for window in cut] == [([5], 0), ([0, 1, 2, 3], 0)]


@given(lengths=st.lists(st.integers(0, 40), max_size=5), max_history=st.integers(1, 12))
def test_every_item_is_a_target_once_with_half_a_window_before_it(lengths, max_history):
    histories = [100 * user + np.arange(length) for user, length in enumerate(lengths)]
    cut = windows(histories, max_history)
    targets = [item for window in cut for item in window.items[window.n_context :].tolist()]
    assert sorted(targets) == sorted(item for history in histories for item in history.tolist())
    for window in cut:
        assert 1 <= len(window.items) <= max_history
        assert len(window.items) > window.n_context
        assert (np.diff(window.items) == 1).all()
        before_target = int(window.items[window.n_context]) % 100
        assert window.n_context >= min(before_target, max_history // 2) or before_target < max_history


def test_labels_are_the_tokens_of_targets():
    rows = rows_of([Window(np.array([3, 0, 4]), 1), Window(np.array([2]), 0)])
    assert sorted(rows) == [
        ([1, 2, 14, 15], [IGNORED, IGNORED, 14, 15]),
        ([1, 2, 16, 17, 10, 11, 18, 19], [IGNORED] * 4 + [10, 11, 18, 19]),
    ]


@given(seed=st.integers(0, 1000), dropout=st.sampled_from([0.0, 0.3, 0.99]))
def test_dropout_takes_whole_items_and_leaves_a_target(seed, dropout):
    rng = np.random.default_rng(seed)
    cut = windows([rng.permutation(50)[: rng.integers(1, 30)] for _ in range(6)], 8)
    rows = rows_of(cut, history_dropout=dropout, seed=seed)
    assert len(rows) == len(cut)
    for tokens, labels in rows:
        assert tokens[:2] == [1, 2]
        assert any(label != IGNORED for label in labels)
        assert all(label in (IGNORED, token) for token, label in zip(tokens, labels, strict=True))
        pairs = np.array(tokens[2:]).reshape(-1, 2)
        assert (pairs[:, 0] % 2 == 0).all()
        assert (pairs[:, 1] == pairs[:, 0] + 1).all()


def test_dropout_leaves_out_the_share_asked_for():
    cut = [Window(np.arange(50), 0)] * 200
    kept = sum(len(tokens) - 2 for tokens, _ in rows_of(cut, history_dropout=0.3)) / (200 * 100)
    assert kept == pytest.approx(0.7, abs=0.02)


def test_an_epoch_is_a_function_of_seed_and_number():
    cut = windows([np.arange(n) for n in range(1, 30)], 8)

    def flat(**options):
        return [row for batch in epoch_of(cut, history_dropout=0.2, **options) for row in batch.tokens.tolist()]

    assert flat(seed=0, epoch=1) == flat(seed=0, epoch=1)
    assert flat(seed=0, epoch=1) != flat(seed=0, epoch=2)
    assert flat(seed=0, epoch=1) != flat(seed=1, epoch=1)


def test_batches_are_counted_right_and_hold_windows_of_like_length():
    cut = [Window(np.arange(n), 0) for n in np.random.default_rng(0).integers(1, 50, 101)]
    epoch = epoch_of(cut, batch_size=10)
    assert len(epoch) == n_batches(cut, 10) == 11
    assert sum(len(batch.tokens) for batch in epoch) == 101
    padding = sum(int((batch.tokens == PAD).sum()) for batch in epoch)
    assert padding < 0.25 * sum(batch.tokens.numel() for batch in epoch)
    assert n_batches([], 10) == 0
    assert epoch_of([]) == []


def test_rows_are_padded_on_the_right():
    batch = pad_rows([(np.array([5, 6, 7]), np.array([IGNORED, 6, 7])), (np.array([8]), np.array([8]))], pad=9)
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.labels.tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]
    assert batch.tokens.dtype == batch.labels.dtype == torch.int64


def test_validation_windows_end_with_the_next_item_alone_as_target():
    histories, targets = [np.arange(7), np.array([9])], [np.array([7, 8]), np.array([1])]
    long, short = next_item_windows(histories, targets, 4)
    assert (long.items.tolist(), long.n_context) == ([3, 4, 5, 6, 7], 4)
    assert (short.items.tolist(), short.n_context) == ([9, 1], 1)
