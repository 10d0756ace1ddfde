"""Topics and texts in every form that holds them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plum.data.logs import load_logs
from plum.data.topics import Untold, joined_text, likely_separator, read_topics, written_list
from plum.errors import PlumError

BOTH = ["Science Fiction", "Drama"]


def topics(values: list[Any], separator: str = "|", max_bad_share: float = 0.01) -> list[list[str] | None]:
    return read_topics(
        values, separator, name="items, topics", where=lambda row: f"row {row}", max_bad_share=max_bad_share
    )


@pytest.mark.parametrize(
    "value",
    [
        "Science Fiction| Drama|Drama|",
        "['Science Fiction', 'Drama']",
        '["Science Fiction", "Drama"]',
        '["Science Fiction", null, "Drama"]',
        "['Science Fiction', nan, 'Drama']",
        "['Science Fiction' 'Drama']",
        "['Science Fiction'\n 'Drama']",
        "array(['Science Fiction', 'Drama'], dtype=object)",
        '{"Science Fiction",Drama}',
        "{'Science Fiction', 'Drama'}",
        "('Science Fiction', 'Drama')",
        "[Science Fiction, Drama]",
        '[["Science Fiction"], ["Drama"]]',
        '{{"Science Fiction"},{Drama}}',
        '[{"id": 1, "name": "Science Fiction"}, {"id": 2, "name": "Drama"}]',
        "[{'id': 1, 'Label': 'Science Fiction'}, {'id': 2, 'Label': 'Drama'}]",
        '{"/m/06n90": "Science Fiction", "/m/07s9rl0": "Drama"}',
        ["Science Fiction", " Drama ", "Drama", None, float("nan")],
        [["Science Fiction"], ["Science Fiction", "Drama"]],
        [{"title": "Science Fiction"}, {"genre": "Drama"}],
        [("Science Fiction", 0.5), ("Western", 0.0), ("Drama", 1.0)],  # a map of Parquet
        [b"Science Fiction", b"Drama"],
    ],
    ids=str,
)
def test_all_of_these_are_two_topics(value: Any) -> None:
    assert topics([value]) == [BOTH]


@pytest.mark.parametrize("value", [None, "", "[]", "{}", "set()", "\\N", "[None]", "N/A", [], {}, "['']"], ids=str)
def test_all_of_these_are_none(value: Any) -> None:
    assert topics([value]) == [None]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("(no genres listed)", ["(no genres listed)"]),
        ("[adult swim]|Drama", ["[adult swim]", "Drama"]),
        ("['Children\\'s', \"Rock 'n' Roll\"]", ["Children's", "Rock 'n' Roll"]),
        ("{Children's,Drama}", ["Children's", "Drama"]),
        ([1, 2.0], ["1", "2"]),
        ("[1 2]", ["1", "2"]),
    ],
)
def test_odd_spellings(value: Any, wanted: list[str]) -> None:
    assert topics([value]) == [wanted]


@pytest.mark.parametrize(
    "value",
    [
        {"id": 1, "rank": 2},
        [{"id": 1, "rank": 2}],
        True,
        "[{'id': 1, 'rank': 2}]",
        "{Drama: 1}",
        '["Drama", "Wa',
        b"\xff",
    ],
    ids=str,
)
def test_what_does_not_tell_is_refused_with_an_example(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PlumError, match=r"items, topics: 1 of 2 items hold(.|\n)*the first on row 1"):
        topics(["Drama", value])
    with caplog.at_level(logging.WARNING):
        assert topics(["Drama", value], max_bad_share=0.5) == [["Drama"], None]
    assert "left empty in 1 items" in caplog.text


def test_lists_nested_too_deeply_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PlumError, match="lists nested too deeply"):
        topics([deep])
    assert topics(["[" * 50_000 + "]" * 50_000]) == [None]


def test_another_separator_is_told_and_the_advice_works(caplog: pytest.LogCaptureFixture) -> None:
    values = ["Drama, War", "War, Action", "Action, Drama"] * 9
    with caplog.at_level(logging.WARNING):
        assert topics(values)[0] == ["Drama, War"]
        assert 'topic_separator=","\'' in caplog.text
        caplog.clear()
        assert topics(values, ",")[0] == ["Drama", "War"]
        topics(["Toys", "Books and more"] * 9)
    assert not caplog.text


def test_na_beside_other_topics_is_a_topic() -> None:
    assert topics(["EU|NA", "NA", "none"]) == [["EU", "NA"], ["NA"], None]


def test_texts_that_are_lists_become_one_text() -> None:
    assert joined_text(["Ann", "Bob"], ", ") == joined_text("['Ann', 'Bob']", ", ") == "Ann, Bob"
    assert [joined_text(title, " ") for title in ("[REC]", "{x}", "[1] and [2]")] == ["[REC]", "{x}", "[1] and [2]"]
    with pytest.raises(Untold, match="none of which is a name"):
        joined_text({"id": 1, "born": 1950}, ", ")
    assert written_list("Drama", "|") == "Drama"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_nested_columns_of_files(tmp_path: Path, suffix: str) -> None:
    records = [
        {"item_id": "a", "topics": [{"id": 1, "name": "War"}], "creator": ["Ann", "Bob"], "description": ["x.", "y."]},
        {"item_id": "b", "topics": [], "creator": [], "description": None},
    ]
    path = tmp_path / f"items{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, records)))
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\nu,a,1\nu,b,2\n")
    items = load_logs(log, path).items
    assert items.loc[0, ["topics", "creator", "description"]].tolist() == [["War"], "Ann, Bob", "x. y."]
    assert items.loc[1, ["topics", "creator", "description"]].tolist() == [None, None, None]


def test_entities_are_resolved_before_topics_are_separated() -> None:
    """The separator may be the end of an entity."""
    assert topics(["Health &amp; Beauty;Men&#39;s", "Men's"], separator=";") == [
        ["Health & Beauty", "Men's"],
        ["Men's"],
    ]
    assert topics(['["A &amp; B", "say &quot;C&quot;"]']) == [["A & B", 'say "C"']]
    assert topics([["A &amp;amp; B", "A & B"]]) == [["A & B"]]
    assert likely_separator(["A &amp; B", "C &amp; D", "A &amp; B"] * 10) is None


def test_entities_are_resolved_in_texts_but_not_in_ids(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,title,topics,creator,description,note\n"
        "a&amp;b,Tom &amp;amp; Jerry,Kids &amp; Family|Fun,L&#39;Oreal,5 &lt; 6 &gt; 4,x&amp;y\n"
    )
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,a&amp;b,1000000000\n")
    items = load_logs(tmp_path / "log.csv", tmp_path / "items.csv").items
    assert items.values.tolist() == [
        ["a&amp;b", "Tom & Jerry", ["Kids & Family", "Fun"], "L'Oreal", "5 < 6 > 4", "x&amp;y"]
    ]


def test_html_tags_stay_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    titles = ["<b>Bold</b>", "<br>", "I <3 it", "5 &lt; 6", "Plain"]
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},{t}\n" for n, t in enumerate(titles)))
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,i0,1000000000\n")
    items = load_logs(tmp_path / "log.csv", tmp_path / "items.csv").items
    assert items["title"].tolist() == ["<b>Bold</b>", "<br>", "I <3 it", "5 < 6", "Plain"]
    assert "items.csv, column 'title': 2 values hold HTML tags, which stay (first: '<b>Bold</b>')" in caplog.text
