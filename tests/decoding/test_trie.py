"""The flat trie against a plain trie of sets, its check against damage of every kind, and its file."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from plum.decoding import trie as trie_module
from plum.decoding.trie import Trie, fingerprint
from plum.errors import PlumError
from plum.sid.table import bucket_rank

CODES = np.array([[0, 1], [0, 2], [3, 1]])
SIZES = (4, 3)
SHARED = np.array([[1, 0], [0, 2], [1, 0], [3, 1], [0, 1]])
"""Five items, of which 0 and 2 share a SID: leaves are [0, 1], [0, 2], [1, 0] and [3, 1]."""

LAYOUTS = [np.ascontiguousarray, np.asfortranarray, lambda codes: np.repeat(codes, 2, axis=1)[:, ::2]]


@st.composite
def catalogues(draw):
    """Codes in any order with repetition, of any integer dtype that holds them and any layout; sizes; ranks or None."""
    sizes = draw(st.lists(st.integers(1, 5) | st.sampled_from([2048, 70_000, 1 << 31]), min_size=1, max_size=5))
    # Few codes per level, so that SIDs share prefixes and items share SIDs; the largest among them.
    level = [st.sampled_from(sorted({0, min(1, size - 1), size // 2, size - 1})) for size in sizes]
    rows = draw(st.lists(st.tuples(*level), max_size=30))
    codes = np.array(rows, dtype=np.int64).reshape(len(rows), len(sizes))
    dtypes = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">i8"]
    dtype = draw(st.sampled_from([d for d in dtypes if np.iinfo(d).max >= codes.max(initial=0)]))
    codes = draw(st.sampled_from(LAYOUTS))(codes.astype(dtype))
    ranks = st.lists(st.integers(-2, 2), min_size=len(rows), max_size=len(rows))
    rank = draw(st.none() | ranks.map(lambda values: np.array(values, dtype=np.int64)))
    return codes, sizes, rank


def plain_trie(codes):
    """Prefix -> set of the codes that follow it; a whole SID -> its rows."""
    children: dict[tuple[int, ...], set[int]] = {(): set()}
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, code in enumerate(codes.tolist()):
        rows.setdefault(tuple(code), []).append(row)
        for depth in range(len(code)):
            children.setdefault(tuple(code[:depth]), set()).add(code[depth])
    return children, rows


def walk(trie, depth=0, node=0, prefix=()):
    """(prefix, depth, node) of all nodes of the flat trie but the root, depth first."""
    if depth < trie.n_levels:
        for child in range(trie.child_start[depth][node], trie.child_start[depth][node + 1]):
            below = (*prefix, int(trie.child_code[depth][child]))
            yield below, depth, child
            yield from walk(trie, depth + 1, child, below)


@given(catalogues())
def test_it_is_the_trie_of_sets(catalogue):
    codes, sizes, rank = catalogue
    trie = Trie.build(codes, sizes, rank)
    children, rows = plain_trie(codes)
    found = list(walk(trie))
    prefixes = [prefix for prefix, _, _ in found]
    assert prefixes == sorted(set(prefixes))
    assert set(prefixes) == {(*prefix, code) for prefix, codes_ in children.items() for code in codes_}
    for prefix, depth, node in found:
        start, end = trie.item_start[depth][node : node + 2]
        assert sorted(trie.items[start:end]) == sorted(
            row for sid, below in rows.items() if sid[: depth + 1] == prefix for row in below
        )
    assert (trie.n_levels, trie.n_items, trie.n_leaves) == (len(sizes), len(codes), len(rows))
    widest = [max((len(c) for p, c in children.items() if len(p) == depth), default=0) for depth in range(len(sizes))]
    assert list(trie.fan_out) == widest


@given(catalogues())
def test_items_of_a_sid_stand_in_the_order_of_rank_then_row(catalogue):
    codes, sizes, rank = catalogue
    trie = Trie.build(codes, sizes, rank)
    order = np.zeros(len(codes), dtype=int) if rank is None else rank
    expected = sorted(range(len(codes)), key=lambda row: (*codes[row].tolist(), order[row], row))
    assert trie.items.tolist() == expected


@given(catalogues())
def test_leaves_and_codes_find_each_other_and_nothing_else(catalogue):
    codes, sizes, rank = catalogue
    trie = Trie.build(codes, sizes, rank)
    _, rows = plain_trie(codes)
    sids = sorted(rows)
    assert trie.codes_of(np.arange(trie.n_leaves)).tolist() == [list(sid) for sid in sids]
    assert trie.leaf_of(codes).tolist() == [sids.index(tuple(code)) for code in codes.tolist()]
    # Every SID with one code changed, to others' codes and to codes outside the codebooks.
    for level in range(len(sizes)):
        for code in (-1, 0, 1, sizes[level], np.iinfo(np.int64).max):
            changed = codes.astype(np.int64)
            changed[:, level] = code
            expected = [sids.index(sid) if sid in rows else -1 for sid in map(tuple, changed.tolist())]
            assert trie.leaf_of(changed).tolist() == expected


@given(catalogues())
def test_a_built_trie_passes_its_own_check(catalogue):
    codes, sizes, rank = catalogue
    Trie.build(codes, sizes, rank).verify(codes)


@given(catalogues())
def test_dtype_and_layout_of_codes_make_no_difference(catalogue):
    codes, sizes, rank = catalogue
    plain = np.array(codes.tolist(), dtype=np.int64).reshape(codes.shape)
    assert fingerprint(codes, sizes) == fingerprint(plain, np.array(sizes))
    for one, other in zip(arrays(Trie.build(codes, sizes, rank)), arrays(Trie.build(plain, sizes, rank)), strict=True):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()


def arrays(trie):
    return [*trie.child_start, *trie.child_code, *trie.item_start, trie.items]


def test_the_docstring_example():
    trie = Trie.build(CODES, SIZES)
    assert [a.tolist() for a in trie.child_start] == [[0, 2], [0, 2, 3]]
    assert [a.tolist() for a in trie.child_code] == [[0, 3], [1, 2, 1]]
    assert [a.tolist() for a in trie.item_start] == [[0, 2, 3], [0, 1, 2, 3]]
    assert trie.items.tolist() == [0, 1, 2]
    assert trie.fan_out == (2, 2)
    assert trie.codes_of(np.array([2, 0])).tolist() == [[3, 1], [0, 1]]
    assert trie.leaf_of(np.array([[3, 1], [3, 2], [1, 1], [0, 2]])).tolist() == [2, -1, -1, 1]


def test_items_that_share_a_sid_by_popularity():
    trie = Trie.build(SHARED, SIZES, bucket_rank(SHARED, np.array([1, 0, 7, 0, 0])))
    assert trie.items.tolist() == [4, 1, 2, 0, 3]
    assert trie.item_start[1].tolist() == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("bits", [1, 13, 63])
def test_keys_that_fit_no_single_word(bits, monkeypatch):
    """8 levels of 2048 are 88 bits; smaller words put every level into one of its own."""
    monkeypatch.setattr(trie_module, "WORD_BITS", bits)
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 2048, (500, 8))
    codes[::3, :5] = codes[0, :5]
    codes[1::5] = codes[1]
    trie = Trie.build(codes, [2048] * 8)
    trie.verify(codes)
    assert trie.items.tolist() == sorted(range(500), key=lambda row: (*codes[row].tolist(), row))
    assert trie.n_leaves == len(np.unique(codes, axis=0))


def test_blocks_smaller_than_the_catalogue(monkeypatch, tmp_path):
    codes = np.random.default_rng(1).integers(0, 9, (400, 3))
    whole, of = Trie.build(codes, [9] * 3), fingerprint(codes, [9] * 3)
    monkeypatch.setattr(trie_module, "BLOCK", 7)
    blocks = Trie.build(codes, [9] * 3)
    blocks.verify(codes)
    assert [a.tolist() for a in arrays(whole)] == [a.tolist() for a in arrays(blocks)]
    assert blocks.leaf_of(codes).tolist() == whole.leaf_of(codes).tolist()
    assert fingerprint(codes, [9] * 3) == of


def test_arrays_are_as_small_as_their_values_allow():
    trie = Trie.build(np.array([[32767, 32768]]), [32768, 32769])
    assert [a.dtype.name for a in trie.child_code] == ["int16", "int32"]
    assert {a.dtype.name for a in (*trie.child_start, *trie.item_start, trie.items)} == {"int32"}
    assert trie.codes_of(np.array([0])).tolist() == [[32767, 32768]]


def test_an_empty_catalogue_gives_a_root_without_children(tmp_path):
    codes = np.zeros((0, 3), dtype=np.int64)
    trie = Trie.build(codes, [4, 4, 4], np.zeros(0, dtype=np.int64))
    assert (trie.n_leaves, trie.n_items, trie.fan_out) == (0, 0, (0, 0, 0))
    assert trie.child_start[0].tolist() == [0, 0]
    assert trie.leaf_of(np.array([[0, 0, 0]])).tolist() == [-1]
    assert trie.codes_of(np.array([], dtype=np.int64)).shape == (0, 3)
    trie.verify(codes)
    trie.save(tmp_path / "index.safetensors", "")
    assert Trie.load(tmp_path / "index.safetensors").n_items == 0


def test_codes_are_left_as_they_are():
    codes = SHARED.copy()
    codes.flags.writeable = False
    Trie.build(codes, SIZES).verify(codes)
    assert (codes == SHARED).all()


@pytest.mark.parametrize(
    ("codes", "sizes", "rank", "says"),
    [
        ([[0, 1], [0]], SIZES, None, "different length|integers"),
        (np.array([[0, 1], [0]], dtype=object), SIZES, None, "integers"),
        (np.array([0, 1]), SIZES, None, r"shape \(2,\)"),
        (CODES[None], SIZES, None, r"shape \(1, 3, 2\)"),
        (CODES.astype(float), SIZES, None, "float64"),
        (CODES > 0, SIZES, None, "bool"),
        (np.array([["0", "1"]]), SIZES, None, "integers"),
        (CODES, (4, 3, 2), None, r"codes of shape \(3, 2\), 3 sizes"),
        (CODES - [[0, 0], [0, 3], [0, 0]], SIZES, None, r"level 1\n  found: row 1 has \[0, -1\]"),
        (CODES.astype(np.uint64) << np.uint64(62), SIZES, None, "level 0|level 1"),
        (CODES, (3, 3), None, r"level 0\n  found: row 2 has \[3, 1\], codebook sizes \[3, 3\]"),
        (CODES, (), None, "whole numbers"),
        (CODES, (4, 0), None, "whole numbers"),
        (CODES, (4, 2**31 + 1), None, "whole numbers"),
        (CODES, (4, 3.0), None, "whole numbers"),
        (CODES, SIZES, np.arange(2), r"shape \(2,\), dtype int64; 3 items"),
        (CODES, SIZES, np.zeros((3, 1), dtype=int), r"shape \(3, 1\)"),
        (CODES, SIZES, np.array([0.0, np.nan, 1.0]), "float64"),
    ],
)
def test_build_refuses(codes, sizes, rank, says):
    with pytest.raises(PlumError, match=says):
        Trie.build(codes, sizes, rank)


@pytest.mark.parametrize("leaves", [[-1], [0, 3]])
def test_codes_of_no_leaf_are_refused(leaves):
    with pytest.raises(IndexError, match="trie's 3"):
        Trie.build(CODES, SIZES).codes_of(np.array(leaves))


@pytest.mark.parametrize("codes", [np.array([0, 1]), np.array([[0, 1, 2]]), np.array([[0.0, 1.0]])])
def test_leaf_of_refuses_what_is_no_table_of_sids(codes):
    with pytest.raises(PlumError):
        Trie.build(CODES, SIZES).leaf_of(codes)


def changed(name, level, values):
    """A tampering: one array of the trie of SHARED holds other values."""

    def tamper(trie):
        if level is None:
            return dataclasses.replace(trie, **{name: np.array(values, dtype=np.int32)})
        group = list(getattr(trie, name))
        group[level] = np.array(values, dtype=group[level].dtype)
        return dataclasses.replace(trie, **{name: tuple(group)})

    return tamper


# The trie of SHARED: items [4, 1, 0, 2, 3], child_start [[0, 3], [0, 2, 3, 4]], child_code [[0, 1, 3], [1, 2, 0, 1]],
# item_start [[0, 2, 4, 5], [0, 1, 2, 4, 5]].
DAMAGES = {
    "an item twice and one never": (changed("items", None, [4, 1, 0, 0, 3]), "item 2 is missing"),
    "an item that is no row": (changed("items", None, [5, 1, 0, 2, 3]), "outside the catalogue"),
    "a negative item": (changed("items", None, [4, 1, 0, 2, -2]), "outside the catalogue"),
    "a dropped item": (changed("items", None, [3, 1, 0, 2]), "not divided"),
    "an item too many": (changed("items", None, [4, 1, 0, 2, 3, 5]), "not divided"),
    "a code twice in a node": (changed("child_code", 1, [2, 2, 0, 1]), "repeated or unsorted"),
    "codes of a node unsorted": (changed("child_code", 1, [2, 1, 0, 1]), "repeated or unsorted"),
    "a node twice": (changed("child_code", 0, [0, 3, 3]), "repeated or unsorted"),
    "a negative code": (changed("child_code", 1, [-1, 2, 0, 1]), "outside its codebook"),
    "a code too large": (changed("child_code", 1, [1, 3, 0, 1]), "outside its codebook"),
    "an empty leaf": (changed("item_start", 1, [0, 1, 2, 2, 5]), "an empty node"),
    "an empty node": (changed("child_start", 1, [0, 2, 2, 4]), "an empty node"),
    "children in no node": (changed("child_start", 1, [0, 2, 3, 3]), "empty node"),
    "children that begin late": (changed("child_start", 0, [1, 3]), "not divided"),
    "children past the end": (changed("child_start", 1, [0, 2, 3, 9]), "not divided"),
    "a child of another node": (changed("child_start", 1, [0, 1, 3, 4]), "differ from those of its children"),
    "bounds that fall": (changed("child_start", 1, [0, 3, 2, 4]), "not divided"),
    "a bound missing": (changed("item_start", 0, [0, 2, 5]), "level 0 don't belong together"),
    "a code missing": (changed("child_code", 1, [1, 2, 0]), "level 1 don't belong together"),
    "no bounds at all": (changed("child_start", 0, []), "level 0 don't belong together"),
    "a level missing": (lambda trie: dataclasses.replace(trie, child_code=trie.child_code[:1]), "levels are missing"),
    "fractions": (lambda trie: dataclasses.replace(trie, items=trie.items / 1), "signed integers"),
    "another shape": (lambda trie: dataclasses.replace(trie, items=trie.items[None]), "not a list"),
}
FOREIGN = {
    "swapped items": changed("items", None, [1, 4, 0, 2, 3]),
    "a foreign leaf": changed("child_code", 1, [0, 2, 0, 1]),
    "a foreign node": changed("child_code", 0, [0, 2, 3]),
    "an item in the next leaf": changed("item_start", 1, [0, 1, 2, 3, 5]),
}


@pytest.mark.parametrize(("tamper", "says"), DAMAGES.values(), ids=DAMAGES)
def test_verify_and_load_refuse_damage(tamper, says, tmp_path):
    trie = tamper(Trie.build(SHARED, SIZES))
    with pytest.raises(PlumError, match=says) as error:
        trie.verify(SHARED)
    assert "plum tokenize" in (error.value.fix or "")
    if len(trie.child_code) == 2:
        trie.save(tmp_path / "index.safetensors", "")
        with pytest.raises(PlumError, match=rf"index.safetensors: [^\n]*(\n  found: )?.*{says}"):
            Trie.load(tmp_path / "index.safetensors")


@pytest.mark.parametrize("tamper", FOREIGN.values(), ids=FOREIGN)
def test_verify_refuses_a_whole_trie_of_other_sids(tamper):
    with pytest.raises(PlumError, match=r"is not under its Semantic ID|differ from those of its children"):
        tamper(Trie.build(SHARED, SIZES)).verify(SHARED)


def test_verify_names_the_item():
    codes = SHARED.copy()
    codes[3] = [2, 1]
    with pytest.raises(PlumError, match=r"item 3 is not under its Semantic ID \[2, 1\]"):
        Trie.build(SHARED, SIZES).verify(codes)


@pytest.mark.parametrize("codes", [SHARED[:4], np.concatenate([SHARED, SHARED[:1]])])
def test_verify_refuses_another_number_of_items(codes):
    with pytest.raises(PlumError, match="number of items is wrong"):
        Trie.build(SHARED, SIZES).verify(codes)


@given(catalogues(), st.data())
def test_verify_accepts_no_other_codes(catalogue, data):
    codes, sizes, rank = catalogue
    row = data.draw(st.integers(0, max(len(codes) - 1, 0)))
    level = data.draw(st.integers(0, len(sizes) - 1))
    if len(codes) and sizes[level] > 1:
        other = codes.astype(np.int64)
        other[row, level] = (other[row, level] + 1) % sizes[level]
        with pytest.raises(PlumError):
            Trie.build(codes, sizes, rank).verify(other)


def saved(tmp_path, of="of"):
    path = tmp_path / "index.safetensors"
    trie = Trie.build(SHARED, SIZES)
    trie.save(path, of)
    return path, trie


def test_what_is_saved_is_read_back(tmp_path):
    of = fingerprint(SHARED, SIZES)
    path, trie = saved(tmp_path, of)
    for read in (Trie.load(path), Trie.load(path, of)):
        assert read.sizes == trie.sizes
        for one, other in zip(arrays(read), arrays(trie), strict=True):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()
            assert one.flags.writeable
        read.verify(SHARED)
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.safetensors"]


def test_a_save_that_fails_leaves_the_file_before_it(tmp_path, monkeypatch):
    path, _ = saved(tmp_path)
    before = path.read_bytes()

    def full(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="no space"):
        Trie.build(CODES, SIZES).save(path, "")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.safetensors"]


def test_an_index_of_another_sid_table_is_refused(tmp_path):
    path, _ = saved(tmp_path, fingerprint(SHARED, SIZES))
    with pytest.raises(PlumError, match=r"made from other Semantic IDs(.|\n)*plum tokenize"):
        Trie.load(path, fingerprint(SHARED[::-1], SIZES))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PlumError, match=r"missing(.|\n)*plum tokenize"):
        Trie.load(tmp_path / "index.safetensors")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path, _ = saved(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(PlumError, match="can't be read"):
            Trie.load(path)


def test_a_folder_and_a_text_are_refused(tmp_path):
    with pytest.raises(PlumError, match="can't be read"):
        Trie.load(tmp_path)
    (tmp_path / "text").write_text("code_0,code_1\n" * 100)
    with pytest.raises(PlumError, match="can't be read"):
        Trie.load(tmp_path / "text")


def rewrite(path, tensors, **change):
    """Write a file like that of SHARED with other arrays or another description."""
    about = {"version": trie_module.VERSION, "sizes": SIZES, "of": ""} | change
    save_file(tensors, path, {trie_module.FORMAT: json.dumps(about)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, '"version": 2'),
        ({"version": None}, "another format"),
        ({"sizes": 7}, "whole numbers"),
        ({"sizes": None}, "whole numbers"),
        ({"sizes": [4, -3]}, "whole numbers"),
        ({"sizes": [4, 3.5]}, "whole numbers"),
        ({"sizes": [4]}, "lacks the arrays"),
        ({"sizes": [4, 3, 2]}, "lacks the arrays"),
        ({"sizes": [3, 3]}, "outside its codebook"),
    ],
)
def test_another_description_is_refused(tmp_path, change, says):
    path, _ = saved(tmp_path)
    rewrite(path, load_file(path), **change)
    with pytest.raises(PlumError, match=says):
        Trie.load(path)


@pytest.mark.parametrize(("text", "says"), [("[1]", "another format"), ("{", "can't be read"), ("", "can't be read")])
def test_a_broken_description_is_refused(tmp_path, text, says):
    path, _ = saved(tmp_path)
    save_file(load_file(path), path, {trie_module.FORMAT: text})
    with pytest.raises(PlumError, match=says):
        Trie.load(path)


def test_the_same_trie_gives_the_same_bytes(tmp_path):
    path, trie = saved(tmp_path)
    first = path.read_bytes()
    for _ in range(10):
        trie.save(path, "of")
        assert path.read_bytes() == first


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "index.safetensors"
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(PlumError, match="not an index"):
        Trie.load(path)


@pytest.mark.parametrize("name", ["items", "child_start.0", "child_code.1", "item_start.0"])
def test_missing_arrays_are_refused(tmp_path, name):
    path, _ = saved(tmp_path)
    tensors = load_file(path)
    del tensors[name]
    rewrite(path, tensors)
    with pytest.raises(PlumError, match="lacks the arrays"):
        Trie.load(path)


def test_the_fingerprint_is_sha256_of_counts_sizes_and_codes():
    plain = hashlib.sha256(np.array([3, 4, 3, 0, 1, 0, 2, 3, 1], dtype="<i8").tobytes()).hexdigest()
    assert fingerprint(CODES, SIZES) == plain
    others = [(CODES, (4, 4)), (CODES[::-1], SIZES), (CODES[:2], SIZES)]
    assert plain not in [fingerprint(*other) for other in others]
