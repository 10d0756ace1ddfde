"""The flat trie against a plain trie of dictionaries."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plum.sid.table import bucket_rank
from plum.sid.trie import Trie


@st.composite
def catalogues(draw):
    """Unsorted codes with repetition, 1 to 4 levels."""
    levels = draw(st.integers(1, 4))
    rows = draw(st.lists(st.tuples(*[st.integers(0, 3)] * levels), min_size=1, max_size=30))
    popularity = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    return np.array(rows, dtype=np.int64), np.array(popularity, dtype=np.int64)


def walk(trie, depth=0, node=0, prefix=()):
    """All SIDs of the flat trie with their leaf, depth first."""
    if depth == trie.n_levels:
        yield prefix, node
        return
    for child in range(trie.child_start[depth][node], trie.child_start[depth][node + 1]):
        yield from walk(trie, depth + 1, child, (*prefix, int(trie.child_code[depth][child])))


@given(catalogues())
def test_every_item_is_reachable_and_nothing_else(catalogue):
    codes, popularity = catalogue
    trie = Trie.build(codes, bucket_rank(codes, popularity))
    plain: dict[tuple[int, ...], set[int]] = {}
    for row, code in enumerate(codes.tolist()):
        plain.setdefault(tuple(code), set()).add(row)
    found = {
        sid: set(trie.leaf_items[trie.leaf_items_start[leaf] : trie.leaf_items_start[leaf + 1]].tolist())
        for sid, leaf in walk(trie)
    }
    assert found == plain
    assert trie.n_leaves == len(plain)


@given(catalogues())
def test_children_of_every_prefix_are_those_of_a_trie_of_sets(catalogue):
    codes, popularity = catalogue
    trie = Trie.build(codes, bucket_rank(codes, popularity))
    children: dict[tuple[int, ...], set[int]] = {}
    for code in codes.tolist():
        for depth in range(len(code)):
            children.setdefault(tuple(code[:depth]), set()).add(code[depth])

    def check(depth, node, prefix):
        if depth == trie.n_levels:
            return
        below = range(trie.child_start[depth][node], trie.child_start[depth][node + 1])
        listed = [int(trie.child_code[depth][child]) for child in below]
        assert listed == sorted(children[prefix])
        for child, code in zip(below, listed, strict=True):
            check(depth + 1, child, (*prefix, code))

    check(0, 0, ())


@given(catalogues())
def test_the_leaves_below_a_node_are_one_range(catalogue):
    codes, popularity = catalogue
    trie = Trie.build(codes, bucket_rank(codes, popularity))
    sids = sorted({tuple(c) for c in codes.tolist()})
    for depth in range(trie.n_levels):
        prefixes = sorted({sid[: depth + 1] for sid in sids})
        for node, prefix in enumerate(prefixes):
            start, end = trie.leaf_start[depth][node : node + 2]
            assert sids[start:end] == [sid for sid in sids if sid[: depth + 1] == prefix]


@given(catalogues())
def test_items_of_a_leaf_stand_in_the_order_of_rank(catalogue):
    codes, popularity = catalogue
    rank = bucket_rank(codes, popularity)
    trie = Trie.build(codes, rank)
    for leaf in range(trie.n_leaves):
        items = trie.leaf_items[trie.leaf_items_start[leaf] : trie.leaf_items_start[leaf + 1]]
        assert rank[items].tolist() == list(range(len(items)))
    assert sorted(trie.leaf_items.tolist()) == list(range(len(codes)))
    leaf_of_item = trie.leaf_of_item()
    for row in range(len(codes)):
        start, end = trie.leaf_items_start[leaf_of_item[row] : leaf_of_item[row] + 2]
        assert row in trie.leaf_items[start:end]


def test_the_docstring_example():
    trie = Trie.build(np.array([[0, 2], [3, 1], [0, 1]]), np.zeros(3))
    assert [a.tolist() for a in trie.child_code] == [[0, 3], [1, 2, 1]]
    assert [a.tolist() for a in trie.child_start] == [[0, 2], [0, 2, 3]]
    assert [a.tolist() for a in trie.leaf_start] == [[0, 2, 3], [0, 1, 2, 3]]
    assert trie.leaf_items.tolist() == [2, 0, 1]


def test_an_empty_catalogue_gives_a_root_without_children():
    trie = Trie.build(np.zeros((0, 3), dtype=np.int64), np.zeros(0))
    assert trie.n_leaves == 0
    assert trie.child_start[0].tolist() == [0, 0]
