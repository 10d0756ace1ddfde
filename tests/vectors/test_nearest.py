import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.vectors import nearest
from plum.vectors.nearest import Nearest, largest_products, search_report


def brute_force(items, queries, k, seen):
    """Sort everything by (score falling, row)."""
    lists = []
    for user, query in enumerate(queries):
        banned = set() if seen is None else set(seen[user].tolist())
        ranked = sorted((-float(query @ item), row) for row, item in enumerate(items) if row not in banned)
        lists.append([(row, -score) for score, row in ranked[:k]])
    return lists


@given(seed=st.integers(0, 2**32 - 1), with_seen=st.booleans())
def test_it_is_brute_force_with_seen_items_and_ties(seed, with_seen):
    rng = np.random.default_rng(seed)
    n, d, u, k = rng.integers(1, 40), rng.integers(1, 4), rng.integers(1, 6), int(rng.integers(1, 50))
    items = rng.integers(-1, 2, (n, d)).astype(np.float32)  # whole numbers: plenty of exact ties
    queries = rng.integers(-1, 2, (u, d)).astype(np.float32)
    seen = [rng.integers(0, n, rng.integers(0, n + 1)) for _ in range(u)] if with_seen else None
    found = largest_products(items, queries, k, seen)
    assert found.items.shape == (u, k)
    for user, expected in enumerate(brute_force(items, queries, k, seen)):
        rows = [row for row, _ in expected]
        assert found.items[user].tolist() == rows + [-1] * (k - len(rows))
        assert found.scores[user, : len(rows)].tolist() == [score for _, score in expected]
        assert (found.scores[user, len(rows) :] == -np.inf).all()


def test_ties_at_the_border_of_what_faiss_returns_go_to_the_lower_rows():
    items = np.ones((30, 2), np.float32)
    items[20] = 2.0
    found = largest_products(items, np.ones((1, 2), np.float32), 3, [np.array([0])])
    assert found.items.tolist() == [[20, 1, 2]]


def test_ties_of_many_users_are_broken_in_batches_as_in_one(monkeypatch):
    items = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)[::-1]
    queries = np.array([[3, 2, 1], [0, 0, 0], [1, 1, 0]], dtype=np.float32)
    seen = [np.array([59]), np.array([0, 1]), np.array([20])]
    for entries in (1, 130, 1 << 22):
        monkeypatch.setattr(nearest, "_BATCH_ENTRIES", entries)
        found = largest_products(items, queries, 3, seen)
        assert found.items.tolist() == [[40, 41, 42], [2, 3, 4], [21, 22, 23]]


def test_no_queries_give_no_lists():
    assert largest_products(np.ones((3, 2), np.float32), np.zeros((0, 2), np.float32), 5, None).items.shape == (0, 5)


def test_seen_rows_outside_the_catalogue_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.2"):
        largest_products(np.ones((3, 2), np.float32), np.ones((1, 2), np.float32), 1, [np.array([3])])


def clustered(n_items, n_queries, width=16, seed=0):
    """Vectors of different lengths around centres, about ten items each."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_items // 10, width))
    items, queries = (
        centres[rng.integers(0, len(centres), n)] + 0.5 * rng.standard_normal((n, width)) for n in (n_items, n_queries)
    )
    return (items * rng.uniform(0.7, 1.3, (n_items, 1))).astype(np.float32), queries.astype(np.float32)


ITEMS, QUERIES = clustered(2000, 40)
SEEN = [np.random.default_rng(user).integers(0, 2000, 4 * user) for user in range(40)]


def share_found(found, exact):
    return np.mean([np.isin(row, found.items[user]).mean() for user, row in enumerate(exact.items)])


@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.98), ("ivfpq", 0.6)])
def test_an_approximate_index_finds_most_and_nothing_seen(kind, least):
    index = Nearest(ITEMS, kind)
    for seen in (None, SEEN):
        found = index.search(QUERIES, 10, seen)
        assert least < share_found(found, largest_products(ITEMS, QUERIES, 10, seen)) <= 1
    assert not any(np.isin(found.items[user], rows).any() for user, rows in enumerate(SEEN))
    if kind == "hnsw":
        products = np.take_along_axis(QUERIES @ ITEMS.T, found.items, axis=1)
        np.testing.assert_allclose(found.scores, products, rtol=1e-4)


@pytest.fixture
def three_threads():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_two_builds_give_the_same_lists_and_batches_do_not_matter(kind, monkeypatch, three_threads):
    first = Nearest(ITEMS, kind).search(QUERIES, 10, SEEN)
    again = Nearest(ITEMS.copy(), kind)
    monkeypatch.setattr(nearest, "_BATCH_ENTRIES", 1)
    second = again.search(QUERIES, 10, SEEN)
    assert np.array_equal(first.items, second.items)
    assert np.array_equal(first.scores, second.scores)


def test_the_number_of_threads_is_left_as_it_was(three_threads):
    Nearest(ITEMS[:700], "ivfpq")
    search_report(ITEMS[:50], QUERIES[:2], 3, None)
    assert faiss.omp_get_max_threads() == 3


def test_a_wide_search_of_the_graph_is_exact():
    found = Nearest(ITEMS, "hnsw", ef_search=2000).search(QUERIES, 10, SEEN)
    assert np.array_equal(found.items, largest_products(ITEMS, QUERIES, 10, SEEN).items)


def test_lists_are_as_long_as_what_the_probed_lists_hold():
    one = Nearest(ITEMS, "ivfpq", nprobe=1).search(QUERIES, 2000, None)
    lengths = (one.items >= 0).sum(axis=1)
    assert (lengths > 0).all()
    assert (lengths < 500).all()
    every = Nearest(ITEMS, "ivfpq", nprobe=1000)
    assert every.parameters["nprobe"] == every.parameters["nlist"]
    assert (np.sort(every.search(QUERIES[:3], 2000, None).items) == np.arange(2000)).all()
    left = every.search(QUERIES[:1], 2000, [np.arange(5, 2000)])
    assert np.sort(left.items[0])[-6:].tolist() == [-1, 0, 1, 2, 3, 4]


def test_parameters_follow_from_the_number_of_items_and_their_width():
    assert Nearest(ITEMS).parameters == {}
    assert Nearest(ITEMS, "hnsw", ef_search=80).parameters == {"M": 32, "efConstruction": 200, "efSearch": 80}
    # 2,000 items are enough for 51 lists and 2 ** 5 centroids of 39 items each.
    assert Nearest(ITEMS, "ivfpq").parameters == {"nlist": 51, "nprobe": 3, "m": 8, "nbits": 5}
    sizes = {shape: nearest._ivfpq_parameters(*shape, None) for shape in [(9_983, 9), (9_984, 7), (10**6, 64)]}
    assert sizes == {
        (9_983, 9): {"nlist": 255, "nprobe": 15, "m": 3, "nbits": 7},
        (9_984, 7): {"nlist": 256, "nprobe": 16, "m": 1, "nbits": 8},
        (10**6, 64): {"nlist": 4000, "nprobe": 250, "m": 32, "nbits": 8},
    }


def test_too_few_items_for_product_quantisation_are_refused():
    assert Nearest(ITEMS[:624], "ivfpq").parameters["nbits"] == 4
    with pytest.raises(PlumError, match="623 items"):
        Nearest(ITEMS[:623], "ivfpq")


def test_the_report_tells_costs_and_misses_of_each_kind():
    report = search_report(ITEMS, QUERIES, 5, SEEN)
    assert [row["index"] for row in report] == ["exact", "hnsw", "ivfpq"]
    exact = largest_products(ITEMS, QUERIES, 5, SEEN)
    for row in report:
        found = Nearest(ITEMS, row["index"]).search(QUERIES, 5, SEEN)
        assert row["recall_of_exact@5"] == pytest.approx(share_found(found, exact))
        assert row["parameters"] == Nearest(ITEMS, row["index"]).parameters
        assert row["build_s"] > 0
        assert row["ms_per_query"] > 0
    assert report[0]["recall_of_exact@5"] == 1
    sizes = [row["mib"] * 2**20 / 2000 for row in report]  # bytes an item
    assert sizes[0] == pytest.approx(16 * 4, rel=0.01)
    assert sizes[1] > sizes[0] + 32 * 4
    assert sizes[2] < sizes[0]


def test_an_item_as_good_as_the_exact_one_is_no_miss():
    items = np.concatenate([np.repeat(ITEMS[:30], 20, axis=0), ITEMS[30:60]])
    report = search_report(items, QUERIES, 7, None, ["exact", "hnsw"])
    assert [row["recall_of_exact@7"] for row in report] == [1, pytest.approx(1, abs=0.05)]
    found = Nearest(items, "hnsw").search(QUERIES, 7, None)
    assert share_found(found, largest_products(items, QUERIES, 7, None)) < 0.9  # which copy is found is left open


def test_the_report_leaves_out_what_there_are_too_few_items_for():
    assert [row["index"] for row in search_report(ITEMS[:50], QUERIES, 5, None)] == ["exact", "hnsw"]
    with pytest.raises(PlumError, match="50 items"):
        search_report(ITEMS[:50], QUERIES, 5, None, ["ivfpq"])
    nothing_left = search_report(ITEMS[:3], QUERIES[:1], 5, [np.arange(3)], ["hnsw"])
    assert nothing_left[0]["recall_of_exact@5"] is None
    with pytest.raises(ValueError, match="no queries"):
        search_report(ITEMS, QUERIES[:0], 5, None)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda: Nearest(ITEMS[0]), r"\(N, D\)"),
        (lambda: Nearest(ITEMS, "flat"), "exact, hnsw, ivfpq"),
        (lambda: Nearest(ITEMS, "hnsw", ef_search=0), "ef_search"),
        (lambda: Nearest(ITEMS, "ivfpq", nprobe=0), "nprobe"),
        (lambda: Nearest(ITEMS).search(QUERIES[:, :3], 1, None), r"\(U, 16\)"),
        (lambda: Nearest(ITEMS).search(QUERIES, 0, None), "k must"),
        (lambda: Nearest(ITEMS).search(QUERIES, 1, SEEN[:3]), "3 entries for 40"),
    ],
)
def test_bad_arguments_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        how()
