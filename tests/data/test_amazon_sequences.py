"""Amazon's prepared sequences, with and without titles, names of attributes and days beside them."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from plum.data.amazon_beside import brands, contents_of
from plum.data.amazon_sequences import SEQUENCE_COUNTS, load_amazon_sequences
from plum.data.splits import order_interactions
from plum.data.tables import RawTables
from plum.errors import PlumError

# Users, items, interactions; items with a title; items with a creator; users whose last two items share a day.
REAL = {"Beauty": (12_094, 7_474, 9_719), "Sports_and_Outdoors": (18_267, 10_893, 16_049)}
TITLES = "10\tB1\tSoap\n2\t1881509818\tBob&amp;#39;s <b>nice</b> oil\n30\tB3\tLamp\n"


def test_sequences(tmp_path: Path) -> None:
    (tmp_path / "Games.txt").write_text("1 10 2 10\n2 2\n")
    (tmp_path / "Games_item2attributes.json").write_text('{"2": [12, 3], "30": []}')
    tables = load_amazon_sequences(tmp_path, "Games")
    assert tables.interactions[["user_id", "item_id", "timestamp"]].values.tolist() == [
        ["1", "10", 0], ["1", "2", 1], ["1", "10", 2], ["2", "2", 0],
    ]  # fmt: skip
    assert tables.interactions["rating"].isna().all()
    assert tables.interactions["reward"].tolist() == [1.0] * 4
    assert tables.timestamps_are_positions
    assert tables.items.set_index("item_id")["topics"].to_dict() == {"2": ["attr_12", "attr_3"], "10": None, "30": None}
    assert tables.items["title"].tolist() == [None, None, None]


def test_sequences_order_of_the_catalogue_says_nothing_about_time(tmp_path: Path) -> None:
    """The files number items as they first occur, and the catalogue's order breaks ties between scores."""
    later = " ".join(str(item) for item in range(1, 201))
    (tmp_path / "Games.txt").write_text(f"1 {later}\n")
    order = load_amazon_sequences(tmp_path, "Games").items["item_id"].astype(int)
    assert abs(np.corrcoef(order, np.arange(200))[0, 1]) < 0.2
    (tmp_path / "Games.txt").write_text(f"1 {' '.join(reversed(later.split()))}\n")
    assert load_amazon_sequences(tmp_path, "Games").items["item_id"].astype(int).tolist() == order.tolist()


def test_sequences_in_data_home_without_attributes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "amazon-2014").mkdir()
    (tmp_path / "amazon-2014" / "Beauty.txt").write_text("1 1 2\n")
    with caplog.at_level(logging.WARNING):
        tables = load_amazon_sequences(tmp_path, "Beauty")
    assert "Beauty_item2attributes.json is not there" in caplog.text
    assert "22,363" in caplog.text  # counts that differ from the published ones are told
    assert tables.items["topics"].tolist() == [None, None]


def test_sequences_report_bad_lines(tmp_path: Path) -> None:
    (tmp_path / "X.txt").write_text("1 1 2\n\n2\n1 5\n3 4\n")
    tables = load_amazon_sequences(tmp_path, "X", max_bad_share=0.6)
    assert [(p.file, p.reason, p.count, p.example) for p in tables.problems] == [
        ("X.txt", "no item after the user", 1, "line 3: '2'"),
        ("X.txt", "a second line of the user", 1, "line 4: '1 5'"),
    ]
    assert len(tables.interactions) == 3
    with pytest.raises(PlumError, match=r"2 of 4 rows are unusable(.|\n)*line 3"):
        load_amazon_sequences(tmp_path, "X")


def test_sequences_absent_empty_or_wrong(tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt").write_text("1 1\n")
    with pytest.raises(PlumError, match=r"Beaty\.txt does not exist(.|\n)*did you mean Beauty\.txt"):
        load_amazon_sequences(tmp_path, "Beaty")
    (tmp_path / "Empty.txt").write_text("\n")
    with pytest.raises(PlumError, match=r"Empty\.txt is empty"):
        load_amazon_sequences(tmp_path, "Empty")
    (tmp_path / "Beauty_item2attributes.json").write_text("[1")
    with pytest.raises(PlumError, match=r"Beauty_item2attributes\.json is not a JSON object"):
        load_amazon_sequences(tmp_path, "Beauty")


def written(folder: Path, **beside: str) -> Path:
    """Three items of two users, 30 only with attributes; ``titles``, ``attribute_names`` and ``days`` beside them."""
    (folder / "Games.txt").write_text("1 10 2 10\n2 2 10\n")
    (folder / "Games_item2attributes.json").write_text(json.dumps({"10": [7, 1, 2], "2": [8, 1, 3], "30": [1, 12]}))
    for name, text in beside.items():
        (folder / f"Games_{name}.{'txt' if name == 'days' else 'tsv'}").write_text(text)
    return folder


def contents(tables: RawTables, column: str) -> dict[str, object]:
    return tables.items.set_index("item_id")[column].to_dict()


def test_titles_are_text_without_markup_and_asins_a_further_column(tmp_path: Path) -> None:
    tables = load_amazon_sequences(written(tmp_path, titles=TITLES), "Games")
    assert contents(tables, "title") == {"10": "Soap", "2": "Bob's nice oil", "30": "Lamp"}
    assert contents(tables, "asin") == {"10": "B1", "2": "1881509818", "30": "B3"}
    assert tables.timestamps_are_positions
    assert not tables.problems
    (tmp_path / "Games_titles.tsv").unlink()
    assert "asin" not in load_amazon_sequences(tmp_path, "Games").items


def test_attributes_become_words_and_brands_creators(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = "1\tHair &amp; Body\t3\n2\tShampoo\t1\n3\t \t1\n7\tL&#39;Oreal\t1\n8\tOPI\t1\n"
    tables = load_amazon_sequences(written(tmp_path, attribute_names=names), "Games")
    assert contents(tables, "topics") == {
        "10": ["Hair & Body", "Shampoo"], "2": ["Hair & Body", "attr_3"], "30": ["Hair & Body", "attr_12"],
    }  # fmt: skip
    assert contents(tables, "creator") == {"10": "L'Oreal", "2": "OPI", "30": None}
    assert "2 of 6 attributes have no name and stay numbers (first: attr_3)" in caplog.text


def test_brands_are_what_begins_lists_and_is_nowhere_else() -> None:
    with_brands = {"a": ["7", "1", "2"], "b": ["8", "1", "3"], "c": ["1", "2"], "d": ["9"], "e": ["1", "9"]}
    assert brands(with_brands) == {"7", "8"}  # 1 begins a list, but comes after a brand; 9 begins one and ends one
    only_categories = {"a": ["1", "2"], "b": ["1", "3"], "c": ["4", "5"], "d": ["4", "6"]}
    assert brands(only_categories) == set()
    assert brands({"a": [], "b": ["1"]}) == set()


def test_a_brand_without_a_name_stays_a_topic() -> None:
    attributes = {"a": ["7", "1"], "b": ["8", "1"]}
    assert contents_of(attributes, {"7": None, "8": "OPI", "1": "Nails"}) == (
        {"a": ["attr_7", "Nails"], "b": ["Nails"]},
        {"b": "OPI"},
    )
    assert contents_of(attributes, {}) == ({"a": ["attr_7", "attr_1"], "b": ["attr_8", "attr_1"]}, {})


def test_days_are_times_and_their_ties_are_known(tmp_path: Path) -> None:
    """Lines belong together by their user, places by their order."""
    tables = load_amazon_sequences(written(tmp_path, days="2 16000 16000\n1 15000 15001 15001\n"), "Games")
    assert not tables.timestamps_are_positions
    assert tables.interactions["timestamp"].tolist() == [d * 86_400 for d in (15000, 15001, 15001, 16000, 16000)]
    kept, report = order_interactions(tables.interactions, "keep")
    assert kept["item_id"].tolist() == ["10", "2", "10", "2", "10"]
    assert (report.tied, report.users_test_tied) == (4, 1)  # user 2 has two interactions and no test item
    orders = {tuple(order_interactions(tables.interactions, "shuffle", s)[0]["item_id"]) for s in range(20)}
    assert len(orders) == 4  # both ties, either way round


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ("1 15001 15000 15002\n2 1 1\n", r"2 values are no days since 1970(.|\n)*line 2, day 1: '1'"),
        ("1 15001 15002 15000\n2 15000 15000\n", r"days of 1 users go against (.|\n)*line 1, item 3: day 15000 aft"),
        ("1 15001 15002\n2 15000 15000\n", r"1 users have not as many days as items \(first: '1': 2 days, 3 items\)"),
        ("1 15001 15002 15002\n", r"1 users have no days \(first: '2'\)"),
        ("1 15001 15001 15001\n2 15000 15000\n3 15000\n", r"1 users of the days are not in Games\.txt \(first: '3'"),
        ("1 15001 15001 15001.5\n2 15000 x\n", r"2 values are no days(.|\n)*line 1, day 3: '15001\.5'"),
        ("1 1300000000 1300000000 1300000000\n2 15000 15000\n", r"3 values are no days(.|\n)*8,766 to 47,482"),
    ],
)
def test_days_that_do_not_fit_are_refused(tmp_path: Path, days: str, said: str) -> None:
    with pytest.raises(PlumError, match=rf"Games_days\.txt does not fit Games\.txt(.|\n)*{said}") as error:
        load_amazon_sequences(written(tmp_path, days=days), "Games")
    assert "take this one away" in str(error.value)


def test_lines_of_days_that_can_not_be_used_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    odd = "1 15000 15001 15001\n2 16000 16000\n2 17000 17001\n9\n"
    with pytest.raises(PlumError, match=r"2 of 4 rows are unusable"):
        load_amazon_sequences(written(tmp_path, days=odd), "Games")
    tables = load_amazon_sequences(tmp_path, "Games", max_bad_share=0.6)
    assert [(p.file, p.reason, p.count) for p in tables.problems] == [
        ("Games_days.txt", "a second line of the user", 1),
        ("Games_days.txt", "no item after the user", 1),
    ]
    assert "Games_days.txt: 1 rows left out, a second line of the user" in caplog.text
    assert set(tables.interactions["timestamp"]) == {15000 * 86400, 15001 * 86400, 16000 * 86400}


@pytest.mark.parametrize("held", ['"99"', "[1, null]", "[[1]]", "[true]", "{}", "7"])
def test_attributes_that_are_no_list_of_ids_are_refused(tmp_path: Path, held: str) -> None:
    """A text would be read as a list of its signs."""
    (written(tmp_path) / "Games_item2attributes.json").write_text(f'{{"10": [1], "2": {held}}}')
    with pytest.raises(PlumError, match=r"Games_item2attributes\.json is not a JSON object of item -> attribute ids"):
        load_amazon_sequences(tmp_path, "Games")


def test_attributes_of_other_items_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (written(tmp_path) / "Games_item2attributes.json").write_text('{"10": [1], "77": [2], "78": [2]}')
    assert len(load_amazon_sequences(tmp_path, "Games").items) == 4
    assert "Games_item2attributes.json: 1 of 2 items of Games.txt have no attributes" in caplog.text
    assert "2 items have attributes and are not in Games.txt; they join the catalogue" in caplog.text


def test_a_titles_file_of_other_items_is_refused(tmp_path: Path) -> None:
    none = "x10\tB1\tSoap\nx2\tB2\tOil\n"
    with pytest.raises(PlumError, match=r"2 of 2 rows are unusable(.|\n)*the item is not in Games\.txt(.|\n)*'x10"):
        load_amazon_sequences(written(tmp_path, titles=none), "Games")
    few = "".join(f"{item}\tB{item}\tThing {item}\n" for item in range(1, 11))
    with pytest.raises(
        PlumError, match=r"8 of 10 rows are unusable(.|\n)*belongs to Games\.txt, or take this one away"
    ):
        load_amazon_sequences(written(tmp_path, titles=few), "Games")


@pytest.mark.parametrize(("named", "refused"), [(0, True), (5, True), (6, False), (110, False)])
def test_titles_of_another_set_are_told_by_the_brands(tmp_path: Path, named: int, refused: bool) -> None:
    """All sets number their items from 1, so ids can't tell."""
    items = [str(item) for item in range(1, 111)]
    (tmp_path / "Games.txt").write_text(f"1 {' '.join(items)}\n")
    attributes = {item: [100 + int(item), 1, 2] for item in items}
    (tmp_path / "Games_item2attributes.json").write_text(json.dumps(attributes))
    names = "1\tToys\t110\n2\tBalls\t110\n" + "".join(f"{100 + int(item)}\tMaker-{item}\t1\n" for item in items)
    (tmp_path / "Games_attribute_names.tsv").write_text(names)
    titles = [f"{item}\tB{item}\t{f'By MAKER-{item}' if int(item) <= named else 'Ball'}\n" for item in items]
    (tmp_path / "Games_titles.tsv").write_text("".join(titles))
    if not refused:
        assert contents(load_amazon_sequences(tmp_path, "Games"), "creator")["7"] == "Maker-7"
        return
    with pytest.raises(
        PlumError, match=rf"titles of other items(.|\n)*of 110 items with a title and a brand, {named} ha"
    ):
        load_amazon_sequences(tmp_path, "Games")


def test_lines_of_titles_that_can_not_be_used_are_counted(tmp_path: Path) -> None:
    odd = TITLES + "10\tB1\tAgain\n30\tB3\n2\tB2\ta\tb\n\n\tB4\tNo id\n"
    with pytest.raises(PlumError, match=r"4 of 7 rows are unusable"):
        load_amazon_sequences(written(tmp_path, titles=odd), "Games")
    tables = load_amazon_sequences(tmp_path, "Games", max_bad_share=0.6)
    assert [(p.file, p.reason, p.count, p.example) for p in tables.problems] == [
        ("Games_titles.tsv", "the item repeats an earlier line", 1, "line 4: '10\\tB1\\tAgain'"),
        ("Games_titles.tsv", "the line does not have 3 fields, separated by tabs", 2, "line 5: '30\\tB3'"),
        ("Games_titles.tsv", "the item is missing", 1, "line 8: 'B4\\tNo id'"),
    ]
    assert contents(tables, "title") == {"10": "Soap", "2": "Bob's nice oil", "30": "Lamp"}


def test_items_without_title_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No line, a blank title, one that is only markup, one that says that there is none."""
    tables = load_amazon_sequences(written(tmp_path, titles="10\tB1\t<br/><b></b>\n2\tB2\t nan \n"), "Games")
    assert set(contents(tables, "title").values()) == {None}
    assert "Games_titles.tsv: 3 of 3 items have no title" in caplog.text


@pytest.mark.parametrize("name", ["titles", "attribute_names", "days"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"\x1f\x8bpacked", b"1\t\xff\xfe\tx\n", b"PK\x03\x04"])
def test_files_beside_that_are_empty_or_no_text_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    file = written(tmp_path) / f"Games_{name}.{'txt' if name == 'days' else 'tsv'}"
    file.write_bytes(content)
    with pytest.raises(PlumError, match=file.name):
        load_amazon_sequences(tmp_path, "Games")


@pytest.mark.parametrize("name", sorted(SEQUENCE_COUNTS))
def test_real_sequences(name: str) -> None:
    home = os.environ.get("PLUM_DATA_HOME")
    if not home or not (Path(home) / "amazon-2014" / f"{name}.txt").is_file():
        pytest.skip("not at hand")
    tables = load_amazon_sequences(Path(home), name)
    log = tables.interactions
    assert (log["user_id"].nunique(), log["item_id"].nunique(), len(log)) == SEQUENCE_COUNTS[name]
    assert tables.items["topics"].notna().all()
    if not tables.timestamps_are_positions:
        kept, report = order_interactions(log, "keep")
        found = (*(int(tables.items[column].notna().sum()) for column in ("title", "creator")), report.users_test_tied)
        assert found == REAL[name]
        order = log.groupby("user_id")["item_id"].agg(list)
        assert kept.groupby("user_id")["item_id"].agg(list).equals(order)  # the file's, however the days tie
