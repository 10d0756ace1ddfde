"""Item vectors from training histories: positive PMI by hand, what has no vector, and what must not change one."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.config.file import validate
from plum.errors import PlumError
from plum.features.cooccurrence import cooccurrence_vectors
from plum.stages import features, prepare

HISTORIES = st.lists(st.lists(st.integers(0, 7), max_size=6), min_size=1, max_size=8)


def rows(*histories):
    return [np.array(history, dtype=np.int64) for history in histories]


def gram(*histories, n_items, dimensions=50, **more):
    """Inner products (N, N): a vector's axes may be turned as one likes, these can't."""
    vectors = cooccurrence_vectors(rows(*histories), n_items, dimensions, seed=0, **more).astype(np.float64)
    return vectors @ vectors.T


def expected_gram(*histories, n_items, dimensions):
    """The definition once more, pair by pair and with a dense SVD."""
    counts = np.zeros((n_items, n_items))
    for history in histories:
        for place, one in enumerate(history):
            for other in history[place + 1 :]:
                if one != other:
                    counts[one, other] += 1
                    counts[other, one] += 1
    context = counts.sum(0) ** 0.75
    pmi = np.zeros_like(counts)
    for one, other in zip(*np.nonzero(counts), strict=True):
        joint, share = counts[one, other] / counts.sum(), counts[one].sum() / counts.sum()
        pmi[one, other] = max(0.0, np.log(joint / (share * context[other] / context.sum())))
    left, values, _ = np.linalg.svd((pmi + pmi.T) / 2)
    width = min(dimensions, n_items - 1)
    vectors = left[:, :width] * np.sqrt(values[:width])
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / length) @ (vectors / length).T


def test_by_hand_with_equal_contexts():
    # Each of items 0 and 1 is 2 times with one of items 2 and 3, once with the other: 3 pairs each, contexts 1/4 each.
    # PMI is log(2/3 / (1/4)) = log(8/3) and log(4/3). |PMI| of the two blocks [[a, b], [b, a]] is the block itself,
    # so that the cosine of the items on one side is b / a. Item 4 has no partner.
    found = gram([0, 2], [0, 2], [0, 3], [1, 2], [1, 3], [1, 3], [4], n_items=5)
    cosine = log(4 / 3) / log(8 / 3)
    np.testing.assert_allclose(
        found,
        [[1, cosine, 0, 0, 0], [cosine, 1, 0, 0, 0], [0, 0, 1, cosine, 0], [0, 0, cosine, 1, 0], [0] * 5],
        atol=1e-6,
    )


def test_items_with_the_same_partners_have_the_same_vector():
    # One PMI value alone: items 0 and 1 only with item 2. Three items have two axes, which is the rank.
    np.testing.assert_allclose(gram([0, 2], [1, 2], n_items=3), [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-6)


def test_axes_beyond_the_rank_add_nothing():
    small = gram([0, 2], [1, 2], n_items=3)
    for dimensions in (2, 3, 5, 50):
        np.testing.assert_allclose(gram([0, 2], [1, 2], n_items=6, dimensions=dimensions)[:3, :3], small, atol=1e-6)


def test_items_outside_the_strongest_axes_have_no_vector_rather_than_noise():
    # Items 5 and 6 are rare and only with each other: the strongest two axes are theirs.
    everyday = [[0, 1, 2, 3, 4]] * 6
    vectors = cooccurrence_vectors(rows(*everyday, [5, 6]), 7, 2, seed=0)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [0, 0, 0, 0, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_it_is_the_definition_computed_pair_by_pair(dimensions):
    histories = [[0, 1, 2, 3], [0, 1, 5], [2, 4, 4, 1], [3, 3, 0], [5, 0, 2], [1, 5], [4, 3, 2], [4, 1]]
    expected = expected_gram(*histories, n_items=6, dimensions=dimensions)
    found = gram(*histories, n_items=6, dimensions=dimensions)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_contexts_are_smoothed():
    """Without the power, the vectors of this case are others: the test above would not see it in equal contexts."""
    histories = [[0, 1, 2, 3], [0, 1, 5], [2, 4, 4, 1], [5, 0, 2], [1, 5], [4, 1]]
    with pytest.MonkeyPatch.context() as patched:
        smoothed = gram(*histories, n_items=6)
        patched.setattr("plum.features.cooccurrence.CONTEXT_POWER", 1.0)
        plain = gram(*histories, n_items=6)
    assert np.abs(smoothed - plain).max() > 1e-3


def test_a_window_parts_items_that_are_further_apart():
    chain = gram([0, 1, 2, 3], n_items=5, window=1)
    np.testing.assert_allclose(chain, gram([0, 1], [1, 2], [2, 3], n_items=5), atol=1e-6)
    assert np.abs(chain - gram([0, 1, 2, 3], n_items=5)).max() > 0.1
    wide = cooccurrence_vectors(rows([0, 1, 2, 3]), 5, 3, seed=0, window=3)
    assert np.array_equal(wide, cooccurrence_vectors(rows([0, 1, 2, 3]), 5, 3, seed=0))


def test_an_item_is_no_partner_of_itself():
    assert np.array_equal(
        cooccurrence_vectors(rows([0, 0, 1], [2, 2, 2]), 4, 3, seed=0),
        cooccurrence_vectors(rows([0, 1], [0, 1]), 4, 3, seed=0),
    )


def test_fewer_items_than_dimensions_give_fewer_dimensions():
    assert cooccurrence_vectors(rows([0, 1, 2]), 3, 64, seed=0).shape == (3, 2)
    assert cooccurrence_vectors(rows([0, 1]), 2, 64, seed=0).shape == (2, 1)
    assert cooccurrence_vectors(rows([0, 1, 2]), 90, 64, seed=0).shape == (90, 64)


@pytest.mark.parametrize("histories", [[], [[]], [[3]], [[0], [1]], [[2, 2, 2], [0]]])
def test_histories_without_a_pair_are_refused(histories):
    with pytest.raises(PlumError, match="no two items occur together"):
        cooccurrence_vectors(rows(*histories), 5, 2, seed=0)


def test_a_window_never_leaves_neighbours_without_each_other():
    assert cooccurrence_vectors(rows([0, 1]), 2, 1, seed=0, window=1).any()


@given(histories=HISTORIES, dimensions=st.integers(1, 9), seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_rows_are_of_unit_length_or_zero_and_zero_without_a_partner(histories, dimensions, seed):
    partners = {item for history in histories if len(set(history)) > 1 for item in history}
    if not partners:
        return
    vectors = cooccurrence_vectors(rows(*histories), 8, dimensions, seed)
    assert vectors.dtype == np.float32
    assert vectors.shape == (8, min(dimensions, 7))
    length = np.linalg.norm(vectors, axis=1)
    assert (np.isclose(length, 1, atol=1e-5) | (length == 0)).all()
    assert not length[[item for item in range(8) if item not in partners]].any()
    assert length.any()


@given(histories=HISTORIES, dimensions=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_the_order_of_users_and_of_a_history_does_not_count_and_a_seed_repeats(histories, dimensions):
    if not any(len(set(history)) > 1 for history in histories):
        return
    vectors = cooccurrence_vectors(rows(*histories), 8, dimensions, seed=1)
    assert vectors.tobytes() == cooccurrence_vectors(rows(*histories), 8, dimensions, seed=1).tobytes()
    turned = [history[::-1] for history in histories[::-1]]
    assert vectors.tobytes() == cooccurrence_vectors(rows(*turned), 8, dimensions, seed=1).tobytes()


def prepared(folder: Path, **changed: str) -> Path:
    """The features stage on a small log; ``changed`` gives the items of a user's parts other names."""
    usual = {"train": "abcabd", "valid": "e", "test": "f"}
    lines = ["user_id,item_id,timestamp"]
    for user in range(8):
        parts: dict[str, str] = usual | changed
        taken = parts["train"][user % 3 :] + parts["valid"] + parts["test"]
        lines += [f"u{user},{item},{place}" for place, item in enumerate(taken)]
    folder.mkdir()
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    pd.DataFrame({"item_id": list("abcdefgh"), "title": list("stuvwxyz")}).to_csv(folder / "items.csv", index=False)
    source = {"kind": "logs", "interactions": str(folder / "log.csv"), "items": str(folder / "items.csv")}
    values: dict[str, Any] = tiny_run.pipeline(folder / "run", source, ties="keep")
    values["features"] = {"modalities": {"taken": {"encoder": "cooccurrence", "dimensions": 4}}}
    config = validate(values, "the test")
    prepare.run(config)
    features.run(config)
    return folder / "run"


def test_the_stage_reads_the_training_part_alone(tmp_path: Path) -> None:
    one = prepared(tmp_path / "one")
    held_out = prepared(tmp_path / "held_out", valid="g", test="h")
    trained = prepared(tmp_path / "trained", train="abcabh")
    stored = {run: (run / "features/taken.npy").read_bytes() for run in (one, held_out, trained)}
    splits = {run: pd.read_parquet(run / "data/split.parquet")["item_id"].tolist() for run in stored}
    assert splits[one] != splits[held_out]
    assert stored[one] == stored[held_out]
    assert stored[one] != stored[trained]
    vectors = np.load(one / "features/taken.npy")
    assert np.flatnonzero(vectors.any(axis=1)).tolist() == [0, 1, 2, 3]  # e to h are in no training history
