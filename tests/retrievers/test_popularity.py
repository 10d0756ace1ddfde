import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.evaluation.rankings import top_k
from plum.retrievers import sums
from plum.retrievers.popularity import DAY, Popularity, RecencyPopularity, choose_half_life

# Five users' items: 0 and 1 go together, 2 is taken by many, 3 once, 4 never.
LOG = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 2), (2, 0), (3, 2), (4, 2), (4, 3)]
USERS, ITEMS = (np.array(column) for column in zip(*LOG, strict=True))


def rows(*lists):
    return [np.array(entries, dtype=np.int64) for entries in lists]


def test_popularity_ranks_by_training_count_and_never_by_nothing():
    found = Popularity(np.array([3, 7, 0, 3])).recommend(rows([1], []), 4, None)
    assert found.items.tolist() == [[1, 0, 3, -1], [1, 0, 3, -1]]
    assert found.scores[0].tolist() == [7.0, 3.0, 3.0, -np.inf]


def test_popularity_leaves_out_what_a_user_has_seen():
    found = Popularity(np.array([3, 7, 0, 3])).recommend(rows([], []), 2, rows([1], [0, 3]))
    assert found.items.tolist() == [[0, 3], [1, -1]]


@pytest.mark.parametrize("counts", [np.zeros((2, 2)), np.array([1, -1])])
def test_popularity_refuses_counts_that_are_none(counts):
    with pytest.raises(ValueError, match="train_counts"):
        Popularity(counts)


def test_popularity_in_batches_is_popularity(monkeypatch):
    counts = np.array([5, 1, 9])
    whole = Popularity(counts).recommend(rows([], [], []), 2, rows([2], [], [0]))
    monkeypatch.setattr(sums, "_BATCH_ENTRIES", 3)
    assert np.array_equal(Popularity(counts).recommend(rows([], [], []), 2, rows([2], [], [0])).items, whole.items)
    assert whole.items.tolist() == [[0, 1], [2, 0], [2, 1]]


@given(seed=st.integers(0, 2**32 - 1), entries=st.sampled_from([1, 20, 1 << 24]))
def test_popularity_is_a_ranking_of_the_whole_catalogue_less_what_was_seen(seed, entries):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 20)), int(rng.integers(1, 25))
    counts = rng.integers(0, 4, n)
    seen = [rng.integers(0, n, rng.integers(0, 2 * n)) for _ in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "_BATCH_ENTRIES", entries)
        found = Popularity(counts).recommend(seen, k, seen)
    expected = top_k(np.tile(np.where(counts > 0, counts, -np.inf), (4, 1)), k, seen)
    assert np.array_equal(found.items, expected.items)
    assert np.array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("seen", [rows([3]), rows([-1]), rows([0], [1])])
def test_popularity_refuses_seen_items_that_are_none(seen):
    with pytest.raises(ValueError, match=r"0\.\.2|seen has 2 entries"):
        Popularity(np.array([5, 1, 9])).recommend(rows([]), 2, seen)


def test_an_interaction_counts_half_after_each_half_life():
    # Half-life 10: item 0 has 1/2 + 1/2, item 1 has 1, item 3 has 1 + 1/4, item 4 has 1/8; item 2 has none.
    items, times = np.array([0, 1, 0, 3, 3, 4]), np.array([90, 100, 90, 80, 100, 70])
    found = RecencyPopularity(items, times, 5, 10).recommend(rows([], []), 5, rows([], [0, 3]))
    assert found.items.tolist() == [[3, 0, 1, 4, -1], [1, 4, -1, -1, -1]]
    assert found.scores[0, :4] == pytest.approx([np.log2(1.25), 0, 0, -3])


def test_items_of_long_ago_keep_their_order():
    items, times = np.array([2, 1, 1, 0]), np.array([-50_000.0, -50_000.5, -50_001, 0])
    assert RecencyPopularity(items, times, 3, 1).recommend(rows([]), 3, None).items.tolist() == [[0, 1, 2]]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50)), max_size=30), st.integers(1, 100))
def test_recency_is_a_sum_over_interactions_and_only_differences_of_time_matter(log, half_life):
    items, times = (
        (np.array(column, dtype=np.int64) for column in zip(*log, strict=True)) if log else [np.zeros(0, int)] * 2
    )
    sums = [sum(0.5 ** ((times.max() - time) / half_life) for item, time in log if item == row) for row in range(6)]
    found = RecencyPopularity(items, times, 6, half_life).recommend(rows([]), 6, None)
    taken = [row for row in found.items[0].tolist() if row >= 0]
    assert sorted(taken) == [row for row in range(6) if sums[row] > 0]
    assert 2.0 ** found.scores[0, : len(taken)] == pytest.approx([sums[row] for row in taken], rel=1e-5)
    later = RecencyPopularity(items, times + 10**9, 6, half_life).recommend(rows([]), 6, None)
    assert np.array_equal(later.items, found.items)


def test_a_half_life_without_end_is_popularity():
    times = np.arange(len(ITEMS)) * 1000
    found = RecencyPopularity(ITEMS, times, 5, np.inf).recommend(rows([], [1]), 5, rows([], [2]))
    assert np.array_equal(
        found.items, Popularity(np.bincount(ITEMS, minlength=5)).recommend(rows([], [1]), 5, rows([], [2])).items
    )


@pytest.mark.parametrize(
    ("items", "times", "half_life", "message"),
    [
        ([0, 1], [5], 1, r"both be \(E,\)"),
        ([0, 5], [5, 6], 1, r"0\.\.4"),
        ([0, 1], [5, np.nan], 1, "finite"),
        ([0, 1], [5, 6], 0, "half_life"),
        ([0, 1], [5, 6], np.nan, "half_life"),
    ],
)
def test_bad_recency_arguments_are_refused(items, times, half_life, message):
    with pytest.raises(ValueError, match=message):
        RecencyPopularity(np.array(items), np.array(times), 5, half_life)


def test_the_half_life_of_best_validation_recall_is_chosen():
    # Twelve items were taken five times each 400 days ago, one item once today, and that is what comes next: among
    # the first ten if 5 * 0.5 ** (400 / half-life) < 1.
    items = np.append(np.repeat(np.arange(12), 5), 12)
    times = np.append(np.zeros(60), 400 * DAY)
    best, trials = choose_half_life(items, times, 13, rows([0]), rows([12]), rows([0]))
    assert best.half_life == DAY
    assert [trial["settings"]["half_life_days"] for trial in trials] == [1, 7, 30, 90, 365]
    assert [trial["valid_recall@10"] for trial in trials] == [1, 1, 1, 1, 0]
    best, _ = choose_half_life(items, times, 13, rows([0]), rows([1]), rows([0]))
    assert best.half_life == DAY  # item 1 is among the first ten with any
    best, _ = choose_half_life(items, times, 13, rows([0]), rows([10]), rows([0]))
    assert best.half_life == 365 * DAY  # place 10 without item 12 in front
