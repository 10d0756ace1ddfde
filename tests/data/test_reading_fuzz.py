"""Damaged files of every format: read, or refused in words, and never a traceback or a hang."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plum.data.logs import load_logs, read_fields
from plum.data.sample import read_sample
from plum.errors import PlumError
from plum.features.given import fit_given

COLUMNS: dict[str, list[Any]] = {
    "user_id": ["u1", "u1", "2", "é"],
    "item_id": ["a", 'b "c"', "a", "d"],
    "timestamp": [1600000000, 1600000001, 1600000002, 1600000003],
    "rating": [1.5, 2.0, 3.0, 4.0],
    "title": ["Film", "Two, three", "x;y", "z"],
    "topics": ["a|b", "['a', 'b']", "{a,b}", ""],
}
ROWS = list(zip(*COLUMNS.values(), strict=True))


def delimited(separator: str, quote: str = "") -> bytes:
    lines = [[*COLUMNS], *ROWS]
    return "\n".join(separator.join(f"{quote}{value}{quote}" for value in line) for line in lines).encode()


def parquet() -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table(COLUMNS), held)
    return held.getvalue()


def vectors() -> bytes:
    held = io.BytesIO()
    np.save(held, np.eye(4, dtype=np.float32))
    return held.getvalue()


LINES = "\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in ROWS).encode()
FILES = {
    "f.csv": delimited(",", '"'),
    "f.tsv": delimited("\t"),
    "f.dat": delimited("::"),
    "f.jsonl": LINES,
    "f.parquet": parquet(),
    "f.csv.gz": gzip.compress(delimited(",", '"'), mtime=0),
    "f.jsonl.bz2": bz2.compress(LINES),
    "f.npy": vectors(),
}
PIECES = [
    b'"',
    b"'",
    b"\\",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b",",
    b"\t",
    b"::",
    b"[" * 200,
    b"{",
    b"}",
    b"\\ud83d",
    b"NaN",
]
EDIT = st.tuples(st.integers(0, 9999), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=4))
LONGEST = 10.0  # seconds for a file of a few lines: far more than it takes, far less than a hang


def attempt(read: Callable[[], object]) -> None:
    start = time.perf_counter()
    with contextlib.suppress(PlumError):
        read()
    assert time.perf_counter() - start < LONGEST


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path: Path = tmp_path_factory.mktemp("fuzz") / name

    @given(st.lists(EDIT, min_size=1, max_size=4), st.booleans())
    @settings(deadline=None, max_examples=100, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
    def damage(edits: list[tuple[int, int, bytes]], cut: bool) -> None:
        content = bytearray(FILES[name])
        for at, length, piece in edits:
            place = at % (len(content) + 1)
            content[place : place + length] = piece
        path.write_bytes(content[: edits[0][0] % (len(content) + 1)] if cut else content)
        if name.endswith(".npy"):
            attempt(lambda: fit_given(path, ["a", "b", "c", "d"], "vectors"))
            return
        attempt(lambda: load_logs(path, max_bad_share=0.9))
        attempt(lambda: load_logs(path, path, path, max_bad_share=1.0))
        attempt(lambda: read_fields(path))
        attempt(lambda: read_sample(path, 3))

    damage()
