"""Files that are damaged, packed, linked, of other encodings or no files at all: read, or refused by their name."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from plum.data import lines
from plum.data.columns import MOST_FURTHER
from plum.data.files import Source, damage_reported, found_at
from plum.data.logs import load_logs, read_fields, read_ids
from plum.data.sample import guess_encoding, read_sample
from plum.errors import PlumError

LOG = "user_id,item_id,timestamp,rating\nu,a,1,5\nu,b,2,4\n"


def refused(path: Path, **more: Any) -> str:
    with pytest.raises(PlumError) as error:
        load_logs(path, **more)
    return str(error.value)


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("suffix", ["csv.gz", "csv.GZ", "CSV.Gz", "csv.bz2", "csv.xz", "csv.zst", "CSV", "Csv.ZST"])
def test_packed_files_are_read_whatever_the_case_of_their_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log.{suffix}"
    packing = suffix.lower().rpartition(".")[2]
    if packing == "zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(LOG.encode())
    else:
        path.write_bytes(PACKERS.get(packing, bytes)(LOG.encode()))
    assert load_logs(path).interactions["item_id"].tolist() == ["a", "b"]
    assert read_sample(path, 10).n_rows == 2
    packed = path.read_bytes()
    if packing != "csv":
        for broken in (packed[:-5], packed[: len(packed) // 2], packed[:4] + b"\xff" * 9 + packed[13:], b"x" * 40):
            path.write_bytes(broken)
            assert "log." in refused(path)


def test_gzip_with_a_tail_of_garbage_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(LOG.encode()) + b"garbage")
    assert "log.csv.gz is damaged" in refused(path)
    path.write_bytes(b"")
    assert "is empty" in refused(path)
    path.write_bytes(gzip.compress(LOG.encode()) + gzip.compress(b"v,a,3,1\n"))  # members one after the other are one
    assert len(load_logs(path).interactions) == 3


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("log.csv", gzip.compress(LOG.encode()), "packed with gzip"),
        ("log.jsonl", bz2.compress(LOG.encode()), "packed with bzip2"),
        ("log.tsv", lzma.compress(LOG.encode()), "packed with xz"),
        ("log.csv", b"PAR1" + b"\0" * 40, "a Parquet file"),
        ("log.csv", b"PK\x03\x04" + b"\0" * 40, "an Excel workbook"),
        ("log.csv.gz", gzip.compress(b"PK\x03\x04" + b"\0" * 40), "an Excel workbook"),
        ("log.parquet", LOG.encode(), "is not a complete Parquet file"),
        ("log.csv.zip", b"PK\x03\x04", "unzip log.csv.zip"),
        ("log.tgz", b"", "tar xzf log.tgz"),
        ("log.xlsx", b"PK\x03\x04", "unknown format '.xlsx'"),
        ("log.parquet.gz", b"", "unpack the file"),
        ("log.json", b"[]", "jq -c '.[]' log.json > log.jsonl"),
        ("log.feather", b"", "write the table as Parquet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",  # packed bytes hold the time
)
def test_files_that_are_something_else_are_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert told in refused(tmp_path / name)


def test_paths_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "dir.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "gone.csv")
    (tmp_path / "one.csv").symlink_to(tmp_path / "two.csv")
    (tmp_path / "two.csv").symlink_to(tmp_path / "one.csv")
    (tmp_path / "file").write_text("x")
    told = {
        "dir.csv": "is a folder",
        "pipe.csv": "is a pipe",
        "dangling.csv": "is a link to a file that does not exist",
        "one.csv": "is a link that leads nowhere",
        "n" * 300 + ".csv": "can't be read",
        "zero\0.csv": "is no path",
        "file/log.csv": "does not exist",
        "\udcff.csv": "does not exist",
    }
    for suffix in (".csv", ".parquet", ".jsonl.gz"):
        (tmp_path / f"there{suffix}").touch()
    short = ("a folder", "a pipe", "a link to a file that does not exist", "links")
    for name, kind in zip(told, short, strict=False):
        assert kind in found_at(tmp_path / name)
    for name, message in told.items():
        text = refused(tmp_path / name)
        assert message in text
        assert "did you mean dangling.csv" not in text
        for suffix in (".parquet", ".jsonl"):
            other = tmp_path / name.replace(".csv", suffix)
            if name == "pipe.csv":
                os.mkfifo(other)
            assert refused(other)


@pytest.mark.parametrize("name", ["rot13", "base64", "idna", "punycode", "undefined", "latin-99", "a\0b", "\udcff", ""])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".dat"])
def test_encodings_that_are_none_of_files(tmp_path: Path, suffix: str, name: str) -> None:
    (tmp_path / f"log{suffix}").write_text(LOG)
    text = refused(tmp_path / f"log{suffix}", encoding=name)
    assert "encoding" in text
    assert "use one such as utf-8" in text


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".dat"])
@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037", "shift_jis", "utf-7", "utf_8_sig"]
)
def test_text_of_any_encoding_is_read(tmp_path: Path, suffix: str, encoding: str) -> None:
    rows = [line.split(",") for line in LOG.replace("u,a", "ab,c").splitlines()]
    text = "".join("\t".join(row) + "\n" for row in rows) if suffix != ".csv" else LOG.replace("u,a", "ab,c")
    if suffix == ".jsonl":
        text = "".join(json.dumps(dict(zip(rows[0], row, strict=True))) + "\n" for row in rows[1:])
    path = tmp_path / f"log{suffix}"
    path.write_bytes(text.encode(encoding))
    assert load_logs(path, encoding=encoding).interactions["user_id"].tolist() == ["ab", "u"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_byte_order_marks_are_told_and_asked_for(tmp_path: Path, suffix: str) -> None:
    """The advice of each message can be followed."""
    path = tmp_path / f"log{suffix}"
    text = LOG if suffix == ".csv" else '{"user_id": "u", "item_id": "a", "timestamp": 1}\n'
    for encoding in ("utf-16-le", "utf-16-be"):
        path.write_bytes(text.encode(encoding))
        for given in ("utf-16", "utf-8", "latin-1"):
            assert f"--set data.source.encoding={encoding}" in refused(path, encoding=given)
        assert load_logs(path, encoding=encoding).interactions["user_id"].tolist()[0] == "u"
    for encoding in ("utf-16", "utf-32"):
        path.write_bytes(text.encode(encoding))
        assert f"--set data.source.encoding={encoding}" in refused(path)
        assert load_logs(path, encoding=encoding).interactions["user_id"].tolist()[0] == "u"
    path.write_bytes(text.encode("utf-16")[:-1])
    assert "is not utf-16" in refused(path, encoding="utf-16")
    path.write_bytes("user_id,item_id,timestamp\nü,a,1\n".encode("latin-1"))
    assert "is not ascii" in refused(path, encoding="ascii") or suffix == ".jsonl"


def test_no_text_at_all(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    for name in ("x.csv", "x.tsv", "x.jsonl", "x.dat", "x.parquet", "x.csv.gz"):
        for content in (noise, b"\0" * 5000, b"\n" * 50, b'"' * 4999, b",\n" * 99, b"\x85\x1f\x1e"):
            (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
            assert refused(tmp_path / name)
            for encoding in ("latin-1", "utf-16"):
                assert refused(tmp_path / name, encoding=encoding)
    (tmp_path / "ids.txt").write_bytes(b"\xff")
    with pytest.raises(PlumError, match="not utf-8"):
        read_ids(tmp_path / "ids.txt")


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz", "x.dat.gz", "x.txt.gz"])
def test_a_line_without_end_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(lines, "BLOCK", 1 << 12)
    for module in ("lines", "blocks", "records"):
        monkeypatch.setattr(f"plum.data.{module}.LONGEST_LINE", 1 << 16)
    path = tmp_path / name
    for content in (b"0" * (1 << 20), b"\0" * (1 << 20), b"user_id,item_id,timestamp\n" + b"x" * (1 << 20)):
        path.write_bytes(gzip.compress(content))
        assert "is longer than" in refused(path)
        if "txt" in name:
            with pytest.raises(PlumError, match="is longer than"):
                read_ids(path)
    if "csv" in name:
        path.write_bytes(gzip.compress(b'user_id,item_id,timestamp\nu,"x\n' + b"u,a,1\n" * (1 << 18)))
        assert "the double quote opened on line 2" in refused(path)


def test_thousands_of_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Linear in time, and no more than some of those that no one has named."""
    log = tmp_path / "log.csv"
    log.write_text(LOG)
    names = [f"c{n}" for n in range(20_000)]
    wide = tmp_path / "items.csv"
    wide.write_text(",".join(["item_id", *names]) + "\na," + ",".join("1" * 20_000) + "\nb" + "," * 20_000 + "\n")
    items = load_logs(log, wide, item_columns={"last": "c19999"}).items
    assert len(items.columns) == 5 + 1 + MOST_FURTHER
    assert items["last"].tolist()[0] == 1
    assert "left out 19,899 of its 20,001 columns" in caplog.text
    assert "data.source.item_columns" in caplog.text
    keyed = tmp_path / "items.jsonl"
    keyed.write_text("".join(json.dumps({"item_id": item, f"k{item}{n}": n}) + "\n" for n in range(4) for item in "ab"))
    keyed.write_text(
        "".join(json.dumps({"item_id": f"x{n}", **{f"k{n}.{m}": m for m in range(20)}}) + "\n" for n in range(1000))
        + '{"item_id": "a"}\n{"item_id": "b", "k999.3": 7}\n'
    )
    items = load_logs(log, keyed, item_columns={"one": "k999.3"}).items
    assert len(items.columns) <= 5 + 1 + MOST_FURTHER
    assert items["one"].dropna().tolist() == [3, 7]
    (tmp_path / "users.csv").write_text(wide.read_text().replace("item_id", "user_id").replace("\na,", "\nu,"))
    users = load_logs(log, None, tmp_path / "users.csv").users
    assert users is not None
    assert len(users.columns) <= MOST_FURTHER
    assert read_sample(wide, 20_000).n_rows == 2
    assert read_sample(keyed, 20_000).n_rows >= 200
    assert len(read_fields(wide).columns) == 1 + MOST_FURTHER
    wide.write_text(",".join(names) + "\n")
    assert len(refused(log, items=wide)) < 2000


@pytest.mark.parametrize("depth", [50, 500, 1_000, 100_000])
def test_deep_json_is_counted(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "log.jsonl"
    good = '{"user_id": "u", "item_id": "a", "timestamp": %d}\n'
    for deep in ('{"a":' * depth + "1" + "}" * depth, "[" * depth + "]" * depth):
        path.write_text("".join(good % n for n in range(9)) + f'{{"user_id": "u", "item_id": {deep}}}\n')
        tables = load_logs(path, max_bad_share=0.5)
        (problem,) = tables.problems
        assert problem.example.startswith("line 10")
        assert ("brackets in each other" in problem.reason) == (depth > 50)


def test_header_alone(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    for name in ("x.csv", "x.tsv", "x.dat", "x.csv.gz"):
        for end in ("", "\n", "\r\n", "\n\n\n"):
            text = LOG.splitlines()[0].replace(",", "," if "csv" in name else "\t") + end
            (tmp_path / name).write_bytes(gzip.compress(text.encode()) if "gz" in name else text.encode())
            assert "has no usable row\n  found: a header and no rows" in refused(tmp_path / name)
            assert "has no usable row" in refused(tmp_path / "log.csv", items=tmp_path / name)


def test_zip_members_that_can_not_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", LOG)
    content = bytearray(path.read_bytes())
    for at in range(0, len(content), 3):
        broken = bytearray(content)
        broken[at] ^= 0xFF
        path.write_bytes(bytes(broken))
        try:
            with damage_reported(Source(path, "a.csv")), Source(path, "a.csv").open() as stream:
                stream.read()
        except (PlumError, KeyError):  # KeyError: the member has another name now
            pass


def test_encoding_guesses_of_packed_files(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.bz2"
    path.write_bytes(bz2.compress("ü".encode("cp1252")))
    assert guess_encoding(path) == "cp1252"
