"""Given vectors: .npy by row, Parquet by id, and every way in which a file doesn't fit the catalogue."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from plum.errors import PlumError
from plum.features.by_id import VectorsById
from plum.features.given import fit_given

CATALOGUE = ["a", "b", "c", "d"]
VECTORS = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
LISTS = VECTORS.tolist()


def stored(folder: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), folder / "image.parquet")
    return folder / "image.parquet"


def fit(path: Path):
    return fit_given(path, CATALOGUE, "image")


def items(ids: list[str], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"item_id": ids, **columns})


LAYOUTS = {
    "lists": lambda: {"image": pa.array(LISTS)},
    "large lists": lambda: {"image": pa.array(LISTS, pa.large_list(pa.float32()))},
    "fixed lists": lambda: {"image": pa.array(LISTS, pa.list_(pa.float64(), 2))},
    "whole numbers": lambda: {"image": pa.array([[1, 2], [3, 4], [5, 6]])},
    "columns": lambda: {"x": VECTORS[:, 0].astype(np.float64), "y": [2, 4, 6]},
    "two chunks": lambda: {"image": pa.chunked_array([LISTS[:1], LISTS[1:]])},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parquet_belongs_to_items_by_id(tmp_path, layout):
    path = stored(tmp_path, item_id=["c", "a", "d"], **LAYOUTS[layout]())
    found = fit(path).transform(items(CATALOGUE))
    np.testing.assert_array_equal(found.vectors, np.array([[3, 4], [0, 0], [1, 2], [5, 6]], dtype=np.float32))
    assert found.vectors.dtype == np.float32
    assert found.present.tolist() == [True, False, True, True]


def test_an_item_with_null_for_its_vector_has_none(tmp_path):
    ids = ["d", "c", "a"]
    for columns in (
        {"v": pa.array([[1.0, 2.0], None, [5.0, 6.0]])},
        {"v": pa.array([[1.0, 2.0], None, [5.0, 6.0]], pa.list_(pa.float32(), 2))},
        {"x": [1.0, None, 5.0], "y": [2.0, None, 6.0]},
    ):
        found = fit(stored(tmp_path, item_id=ids, **columns)).transform(items(["c", "a", "d"]))
        assert found.vectors.tolist() == [[0, 0], [5, 6], [1, 2]]
        assert found.present.tolist() == [False, True, True]


def test_ids_may_be_stored_as_numbers_and_an_index_of_pandas_is_no_dimension(tmp_path):
    table = pd.DataFrame({"item_id": [12, 7], "x": [1.0, 2.0]}, index=[5, 9])
    table.to_parquet(tmp_path / "x.parquet")
    found = fit_given(tmp_path / "x.parquet", ["7", "12"], "image").transform(items(["7", "12"]))
    assert found.vectors.tolist() == [[2.0], [1.0]]


def test_npy_belongs_to_items_by_row_and_then_by_id(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(8.0).reshape(4, 2))
    encoder = fit(tmp_path / "x.npy")
    assert encoder.transform(items(["c", "new", "a"])).vectors.tolist() == [[4, 5], [0, 0], [0, 1]]
    assert encoder.transform(items(["c", "new", "a"])).present.tolist() == [True, False, True]


def test_later_items_bring_their_vectors(tmp_path):
    encoder = fit(stored(tmp_path, item_id=["a", "b", "c"], v=LISTS))
    later = items(["new", "newer", "b", "c"], vectors_image=[[7.0, 8.0], None, np.array([9, 9]), float("nan")])
    found = encoder.transform(later)
    assert found.vectors.tolist() == [[7, 8], [0, 0], [9, 9], [5, 6]]
    assert found.present.tolist() == [True, False, True, True]
    assert encoder.transform(items(["b"])).vectors.tolist() == [[3, 4]]  # they don't change the encoder


def test_no_id_is_looked_for_where_all_items_bring_their_vectors(tmp_path, monkeypatch):
    """What new items cost is not to grow with the catalogue, which would be gone through for nothing."""
    encoder = fit(stored(tmp_path, item_id=["a", "b", "c"], v=LISTS))
    looked: list[list[str]] = []
    of = VectorsById.of
    monkeypatch.setattr(VectorsById, "of", lambda self, some: looked.append(some["item_id"].tolist()) or of(self, some))
    encoder.transform(items(["new", "b", "newer"], vectors_image=[[7.0, 8.0], None, [9.0, 9.0]]))
    encoder.transform(items(["new", "newer"], vectors_image=[[7.0, 8.0], [9.0, 9.0]]))
    assert looked == [["b"], []]


def test_the_catalogue_is_gone_through_once_and_only_for_an_item():
    class Ids(list):
        read = 0

        def __iter__(self):
            Ids.read += 1
            return super().__iter__()

    known = VectorsById(Ids(["a", "b"]), VECTORS[:2])
    none = known.of(items([]))
    assert (none.vectors.shape, none.vectors.dtype, none.present.tolist(), Ids.read) == ((0, 2), np.float32, [], 0)
    for _ in range(3):
        assert known.of(items(["b", "x"])).vectors.tolist() == [[3, 4], [0, 0]]
    assert Ids.read == 1


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([1.0], "(?s)'new' is not a vector of this modality.*a list of 1.*a list of 2 numbers"),
        ("ab", "(?s)not a vector of this modality.*str"),
        (3.0, "(?s)not a vector of this modality.*float"),
        ([1.0, None], r"(?s)not a vector of this modality.*\[1.0, None\]"),
        (["1", "2"], "not a vector of this modality"),
        ([[1.0], [2.0]], "not a vector of this modality"),
        ([[1.0], [2.0, 3.0]], "not a vector of this modality"),
        ([1.0, float("nan")], r"vectors_image holds NaN, infinity[^\n]*\n.*1 row: row 1 \(item 'new'\)"),
        ([1.0, 1e300], "vectors_image holds NaN, infinity or numbers beyond single precision"),
    ],
)
def test_vectors_of_later_items_are_checked(tmp_path, value, complaint):
    encoder = fit(stored(tmp_path, item_id=["a", "b", "c"], v=LISTS))
    with pytest.raises(PlumError, match=complaint):
        encoder.transform(items(["old", "new"], vectors_image=pd.Series([None, value], dtype=object)))


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"item_id": ["a", "b", "a"], "v": LISTS}, "(?s)item ids more than once.*1 id: 'a'"),
        ({"item_id": ["a", "x", "y"], "v": LISTS}, r"(?s)not in the catalogue.*2 ids: 'x', 'y'\n.*k-core"),
        ({"item_id": ["x", "y", "z"], "v": LISTS}, "(?s)vector for no item of the catalogue.*3 ids: 'x', .*'a'"),
        ({"item_id": pa.array([], pa.string()), "v": pa.array([], pa.list_(pa.float32()))}, "(?s)no item.*no rows"),
        ({"item_id": ["a", None, "c"], "v": LISTS}, "(?s)rows without an item_id.*1 of 3 rows"),
        ({"item_id": ["a", "b", "c"], "v": pa.nulls(3, pa.list_(pa.float32()))}, "vector for no item of the catalogue"),
        ({"item_id": ["a", "b", "c"], "v": [[1.0], [2.0, 3.0], [4.0]]}, "(?s)the same width.*widths 1, 2"),
        ({"item_id": ["a", "b"], "v": pa.array([[], []], pa.list_(pa.float32()))}, "(?s)the same width.*widths 0"),
        ({"item_id": ["a", "b"], "v": [["x"], ["y"]]}, r"(?s)does not hold vectors.*v \(list<"),
        ({"item_id": ["a", "b"], "v": [[1.0], [2.0]], "n": [1, 2]}, "does not hold vectors"),
        ({"item_id": ["a", "b"], "x": [1.0, 2.0], "note": ["p", "q"]}, r"(?s)does not hold vectors.*note \(string\)"),
        ({"item_id": ["a", "b"]}, "(?s)does not hold vectors.*besides item_id: none"),
        ({"id": ["a", "b"], "v": LISTS[:2]}, "(?s)has no column item_id.*columns id, v"),
        (
            {"item_id": ["c", "b"], "v": [[1.0, 2.0], [float("nan"), 1.0]]},
            r"(?s)image.parquet holds NaN, infinity.*1 row: row 1 \(item 'b'\)",
        ),
        ({"item_id": ["c", "b"], "v": [None, [float("nan")]]}, r"row 1 \(item 'b'\)"),
        ({"item_id": ["a", "b"], "v": pa.array([[1.0, 2.0], [None, 1.0]])}, "NaN, infinity"),
        ({"item_id": ["a", "b"], "x": [1.0, None], "y": [1.0, 2.0]}, r"(?s)NaN, infinity.*row 1 \(item 'b'\)"),
        ({"item_id": ["a", "b"], "v": [[1e300], [1.0]]}, "beyond single precision"),
        ({"item_id": ["a", "b"], "x": [1e300, 1.0]}, "beyond single precision"),
    ],
)
def test_parquet_that_does_not_fit_is_refused(tmp_path, columns, complaint):
    with pytest.raises(PlumError, match=complaint):
        fit(stored(tmp_path, **columns))


def test_no_parquet_at_all_is_a_message(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"not a table")
    with pytest.raises(PlumError, match="can't be read as Parquet"):
        fit(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (np.array([[1.0, np.nan], [1, 2], [1, 2], [np.inf, 1]]), r"2 rows: row 0 \(item 'a'\), row 3 \(item 'd'\)"),
        (np.array([[1e300], [1], [2], [3]]), "beyond single precision"),
        (np.ones((4, 0)), r"does not fit[^\n]*\n.*shape \(4, 0\), 4 items"),
        (np.ones((4, 2)) * 1j, "complex"),
    ],
)
def test_npy_that_does_not_fit_is_refused(tmp_path, content, complaint):
    np.save(tmp_path / "x.npy", content)
    with pytest.raises(PlumError, match=complaint):
        fit(tmp_path / "x.npy")


def test_rows_of_zeros_are_content_with_a_warning(tmp_path, caplog):
    np.save(tmp_path / "x.npy", np.array([[0.0, 0.0], [1, 2], [0, 0], [3, 4]]))
    with caplog.at_level(logging.WARNING):
        assert fit(tmp_path / "x.npy").transform(items(CATALOGUE)).present.all()
    assert "x.npy: 2 vectors are all zeros" in caplog.text
    caplog.clear()
    np.save(tmp_path / "x.npy", np.array([[0.0], [1], [2], [3]]))  # of one number, zero is a value like any other
    fit(tmp_path / "x.npy")
    assert not caplog.text


def test_rows_of_one_number_are_content_with_a_warning(tmp_path, caplog):
    np.save(tmp_path / "x.npy", np.array([[-1.0, -1.0], [1, 2], [0, 0], [3, 3]]))
    with caplog.at_level(logging.WARNING):
        assert fit(tmp_path / "x.npy").transform(items(CATALOGUE)).present.all()
    assert "x.npy: 2 vectors hold one number in all places and are used as they are (2 ids: 'a', 'd')" in caplog.text
    assert "x.npy: 1 vectors are all zeros" in caplog.text
