"""Files of vectors that are damaged, or no files: refused, whatever NumPy or pyarrow makes of them."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plum.errors import PlumError
from plum.features.given import fit_given

IDS = ["a", "b", "c", "d"]


def refused(path: Path) -> str:
    with pytest.raises(PlumError) as error:
        fit_given(path, IDS, "x")
    return str(error.value)


def npy(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


GOOD = npy(np.ones((4, 3), np.float32))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 100,
        GOOD[:7],
        GOOD[:40],
        GOOD[:-1],
        GOOD.replace(b"(4, 3)", b"(4, 9)"),
        GOOD.replace(b"(4, 3), ", b"(4000000000000000, 3), "),
        GOOD.replace(b"(4, 3)", b"(-4, 3)"[:6]),
        GOOD.replace(b"(4, 3)", b"(((((("),
        GOOD.replace(b"'<f4'", b"'<x4'"),
        GOOD.replace(b"'<f4'", b"'|O8'"),
        GOOD.replace(b"\x93NUMPY\x01", b"\x93NUMPY\x09"),
        npy(np.array([["a", "b"]] * 4)),
        npy(np.ones((4, 3), complex)),
        npy(np.ones((4, 3), "datetime64[s]")),
        npy(np.ones(4, [("a", "f4"), ("b", "i4")])),
        npy(np.ones((4, 3), "timedelta64[s]")),
        npy(np.float32(3)),
        npy(np.ones(4)),
        npy(np.ones((4, 0))),
        npy(np.full((4, 3), np.nan)),
        npy(np.full((4, 3), 1e300)),
        b"PK\x03\x04" + b"\0" * 50,
    ],
    ids=range(23),
)
def test_damaged_arrays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    assert "x.npy" in refused(tmp_path / "x.npy")


def test_bytes_changed_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    for at in range(len(GOOD)):
        for flip in (0xFF, 0x01):
            path.write_bytes(GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :])
            with contextlib.suppress(PlumError):
                assert fit_given(path, IDS, "x").known.vectors.shape[0] == 4


def test_bytes_of_parquet_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame({"item_id": IDS, "v": [[1.0, 2.0]] * 4}).to_parquet(path)
    good = path.read_bytes()
    for at in range(0, len(good), 41):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        with contextlib.suppress(PlumError):
            fit_given(path, IDS, "x")


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_paths_without_a_file(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"link{suffix}").symlink_to(tmp_path / "gone")
    assert "is a pipe" in refused(tmp_path / f"pipe{suffix}")
    assert "is a folder" in refused(tmp_path / f"folder{suffix}")
    assert "is a link to a file that does not exist" in refused(tmp_path / f"link{suffix}")
    assert "does not exist" in refused(tmp_path / f"no{suffix}")
    assert refused(tmp_path / ("n" * 300 + suffix))


@pytest.mark.parametrize("kind", ["?", "i1", "u8", "f2", "f8", ">f4"])
def test_arrays_of_any_numbers_are_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.npy").write_bytes(npy(np.ones((4, 3), kind)))
    vectors = fit_given(tmp_path / "x.npy", IDS, "x").known.vectors
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[1.0] * 3] * 4
