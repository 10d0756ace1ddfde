import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.retrievers import cooccurrence, itemknn, sums
from plum.retrievers.cooccurrence import Relation, followers, similarities
from plum.retrievers.itemknn import GRID, LARGEST_WINDOW, START, ItemKNN, choose_itemknn, itemknn_of, window_of

# Five users' items: 0 and 1 go together, 2 is taken by many, 3 once, 4 never.
LOG = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 2), (2, 0), (3, 2), (4, 2), (4, 3)]
USERS, ITEMS = (np.array(column) for column in zip(*LOG, strict=True))


def rows(*lists):
    return [np.array(entries, dtype=np.int64) for entries in lists]


def test_similarity_is_the_shrunk_cosine_by_hand():
    # Item 0 has users {0, 1, 2}, item 1 {0, 1}, item 2 {0, 2, 3, 4}, item 3 {4}.
    found = ItemKNN(USERS, ITEMS, 5, Relation(neighbours=None, shrinkage=2.0)).recommend(rows([0]), 4, None)
    assert found.items.tolist() == [[1, 2, -1, -1]]
    assert found.scores[0, :2] == pytest.approx([2 / (np.sqrt(3 * 2) + 2), 2 / (np.sqrt(3 * 4) + 2)])


def test_scores_add_up_over_the_history_and_repeats_count_once():
    knn = ItemKNN(USERS, ITEMS, 5, Relation(neighbours=None, shrinkage=0.0))
    once, twice = (knn.recommend(rows(history), 1, rows([0, 1])) for history in ([0, 1], [0, 1, 0, 0]))
    assert once.items.tolist() == [[2]]
    assert once.scores[0, 0] == pytest.approx(2 / np.sqrt(12) + 1 / np.sqrt(8))
    assert np.array_equal(once.scores, twice.scores)


def test_repeated_interactions_count_once_in_training():
    doubled = ItemKNN(np.tile(USERS, 2), np.tile(ITEMS, 2), 5)
    single = ItemKNN(USERS, ITEMS, 5)
    histories = rows([0], [2, 3])
    assert np.array_equal(doubled.recommend(histories, 4, None).scores, single.recommend(histories, 4, None).scores)


def test_each_candidate_keeps_its_nearest_neighbours_only():
    # The nearest of 0 is 1 (.816 against .577 for 2), of 2 it is 0 (.577 against .5 for 3): 0's link to 2 falls away
    # where 0 is the candidate, and stays where 2 is.
    knn = ItemKNN(USERS, ITEMS, 5, Relation(neighbours=1, shrinkage=0.0))
    found = knn.recommend(rows([2], [0]), 4, None)
    assert found.items.tolist() == [[3, -1, -1, -1], [1, 2, -1, -1]]


def test_without_a_neighbour_or_a_history_nothing_is_recommended():
    found = ItemKNN(USERS, ITEMS, 5).recommend(rows([4], []), 3, None)
    assert (found.items == -1).all()


def test_seen_items_are_left_out_and_kept_on_demand():
    knn = ItemKNN(USERS, ITEMS, 5, Relation(neighbours=None))
    assert 1 not in knn.recommend(rows([0, 1]), 5, rows([0, 1])).items
    assert 1 in knn.recommend(rows([0, 1]), 5, None).items


def test_no_training_data_is_no_error():
    empty = np.zeros(0, dtype=np.int64)
    assert (ItemKNN(empty, empty, 3).recommend(rows([1]), 2, None).items == -1).all()


@pytest.mark.parametrize(
    ("users", "items", "settings_", "message"),
    [
        (USERS[:-1], ITEMS, {}, r"both be \(E,\)"),
        (USERS, ITEMS + 2, {}, r"0\.\.4"),
        (USERS, ITEMS, {"decay": 0.0}, "decay"),
        (USERS, ITEMS, {"last": 0}, "last"),
    ],
)
def test_bad_arguments_are_refused(users, items, settings_, message):
    with pytest.raises(ValueError, match=message):
        ItemKNN(users, items, 5, **settings_)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 8)), min_size=1, max_size=40),
    st.integers(1, 5) | st.none(),
    st.floats(0, 20),
)
def test_any_log_agrees_with_a_dense_computation_and_batches_do_not_matter(log, neighbours, shrinkage):
    users, items = (np.array(column) for column in zip(*log, strict=True))
    taken = np.zeros((8, 9))
    taken[users, items] = 1
    common = taken.T @ taken
    counts = np.diag(common)
    similarity = common / np.maximum(np.sqrt(np.outer(counts, counts)) + shrinkage, 1e-9)
    np.fill_diagonal(similarity, 0.0)
    if neighbours is not None:
        for candidate in range(9):
            order = np.argsort(-similarity[:, candidate].astype(np.float32), kind="stable")
            similarity[order[neighbours:], candidate] = 0.0
    knn = ItemKNN(users, items, 9, Relation(neighbours, shrinkage))
    histories = [np.flatnonzero(row) for row in taken]
    found = knn.recommend(histories, 9, None)
    expected = -np.sort(-(taken @ similarity), axis=1)
    assert np.where(found.items >= 0, found.scores, 0.0) == pytest.approx(expected, abs=1e-5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "_BATCH_ENTRIES", 18)  # two users at a time
        patch.setattr(cooccurrence, "_BLOCK_ROWS", 4)
        small = ItemKNN(users, items, 9, Relation(neighbours, shrinkage)).recommend(histories, 9, None)
    assert np.array_equal(small.items, found.items)
    assert np.array_equal(small.scores, found.scores)


@pytest.mark.parametrize(
    "wrong",
    [
        {"neighbours": 0},
        {"shrinkage": -1.0},
        {"shrinkage": np.nan},
        {"backward": -0.1},
        {"distance": -1},
        {"window": 0},
    ],
)
def test_a_relation_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.*>="):
        Relation(**wrong)


def in_order(*histories):
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    return users, np.array([row for history in histories for row in history])


def test_what_follows_counts_by_its_distance():
    # Both users take 1 after 0: one place apart, and two. Item 2 stands between, and after 1.
    users, items = in_order([0, 1, 2], [0, 2, 1])
    counts = followers(users, items, 3, Relation(distance=1.0)).toarray()
    assert counts.tolist() == [[0, 1.5, 1.5], [0, 0, 1], [0, 1, 0]]
    assert followers(users, items, 3, Relation(window=1)).toarray().tolist() == [[0, 1, 1], [0, 0, 1], [0, 1, 0]]


def test_similarity_with_a_direction_by_hand():
    users, items = in_order([0, 1], [0, 1], [1, 0])
    found = similarities(users, items, 2, Relation(None, 2.0, backward=0.5)).toarray()
    # 1 came after 0 twice, and before it once; each has three users.
    assert found == pytest.approx(np.array([[0, 2.5], [2.0, 0]]) / (3 + 2))
    onwards = ItemKNN(users, items, 2, Relation(None, 0.0, backward=0.0)).recommend(rows([0], [1]), 1, None)
    assert onwards.scores[:, 0] == pytest.approx([2 / 3, 1 / 3])


def test_newer_items_of_a_history_weigh_more_and_old_ones_may_count_for_nothing():
    users, items = in_order([0, 3], [1, 4], [2, 5])
    knn = ItemKNN(users, items, 6, Relation(None, 0.0), decay=0.5, last=2)
    found = knn.recommend(rows([0, 1, 2], [1, 0, 1]), 6, rows([0, 1, 2], [0, 1]))
    assert found.items[:, :3].tolist() == [[5, 4, -1], [4, 3, -1]]  # an item twice counts at its newest place
    assert found.scores[0, :2].tolist() == [1.0, 0.5]


def test_a_repeated_item_counts_at_its_first_place():
    users, items = in_order([0, 1, 0, 2])
    counts = followers(users, items, 3, Relation(distance=1.0)).toarray()
    assert counts.tolist() == [[0, 1, 0.5], [0, 0, 1], [0, 0, 0]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 8), max_size=8), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.integers(1, 4) | st.none(),
    st.randoms(use_true_random=False),
)
def test_any_log_agrees_with_counting_pairs_and_the_order_of_users_does_not_matter(
    histories, backward, distance, window, random
):
    users, items = in_order(*histories)
    items = items.astype(np.int64)
    relation = Relation(None, 1.5, backward, distance, window)
    counts, taken = np.zeros((9, 9)), np.zeros(9)
    for history in histories:
        once = list(dict.fromkeys(history))
        taken[once] += 1
        for place, i in enumerate(once):
            for apart, j in enumerate(once[place + 1 : None if window is None else place + 1 + window], 1):
                counts[i, j] += apart**-distance
                counts[j, i] += backward * apart**-distance
    expected = counts / (np.sqrt(np.outer(taken, taken)) + 1.5)
    found = similarities(users, items, 9, relation)
    assert found.toarray() == pytest.approx(expected, abs=1e-6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "_PAIRS_AT_ONCE", 3)
        patch.setattr(cooccurrence, "_BLOCK_ROWS", 2)
        random.shuffle(histories)
        assert similarities(*in_order(*histories), 9, relation).toarray() == pytest.approx(expected, abs=1e-6)


def test_each_setting_is_chosen_in_turn_by_validation_recall():
    # Twelve pairs: of each, the second came after the first, so going on from the second is wrong.
    pairs = [[2 * n, 2 * n + 1] for n in range(12)]
    users, items = in_order(*pairs, *pairs, *pairs)
    histories, targets = rows(*([2 * n] for n in range(12))), rows(*([2 * n + 1] for n in range(12)))
    best, trials = choose_itemknn(users, items, 24, histories, targets, histories)
    assert trials[0]["settings"] == START
    assert [trial["valid_recall@10"] for trial in trials] == [1.0] * len(trials)
    assert best.decay == START["decay"]  # nothing finds more, so nothing moves
    assert len(trials) == 1 + sum(len(values) - 1 for values in GRID.values())
    assert {name for trial in trials for name in trial["settings"]} == set(GRID)


def test_settings_of_the_grid_make_the_retriever_that_they_name():
    n = LARGEST_WINDOW + 3
    users, items = in_order(list(range(n)))
    plain = itemknn_of(users, items, n, START | {"backward": 1.0, "distance": 0.0})
    ordered = itemknn_of(users, items, n, START | {"backward": 0.0})
    assert (plain.recommend(rows([0]), n, rows([0])).items >= 0).sum() == n - 1
    assert (ordered.recommend(rows([0]), n, rows([0])).items >= 0).sum() == LARGEST_WINDOW


def test_a_large_log_gets_a_smaller_window_and_fewer_neighbours(monkeypatch):
    users, items = in_order(list(range(12)), list(range(8)))
    assert window_of(users) == LARGEST_WINDOW
    monkeypatch.setattr(itemknn, "_MOST_PAIRS", 34)
    assert window_of(users) == 2  # 11 + 7 pairs next to each other, 10 + 6 two places apart
    _, trials = choose_itemknn(users, items, 12, rows([0]), rows([1]), rows([0]))
    assert {trial["settings"]["neighbours"] for trial in trials} == {10, 100}
    monkeypatch.setattr(itemknn, "_MOST_PAIRS", 0)
    assert window_of(users) == 1
