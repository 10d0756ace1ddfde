"""Logs with one line per user."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.data.dialect import Dialect
from plum.data.files import Source
from plum.data.logs import load_logs
from plum.data.sequences import read_sequences
from plum.data.tables import RawTables
from plum.errors import PlumError
from plum.rules.log_rows import LogRule

BY_PLACE: dict[str, Any] = {"item_columns": {"item_id": "1", "title": "2"}, "dialect": Dialect(header=False)}


def load(path: Path, items: Path | None = None, **more: Any) -> RawTables:
    return load_logs(path, items, sequences=True, **more)


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def rows(tables: RawTables) -> list[list[Any]]:
    return tables.interactions[["user_id", "item_id", "timestamp"]].values.tolist()


def test_a_line_is_a_user_and_items_in_order(tmp_path: Path) -> None:
    tables = load(put(tmp_path / "log.txt", "u1 a b a\n\n u2\tb  c \n"))
    assert rows(tables) == [["u1", "a", 0], ["u1", "b", 1], ["u1", "a", 2], ["u2", "b", 0], ["u2", "c", 1]]
    assert tables.timestamps_are_positions
    assert tables.n_rows == 5
    assert not tables.problems


def test_items_without_a_header_are_named_by_place(tmp_path: Path) -> None:
    """Titles hold blanks, which separate the log, and entities."""
    items = put(tmp_path / "titles.tsv", '0\tSonic &amp; Tails\n1\tTom\'s "Ghost"\n2\tNever played\n')
    tables = load(put(tmp_path / "log.txt", "0 0 1\n1 1 0\n"), items, **BY_PLACE)
    assert tables.items.set_index("item_id")["title"].to_dict() == {
        "0": "Sonic & Tails", "1": "Tom's \"Ghost\"", "2": "Never played",
    }  # fmt: skip
    assert len(tables.interactions) == 4


@pytest.mark.parametrize("with_items", [False, True])
def test_the_order_of_the_catalogue_says_nothing_about_time(tmp_path: Path, with_items: bool) -> None:
    """Such files number items by first occurrence, and the catalogue's order breaks ties between scores."""
    ids = [str(number) for number in range(100, 300)]
    items = put(tmp_path / "items.tsv", "".join(f"{item}\tThing {item}\n" for item in ids)) if with_items else None
    found = load(put(tmp_path / "log.txt", f"1 {' '.join(ids)}\n"), items, **(BY_PLACE if with_items else {})).items
    assert sorted(found["item_id"]) == ids
    assert abs(found["item_id"].astype(int).corr(found.index.to_series())) < 0.2
    if with_items:
        assert (found["title"] == "Thing " + found["item_id"]).all()


@pytest.mark.parametrize(
    ("name", "text", "delimiter"),
    [
        ("log.csv", "u1,a b,c,,\nu2,c\n", None),
        ("log.txt", "u1;a b;c\nu2; c ;\n", ";"),
        ("log.sequences", "u1::a b::c\nu2::c\n", "::"),
        ("log.tsv", "u1\ta b\tc\nu2\tc\n", "\t"),
    ],
)
def test_delimiters(tmp_path: Path, name: str, text: str, delimiter: str | None) -> None:
    """Separators at the end of a line, as spreadsheets write them, enclose no item."""
    tables = load(put(tmp_path / name, text), dialect=Dialect(delimiter))
    assert rows(tables) == [["u1", "a b", 0], ["u1", "c", 1], ["u2", "c", 0]]


def test_a_delimiter_is_that_of_the_log_alone(tmp_path: Path) -> None:
    items = put(tmp_path / "items.tsv", "a\tOne; two\nb\tThree; four\n")
    dialect = Dialect(";", header=False)
    tables = load(put(tmp_path / "log.txt", "u;a;b\n"), items, item_columns=BY_PLACE["item_columns"], dialect=dialect)
    assert sorted(tables.items["title"]) == ["One; two", "Three; four"]


def test_packed_parts_in_other_encodings(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "part-2.txt.gz").write_bytes(gzip.compress("ü2 ä\n".encode("latin-1")))
    (folder / "part-10.txt.gz").write_bytes(gzip.compress(b"u3 b a\nu3 b\n"))
    with pytest.raises(PlumError, match=r"1 of 3 rows are unusable(.|\n)*a second line of the user"):
        load(folder, encoding="latin-1")
    assert rows(load(folder, encoding="latin-1", max_bad_share=0.5)) == [["ü2", "ä", 0], ["u3", "b", 0], ["u3", "a", 1]]
    with pytest.raises(PlumError, match=r"part-2\.txt\.gz is not utf-8"):
        load(folder)


def test_lines_and_items_that_can_not_be_used_are_counted(tmp_path: Path) -> None:
    log = put(tmp_path / "log.txt", "u1;a;;b;NA\nu2\nu1;a\n;a\nu3;a;x\n")
    items = put(tmp_path / "items.csv", "item_id,title\na,A\nb,B\n")
    with pytest.raises(PlumError, match="3 of 5 rows are unusable"):
        load(log, items, dialect=Dialect(";"))
    tables = load(log, items, dialect=Dialect(";"), max_bad_share=0.9)
    assert rows(tables) == [["u1", "a", 0], ["u1", "b", 1], ["u3", "a", 0]]
    assert {(p.reason, p.count, p.example) for p in tables.problems} == {
        ("no item after the user", 1, "line 2: 'u2'"),
        ("a second line of the user", 1, "line 3: 'u1;a'"),
        ("no user before the items", 1, "line 4: ';a'"),
        ("item_id is missing", 2, "line 1, item 2: ''"),
        ("item_id is not in items.csv", 1, "line 5, item 2: 'x'"),
    }


def test_files_that_hold_no_sequences(tmp_path: Path) -> None:
    with pytest.raises(
        PlumError, match=r"no line has an item(.|\n)*separated by blanks and tabs(.|\n)*data\.source\.deli"
    ):
        load(put(tmp_path / "log.txt", "u1;a;b\nu2;c\n"))
    with pytest.raises(PlumError, match=r"log\.jsonl: layout sequences is for text"):
        load(put(tmp_path / "log.jsonl", '{"user_id": 1}\n'))
    with pytest.raises(PlumError, match=r"empty\.txt is empty"):
        load(put(tmp_path / "empty.txt", "\n\n"))
    with pytest.raises(PlumError, match=r"absent\.txt does not exist"):
        load(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"columns": {"item_id": "sku"}}, r"columns\.item_id"),
        ({"timestamp_unit": "s"}, "timestamp_unit"),
        ({"timestamp_format": "%d/%m/%Y"}, "timestamp_format"),
        ({"where": LogRule("rating > 3")}, "where, on rating"),
        ({"where": LogRule("timestamp > 3")}, "where, on timestamp"),
    ],
)
def test_settings_of_what_sequences_lack_are_refused(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(PlumError, match=rf"layout sequences has no columns and no times(.|\n)*{said}"):
        load(put(tmp_path / "log.txt", "u a b\n"), **more)


def test_sequences_read_as_rows_are_told(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=r"can't be recognised(.|\n)*--set data\.source\.layout=sequences"):
        load_logs(put(tmp_path / "log.txt", "1 7 8 9\n2 7 3\n3 1 2 3 4\n"))


def test_a_rule_may_choose_users_and_items(tmp_path: Path) -> None:
    tables = load(put(tmp_path / "log.txt", "u a b\nv a c\n"), where=LogRule("user_id != v and item_id != a"))
    assert rows(tables) == [["u", "b", 0]]


WORD = st.text(st.characters(categories=["L", "N", "S"]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(WORD, st.lists(WORD, min_size=1, max_size=8), min_size=1, max_size=8), st.sampled_from(" \t"))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, held: dict[str, list[str]], sign: str
) -> None:
    file = tmp_path_factory.mktemp("log") / "log.txt"
    file.write_text("".join(sign.join([user, *items]) + "\n" for user, items in held.items()), encoding="utf-8")
    found = read_sequences(Source(file))
    assert (found.users, found.lengths) == (list(held), [len(items) for items in held.values()])
    assert found.items.to_pylist() == [item for items in held.values() for item in items]
    assert found.owners().to_pylist() == [user for user, items in held.items() for _ in items]
    assert [found.where()(row) for row in range(len(found.items))] == [
        f"line {line}, item {place}"
        for line, items in enumerate(held.values(), 1)
        for place in range(1, len(items) + 1)
    ]
