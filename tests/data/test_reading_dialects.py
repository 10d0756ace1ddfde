"""Delimiters, quotes and escapes: each file is read as it was written, and a quote never takes in rows unseen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from plum.data.dialect import Dialect
from plum.data.logs import load_logs
from plum.errors import PlumError

LOG = "user_id,item_id,timestamp\n" + "".join(f"u{n % 3},i{n},{n}\n" for n in range(12))
TITLES = [f"Plain {n}" for n in range(12)]


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def table(titles: list[str], separator: str) -> str:
    rows = [separator.join((f"i{n}", title, "1999", "Drama")) for n, title in enumerate(titles)]
    return "\n".join([separator.join(("item_id", "title", "year", "genre")), *rows]) + "\n"


def read(tmp_path: Path, name: str, content: str, **more: Any) -> list[str | None]:
    """The titles of an item table."""
    items = write(tmp_path / name, content)
    return load_logs(write(tmp_path / "log.csv", LOG), items, **more).items["title"].tolist()


def refused(tmp_path: Path, name: str, content: str, **more: Any) -> str:
    with pytest.raises(PlumError) as error:
        read(tmp_path, name, content, **more)
    return str(error.value)


def titled(**titles: str) -> list[str]:
    return [titles.get(f"i{n}", title) for n, title in enumerate(TITLES)]


ODD = [
    titled(i2='"Heart" of stone', i5='A 5" nail'),
    titled(i2='"Late show'),
    titled(i2='"Late show', i5='Say "no'),
    titled(i2='"Late show', i3='Say no"'),
    titled(i2='"In quotes"', i3='""', i4='"'),
    titled(i2='"', i11='"'),
]


@pytest.mark.parametrize("titles", ODD)
@pytest.mark.parametrize("name", ["i.tsv", "i.dat", "i.item"])
def test_quotes_in_tsv_are_text(tmp_path: Path, name: str, titles: list[str]) -> None:
    assert read(tmp_path, name, table(titles, "\t")) == titles


@pytest.mark.parametrize("titles", ODD)
def test_quotes_can_be_text_in_csv(tmp_path: Path, titles: list[str]) -> None:
    assert read(tmp_path, "i.csv", table(titles, ","), dialect=Dialect(quoting="none")) == titles


@pytest.mark.parametrize("titles", [ODD[1], ODD[2], ODD[3], ODD[5]])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_that_takes_in_items_is_told_with_its_line(tmp_path: Path, titles: list[str], end: str) -> None:
    text = refused(tmp_path, "i.csv", table(titles, ",").replace("\n", end), max_bad_share=1.0)
    assert "i.csv: the double quote opened on line 4 is not closed on that line" in text
    assert "data.source.quoting=none" in text
    assert "is not in" not in text


@pytest.mark.parametrize("kind", ["items", "users", "interactions"])
def test_swallowed_rows_are_told_in_every_file(tmp_path: Path, kind: str) -> None:
    content = {
        "items": 'item_id,title,year\ni0,a,1\ni1,"b,2\ni2,c",3\ni3,d,4\n',
        "users": 'user,note,age\nu0,a,1\nu1,"b,2\nu2,c",3\n',
        "interactions": 'user_id,item_id,note,timestamp\nu0,i0,a,1\nu1,i1,"b,2\nu2,i2,c",3\nu2,i3,c,3\n',
    }
    path = write(tmp_path / "odd.csv", content[kind])
    log = write(tmp_path / "log.csv", "user,user_id,item_id,timestamp\nu0,u0,i0,1\n")
    given: dict[str, Any] = {"interactions": log, kind: path}
    columns = {"interactions": {"note": "note"}, "users": {"user_id": "user"}}.get(kind)
    with pytest.raises(PlumError, match="opened on line 3 is not closed on that line and takes in rows up to line 4"):
        load_logs(columns=columns, max_bad_share=1.0, **given)


def test_an_id_that_stands_in_the_file_is_never_called_missing(tmp_path: Path) -> None:
    """Its row is inside a quoted value, or has too many fields."""
    log = write(tmp_path / "log.csv", LOG.splitlines()[0] + "\nu,i0,1\nu,i2,2\n")
    contents = {
        "items.csv": 'item_id,title\ni0,"one, two\ni2,three, four"\n',
        "more.csv": "item_id,title\ni0,a\ni1,b\ni2,c,d\n",
        "items.jsonl": '{"item_id": "i0"}\n{"item_id": "i2", "title": "cut\n',
    }
    for name, content in contents.items():
        items = write(tmp_path / name, content)
        with pytest.raises(PlumError, match=rf"item_id stands in {name}, .*\(line \d: 'i2'\)|fields|complete") as error:
            load_logs(log, items, max_bad_share=0.4)
        assert f"is not in {name}" not in str(error.value)
        assert len(load_logs(log, items, max_bad_share=0.9).interactions) == 1


def test_descriptions_of_several_lines_are_read(tmp_path: Path) -> None:
    long = 'First, a line,\nthen ""another"", and, one\n\nmore'
    titles = titled(i3=f'"{long}"')
    assert read(tmp_path, "i.csv", table(titles, ","))[3] == long.replace('""', '"')
    assert (
        read(tmp_path, "i.csv", "item_id,title\n" + "".join(f'i{n},"a, b\nc, d"\n' for n in range(12)))
        == ["a, b\nc, d"] * 12
    )


def test_a_tsv_that_was_written_with_quotes_is_read_with_them(tmp_path: Path) -> None:
    assert read(tmp_path, "i.tsv", table(titled(i2='"Say ""no"""'), "\t"))[2] == 'Say "no"'
    quoted = "\n".join("\t".join(f'"{part}"' for part in row.split("\t")) for row in table(TITLES, "\t").splitlines())
    assert read(tmp_path, "r.tsv", quoted) == TITLES  # as R writes it
    both = titled(i2='"Say ""no"""', i4='"Late show')
    assert read(tmp_path, "i.tsv", table(both, "\t")) == both


def test_backslashes_of_spark(tmp_path: Path) -> None:
    content = table(titled(i2=r'"Say \"no, no\" twice"', i5=r'"A \\ b"'), ",")
    text = refused(tmp_path, "i.csv", content)
    assert "escaped by backslashes (line 4)" in text
    assert "--set data.source.escape=backslash" in text
    titles = read(tmp_path, "i.csv", content, dialect=Dialect(escape="\\"))
    assert titles == titled(i2='Say "no, no" twice', i5="A \\ b")


def test_text_after_a_closing_quote_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "i.csv", table(ODD[0], ","))
    assert "i.csv: 1 values go on after their closing quote (first: line 4)" in caplog.text


@pytest.mark.parametrize("separator", ["\t", "::", ";", "|", ",", " "])
@pytest.mark.parametrize("name", ["log.dat", "log.txt", "log.inter"])
def test_delimiters_are_recognised(tmp_path: Path, name: str, separator: str) -> None:
    content = LOG.replace(",", separator)
    for dialect in (None, Dialect(delimiter=separator)):
        if name == "log.inter" and separator != "\t" and dialect is None:
            continue
        tables = load_logs(write(tmp_path / name, content), dialect=dialect)
        assert tables.interactions["item_id"].tolist() == [f"i{n}" for n in range(12)]


def test_a_delimiter_is_for_the_files_that_have_it(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", LOG.replace(",", ";"))
    items = write(tmp_path / "items.tsv", table(TITLES, "\t"))
    assert load_logs(log, items, dialect=Dialect(delimiter=";")).items["title"].tolist() == TITLES
    with pytest.raises(PlumError, match=r"--set data\.source\.delimiter=semicolon"):
        load_logs(log)


def test_a_delimiter_of_several_characters_with_quotes(tmp_path: Path) -> None:
    titles = titled(i2="a::b", i3='say "no"')
    content = table([f'"{title}"'.replace('"no"', '""no""') for title in titles], "::")
    assert read(tmp_path, "i.dat", content, dialect=Dialect(delimiter="::", quoting="double")) == titles


def test_recbole_files(tmp_path: Path) -> None:
    log = write(
        tmp_path / "ml.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4\t100\n1\t11\t5\t200\n2\t10\t3\t50\n",
    )
    items = write(
        tmp_path / "ml.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tToy Story\t1995\tAnimation Comedy\n11\tHeat\t1995\t\n",
    )
    users = write(tmp_path / "ml.user", "user_id:token\tage:token\n1\t24\n2\t53\n")
    mapping = {"title": "movie_title", "topics": "class:token_seq"}
    tables = load_logs(log, items, users, item_columns=mapping)
    assert tables.interactions["rating"].tolist() == [4, 5, 3]
    assert tables.items["title"].tolist() == ["Toy Story", "Heat"]
    assert tables.items["topics"].tolist() == [["Animation", "Comedy"], None]
    assert tables.users is not None
    assert tables.users["age"].tolist() == [24, 53]


def test_files_without_a_header(tmp_path: Path) -> None:
    """As ratings.dat and movies.dat of MovieLens."""
    log = write(tmp_path / "ratings.dat", "1::10::4::100\n1::11::5::200\n2::10::3::50\n")
    movies = write(tmp_path / "movies.dat", "10::Toy Story (1995)::Animation|Comedy\n11::Heat, a film::Action\n")
    with pytest.raises(PlumError, match=r"--set data\.source\.header=false") as error:
        load_logs(log)
    assert "has no header line" in str(error.value)
    columns = {"user_id": "1", "item_id": "2", "rating": "3", "timestamp": "4"}
    titles = {"item_id": "1", "title": "2", "topics": "3"}
    tables = load_logs(log, movies, columns=columns, item_columns=titles, dialect=Dialect(header=False))
    assert tables.interactions["timestamp"].tolist() == [100, 200, 50]
    assert tables.items["title"].tolist() == ["Toy Story (1995)", "Heat, a film"]
    assert tables.items["topics"].tolist() == [["Animation", "Comedy"], ["Action"]]
    named = write(tmp_path / "items.csv", "item_id,title\n10,A\n11,B\n")  # a header all the same
    tables = load_logs(log, named, columns=columns, dialect=Dialect(header=False))
    assert tables.items["title"].tolist() == ["A", "B"]


def test_quotes_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks end between rows, wherever the file's blocks end."""
    content = "item_id,title,year\n" + "".join(f'i{n},"a ""b""\n{n},\n\nc, {n}",{n}\r\n' for n in range(12))
    want = [f'a "b"\n{n},\n\nc, {n}' for n in range(12)]
    for size in range(1, 40):
        monkeypatch.setattr("plum.data.lines.BLOCK", size)
        assert read(tmp_path, "i.csv", content) == want


def test_blanks_around_the_names_of_a_header(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "user_id, item , timestamp\nu, a, 1\n")
    for name in ("item", " item "):
        assert load_logs(log, columns={"item_id": name}).interactions["item_id"].tolist() == ["a"]


def test_the_line_for_excel_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match="line 1 is a note for Excel"):
        load_logs(write(tmp_path / "log.csv", "sep=;\n" + LOG.replace(",", ";")))
