"""Business rules: what each operator means, what is missing, and a message for every mistake."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import logging
import re
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plum.errors import PlumError
from plum.rules.fields import ItemFields
from plum.rules.language import Condition, Joined, Not, Value, parse, spell_field, spell_value
from plum.rules.values import moment, nearest, number

NOON = 1_433_160_000  # 2015-06-01 12:00 UTC


@pytest.fixture
def items() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "item_id": ["12", "34", "a b", "d", "007"],
            "title": ["The Matrix", "Heat", "Straße", "A matriX of é", None],
            "topics": [["Comedy"], ["Film-Noir", "Drama"], ["film-noir"], None, []],
            "creator": ["Stanley Kubrick", "Ozu", None, "stanley KUBRICK", "Y"],
            "description": [None] * 5,
            "year": pd.array([1999, 1995, None, 1980, 1990], dtype="Int64"),
            "price": [9.99, 20.0, np.nan, -1.5, 5.0],
            "in_stock": pd.array([True, False, None, True, True], dtype="boolean"),
            "published": pd.to_datetime(
                ["2015-06-01", "2015-06-01 12:00", "2015-06-02", None, "2014-01-01"], format="ISO8601"
            ),
            "seconds": [NOON - 43_200, NOON, NOON + 43_200, 0, NOON - 10**8],
            "list price (EUR)": [1, 2, 3, 4, 5],
            "unknown": [None] * 5,
        }
    )


@pytest.fixture
def fields(items: pd.DataFrame) -> ItemFields:
    return ItemFields(items, popularity=np.array([5, 1, 2, 3, 9]))


HELD = [
    ("topics has Comedy", "10000"),
    ("topics has FILM-noir", "01100"),
    ('topics has "Film-Noir" and not topics has Drama', "00100"),
    ("topics is null", "00011"),
    ("topics is not null", "11100"),
    ("title has matrix", "10010"),
    ("title has STRASSE", "00100"),
    ("title = heat", "01000"),
    ("title != heat", "10110"),
    ("title == 'the matrix' or title <> Heat", "10110"),
    ('creator = "Stanley Kubrick"', "10010"),
    ("creator in (ozu, Y)", "01001"),
    ("creator is null", "00100"),
    ("description is null", "11111"),
    ("description has x", "00000"),
    ("year >= 1990", "11001"),
    ("year > 1990", "11000"),
    ("not year > 1990", "00111"),
    ("year <= 1990", "00011"),
    ("year < 1990", "00010"),
    ("year = 1995.0", "01000"),
    ("year != 1995", "10011"),
    ("year in (1980, 1995.0, 3.5, -7)", "01010"),
    ("year < 1e30 and year > -99999999999999999999", "11011"),
    ("price < 20", "10011"),
    ("price = 9.99", "10000"),
    ("price in (9.99, 5)", "10001"),
    ("price >= -1.5", "11011"),
    ("price < -.5", "00010"),
    ("in_stock", "10011"),
    ("not in_stock", "01100"),
    ("in_stock = true and price < 20", "10011"),
    ("in_stock = FALSE", "01000"),
    ("in_stock != true", "01000"),
    ("in_stock is null", "00100"),
    ("published > 2015-06-01", "00100"),
    ("published >= 2015-06-01", "11100"),
    ("published < 2015-06-01", "00001"),
    ("published <= 2015-06-01", "11001"),
    ("published = 2015-06-01", "11000"),
    ("published != 2015-06-01", "00101"),
    ("published in (2015-06-02, 2014-01-01)", "00101"),
    ("published = 2015-06-01T12:00", "01000"),
    ("published = '2015-06-01 14:00:00+02:00'", "01000"),
    ("published > 2015-06-01T11:59:59.999999Z", "01100"),
    ("seconds > 2015-06-01", "00100"),
    ("seconds = 2015-06-01", "11000"),
    ("seconds in (2015-06-01, 0)", "11010"),
    ("seconds != 2015-06-01", "00111"),
    ("item_id in (12, 007, 'a b')", "10101"),
    ("item_id = d", "00010"),
    ("item_id != d", "11101"),
    ("item_id has 0", "00001"),
    ("popularity >= 5", "10001"),
    ("`list price (EUR)` >= 4", "00011"),
    ("unknown > 5", "00000"),
    ("unknown is null", "11111"),
    ("year = 1999 or year = 1995 and price = 20", "11000"),
    ("(year = 1999 or year = 1995) and price = 20", "01000"),
    ("not year = 1999 and not year = 1995", "00111"),
    ("NOT (year = 1999 OR year = 1995) AND in_stock", "00011"),
    ("not not in_stock", "10011"),
    ("not(in_stock)or(year=1999)", "11100"),
    ("\n year\t>=\n1990 ", "11001"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "held"), HELD)
def test_what_a_rule_holds_for(fields: ItemFields, rule: str, held: str) -> None:
    mask = fields.mask(rule)
    assert mask.dtype == bool
    assert "".join(map(str, mask.astype(int))) == held


def test_masks_are_the_callers_own(fields: ItemFields) -> None:
    for rule in ("in_stock", "year is null", "topics is null", "creator = Ozu", "published = 2015-06-01"):
        first = fields.mask(rule)
        expected = first.copy()
        first[:] = ~first
        assert (fields.mask(rule) == expected).all()


def test_masks_combine(fields: ItemFields) -> None:
    combined = (fields.mask("in_stock") | fields.allow(["34"])) & fields.deny(["12"]) & ~fields.mask("year < 1990")
    assert combined.tolist() == [False, True, False, False, True]


def test_the_expression_is_immutable_and_knows_its_places() -> None:
    rule = 'topics has "Film-Noir" and not in_stock'
    wanted = Joined(
        "and",
        (
            Condition("topics", "has", (Value("Film-Noir", 11),), 0, 7),
            Not(Condition("in_stock", "is true", (), 31, 31)),
        ),
    )
    assert parse(rule) == wanted
    assert hash(parse(rule)) == hash(wanted)


def test_quotes_and_escapes() -> None:
    def text(rule: str) -> str:
        expression = parse(rule)
        assert isinstance(expression, Condition)
        return expression.values[0].text

    assert text(r'title = "say \"hi\" \\ \n"') == r'say "hi" \ \n'
    assert text(r"title = 'it\'s \"it\"'") == r"it's \"it\""
    assert text("title = it's") == "it's"
    assert text("topics has android") == "android"
    assert text('title has " and "') == " and "


@given(st.text(min_size=1).filter(lambda text: "`" not in text), st.text())
def test_any_name_and_value_can_be_written(name: str, value: str) -> None:
    assert parse(f"{spell_field(name)} = {spell_value(value)}") == Condition(
        name, "=", (Value(value, len(spell_field(name)) + 3),), 0, len(spell_field(name)) + 1
    )


def message(fields: ItemFields, rule: str) -> str:
    with pytest.raises(PlumError) as caught:
        fields.mask(rule)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rule", "at", "told"),
    [
        ("year >", 7, "the rule ends where a value is expected"),
        ("year > 1990 price < 3", 13, "found 'price' where \"and\", \"or\" or the end is expected"),
        ("title has The Matrix", 15, 'write a text of several words in quotes: title has "two words"'),
        ("topics not has Comedy", 8, "write not in front of the condition: not topics has Comedy"),
        ("topics has in", 12, 'write the word in quotes: "in"'),
        ("year = null", 8, "is null: description is null"),
        ('title has "abc', 11, 'the quote " is never closed'),
        ("`price < 3", 1, "`list price` < 20"),
        ("year ! 3", 6, "'!' means nothing here"),
        ("and", 1, "a field of that name is written in backquotes: `and`"),
        ("(year > 3 or price < 5", 23, '"and", "or" or a closing bracket is expected'),
        ("year > 3)", 9, "found ')' where \"and\", \"or\" or the end is expected"),
        ("item_id in 12", 12, "an opening bracket is expected"),
        ("item_id in ()", 13, "found ')' where a value is expected"),
        ("item_id in (12 34)", 16, "a comma or a closing bracket is expected"),
        ("year is", 8, "the rule ends where null is expected"),
        ("year && price", 6, "an operator (= != < <= > >= in has is)"),
        ("not", 4, "the rule ends where a condition is expected"),
        ("year > 1990 and\n and year < 3", 18, "a condition is expected"),
        ("yaer > 1990", 1, "items have no field 'yaer'"),
        ("year > 1990 or yaer > 1990", 16, "did you mean year? fields: item_id, title, topics, creator, description"),
        ("1990 < year", 1, "write the field first, as in year > 1990"),
        ("topics has Comdy", 12, "no item has 'Comdy' among its topics"),
        ("not topics has Comdy", 16, "did you mean Comedy?"),
        ("topics has xyz", 12, "there are: Comedy, Film-Noir, Drama"),
        ("topics = Comedy", 8, "for example: topics has Comedy"),
        ("topics", 1, "topics is a list: by itself it is no condition"),
        ("title > 3", 7, "title is text, such as 'The Matrix', which does not go with >"),
        ("title", 1, "for example: title has word"),
        ("year has x", 6, "year is a number, which does not go with has"),
        ("year", 1, "year is a number: by itself it is no condition"),
        ("year = abc", 8, "year is a number, and 'abc' is none"),
        ("year > 2015-06-01", 8, "year holds numbers such as 1999, not seconds since 1970"),
        ("in_stock = 3", 12, "in_stock is true or false, never '3'"),
        ("in_stock > true", 10, "for example: in_stock = true"),
        ("in_stock in (true)", 10, "in_stock is true or false, which does not go with in"),
        ("published > 2015", 13, "published is a date, and '2015' is none"),
        ("published = 2015-02-30", 13, "published is a date, and '2015-02-30' is none"),
        ("published has 2015", 11, "published is a date, which does not go with has"),
        ("item_id = 13", 11, "no item has item_id = 13"),
        ("item_id in (12, 13, 0007)", 17, "no item has item_id = 13 (nor 1 more of these values)"),
        ("item_id = 0007", 11, "did you mean 007?"),
    ],
)  # fmt: skip
def test_mistakes_show_their_place(fields: ItemFields, rule: str, at: int, told: str) -> None:
    text = message(fields, rule)
    what, shown, caret, fix = text.split("\n")
    assert what.startswith(f"rule, character {at}: ")
    assert shown == "  found: " + rule.replace("\n", " ")
    assert caret == " " * (len("  found: ") + at - 1) + "^"
    assert fix.startswith("  to do: ")
    assert told in text


def test_an_empty_rule_and_a_rule_of_many_levels(fields: ItemFields) -> None:
    assert "the rule is empty" in message(fields, " \n")
    assert "nests its conditions too deeply" in message(fields, "not " * 5000 + "in_stock")
    assert fields.mask("(" * 5000 + "in_stock" + ")" * 5000).sum() == 3


def test_a_long_rule_is_shown_where_it_goes_wrong(fields: ItemFields) -> None:
    text = message(fields, "price in (" + ", ".join(map(str, range(2000))) + ") or yaer > 3 and " + "x" * 200)
    shown, caret = text.split("\n")[1:3]
    assert shown[caret.index("^") :].startswith("yaer > 3")
    assert shown.endswith("...")
    assert len(shown) < 130


def test_text_that_no_item_has_is_warned_of(fields: ItemFields, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert not fields.mask('creator = "Stanley Kubrik"').any()
    assert 'no item has creator = "Stanley Kubrik"; did you mean' in caplog.text
    assert '"Stanley Kubrick"' in caplog.text or '"stanley KUBRICK"' in caplog.text


def test_text_among_numbers_is_shown() -> None:
    fields = ItemFields(pd.DataFrame({"item_id": ["1", "2"], "price": ["12", "n/a"]}))
    assert "price is text, such as 'n/a', which does not go with <" in message(fields, "price < 3")


def test_ids_that_no_item_has(fields: ItemFields) -> None:
    assert fields.allow([12, "d"]).tolist() == [True, False, False, True, False]
    assert fields.allow([]).sum() == 0
    assert fields.deny("d").sum() == 4
    with pytest.raises(PlumError) as caught:
        fields.deny(["12", "0007", "x"])
    assert str(caught.value) == (
        "2 of 3 item ids are not in the catalogue\n  found: '0007', 'x'\n  to do: did you mean '007'?"
    )


def test_a_table_adds_and_replaces_fields(fields: ItemFields, caplog: pytest.LogCaptureFixture) -> None:
    fields.mask("price < 20")  # what was prepared before must not stay
    table = pd.DataFrame(
        {
            "item_id": ["d", "34", "new"],
            "price": [1.0, 2.0, 3.0],
            "colour": ["red", "Blue", "red"],
            "title": list("abc"),
        }
    )
    with caplog.at_level(logging.WARNING):
        joined = fields.with_table(table, "stock.csv")
    assert "stock.csv: 1 rows of items outside the catalogue: 'new'" in caplog.text
    assert "stock.csv: ignored columns that must stay as in training: title" in caplog.text
    assert joined.names == (*fields.names, "colour")
    assert joined.mask("price <= 2").tolist() == [False, True, False, True, False]
    assert joined.mask("price is null").tolist() == [True, False, True, False, True]
    assert joined.mask("colour = blue").tolist() == [False, True, False, False, False]
    assert joined.mask("title has matrix").sum() == 2
    assert fields.mask("price < 20").sum() == 3
    assert "colour" not in fields.names


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (["12", "12"], "stock.csv: 1 items have several rows\n  found: '12'"),
        (["12", None], "stock.csv: rows without an item_id\n  found: 1 of 2 rows, the first is row 2"),
        (
            ["x", "y"],
            "stock.csv has no item of the catalogue\n  found: stock.csv has 'x', 'y'; the catalogue",
        ),
        ([], "found: no rows"),
    ],
)
def test_a_table_of_fields_that_can_not_be_joined(fields: ItemFields, ids: list[Any], told: str) -> None:
    table = pd.DataFrame({"item_id": pd.Series(ids, dtype=object), "price": range(len(ids))})
    with pytest.raises(PlumError) as caught:
        fields.with_table(table, "stock.csv")
    assert told in str(caught.value)


def test_tables_without_ids_or_of_odd_types() -> None:
    with pytest.raises(PlumError, match="no column 'item_id'"):
        ItemFields(pd.DataFrame({"id": ["1"]}))
    with pytest.raises(ValueError, match=r"popularity must be \(1,\)"):
        ItemFields(pd.DataFrame({"item_id": ["1"]}), np.zeros(2))
    mixed = ItemFields(pd.DataFrame({"item_id": ["1", "2"], "x": ["a", 2], "y": [{"a": 1}, {"a": 2}]}))
    assert mixed.mask("item_id = 1").tolist() == [True, False]
    assert "field 'x' holds values of several types" in message(mixed, "x = a")
    assert "field 'y' can't be used in rules" in message(mixed, "y is null")


def test_a_column_called_popularity_is_the_items_own() -> None:
    items = pd.DataFrame({"item_id": ["1", "2"], "popularity": [10, 20]})
    assert ItemFields(items, np.array([0, 1])).mask("popularity > 10").tolist() == [False, True]


TYPES = [
    (pd.Series([9.99, 1], dtype="float32"), "x = 9.99", [True, False]),
    (pd.Series([2**53 + 1, 2**53]), f"x = {2**53 + 1}", [True, False]),
    (pd.Series([2**64 - 1, 1], dtype="uint64"), "x > 5", [True, False]),
    (pd.Series([decimal.Decimal("9.99"), None]), "x >= 9.99", [True, False]),
    (pd.Series([datetime.date(2015, 6, 1), None]), "x = 2015-06-01", [True, False]),
    (
        pd.Series(pd.to_datetime(["2015-06-01 01:00"] * 2)).dt.tz_localize("Europe/Paris"),
        "x = 2015-05-31",
        [True, True],
    ),
    (pd.Series([NOON * 1000, 0]), "x = 2015-06-01T12:00", [True, False]),
    (pd.Series([NOON * 1_000_000_000 + 1, 0]), "x = 2015-06-01T12:00", [True, False]),
    (pd.Series([float(NOON), np.nan]), "x > 2015-05-31", [True, False]),
    (pd.Series(["a", "b"], dtype="category"), "x = A", [True, False]),
    (pd.Series([True, None], dtype=object), "x", [True, False]),
    (pd.Series([[1, 22], [2]]), "x has 22", [True, False]),
    (pd.Series([np.array(["a", None], dtype=object), None]), "x has a", [True, False]),
    (pd.Series([[None], ["a"]]), "x is null", [True, False]),
    (pd.Series([np.inf, -np.inf]), "x > 1e308", [True, False]),
    (pd.Series(["café", "x"]).map(lambda text: unicodedata.normalize("NFD", text)), "x has CAFÉ", [True, False]),
]


@pytest.mark.parametrize(("column", "rule", "held"), TYPES, ids=lambda value: value if isinstance(value, str) else "")
def test_types_of_columns(column: pd.Series, rule: str, held: list[bool]) -> None:
    assert ItemFields(pd.DataFrame({"item_id": ["1", "2"], "x": column})).mask(rule).tolist() == held


def test_values_as_written() -> None:
    assert [number(text) for text in ("7", "-1.5e3", ".5", "1.", "7b2f", "1,000", "nan", "", "2015-06-01")] == [
        7, -1500.0, 0.5, 1.0, None, None, None, None, None,
    ]  # fmt: skip
    day = 86_400_000_000
    assert moment("1969-12-31") == (-day, 0)
    assert moment("1970-01-01T00:00:01.5Z") == (1_500_000, 1_500_001)
    assert moment("1970-01-01 02:00+02:00") == (0, 60_000_000)
    assert moment("9999-12-31") is not None
    assert [moment(text) for text in ("1970", "1970-1-1", "1970-01-01T25:00", "0000-01-01")] == [None] * 4


def test_nearest_names_among_many() -> None:
    names = [f"item {i}" for i in range(100_000)] + ["Casablanca"]
    started = time.perf_counter()
    assert nearest("CASABLNACA", names) == ["Casablanca"]
    assert time.perf_counter() - started < 5


# Random expressions against a row at a time in plain Python.

ROWS = [
    {"n": 1, "x": 0.5, "t": "Ab", "l": ["u", "V"], "b": True, "d": "2020-01-01"},
    {"n": 2, "x": None, "t": "ab c", "l": ["v"], "b": False, "d": "2020-01-02"},
    {"n": None, "x": -1.0, "t": None, "l": None, "b": None, "d": None},
    {"n": 3, "x": 2.0, "t": "xÀ", "l": ["u"], "b": True, "d": "2020-01-03"},
    {"n": -4, "x": 1e9, "t": "and", "l": [], "b": None, "d": "2019-12-31"},
]
COMPARE = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
CASES = st.sampled_from([str.upper, str.lower, str])
NUMBERS = st.sampled_from([-4, -1, 0, 0.5, 1, 2, 2.5, 3])
WORDS = st.sampled_from(["ab", "ab c", "and", "xà", "nothing"])
DATES = st.sampled_from(["2019-12-31", "2020-01-01", "2020-01-02", "2020-01-05"])


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Any]:
    """A condition as text, and as a function of one row."""
    field = draw(st.sampled_from(["n", "x", "t", "l", "b", "d"]))
    form = draw(st.sampled_from(["null", "compare", "in", "has"]))
    if form == "null":
        return draw(st.sampled_from([
            (f"{field} is null", lambda row: not row[field] and row[field] is not False),
            (f"{field} is not null", lambda row: bool(row[field]) or row[field] is False),
        ]))  # fmt: skip
    case = draw(CASES)
    if field == "l":
        word = draw(st.sampled_from(["u", "v"]))
        return f"l has {case(word)}", lambda row: word in [text.casefold() for text in row["l"] or ()]
    if field == "b":
        wanted = draw(st.booleans())
        if form == "in":
            return "b", lambda row: row["b"] is True
        return f"b = {case(str(wanted))}", lambda row: row["b"] is wanted
    if field == "t" and form == "has":
        word = draw(WORDS)
        return f"t has {spell_value(case(word))}", lambda row: row["t"] is not None and word in row["t"].casefold()
    values = draw(st.lists({"n": NUMBERS, "x": NUMBERS, "t": WORDS, "d": DATES}[field], min_size=1, max_size=3))
    written = [spell_value(case(str(value)) if field == "t" else str(value)) for value in values]

    def plain(row: dict[str, Any]) -> Any:
        return row[field].casefold() if field == "t" and row[field] is not None else row[field]

    if form == "in":
        return f"{field} in ({', '.join(written)})", lambda row: plain(row) in values
    operator = draw(st.sampled_from(["=", "!="] if field == "t" else sorted(COMPARE)))
    compare = COMPARE[operator]
    return (
        f"{field} {operator} {written[0]}",
        lambda row: plain(row) is not None and compare(plain(row), values[0]),
    )


def joined(parts: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[tuple[str, Any]]:
    return st.one_of(
        parts.map(lambda part: (f"not ({part[0]})", lambda row: not part[1](row))),
        st.tuples(parts, parts).map(
            lambda p: (f"({p[0][0]}) AND ({p[1][0]})", lambda row: p[0][1](row) and p[1][1](row))
        ),
        st.tuples(parts, parts).map(
            lambda p: (f"(({p[0][0]}) or {p[1][0]})", lambda row: p[0][1](row) or p[1][1](row))
        ),
    )


FIELDS = ItemFields(
    pd.DataFrame(
        {
            "item_id": [str(row) for row in range(len(ROWS))],
            "n": pd.array([row["n"] for row in ROWS], dtype="Int64"),
            "x": pd.Series([row["x"] for row in ROWS], dtype="float64"),
            "t": [row["t"] for row in ROWS],
            "l": [row["l"] for row in ROWS],
            "b": pd.array([row["b"] for row in ROWS], dtype="boolean"),
            "d": pd.to_datetime([row["d"] for row in ROWS]),
        }
    )
)


@settings(deadline=None, max_examples=300)
@given(st.recursive(conditions(), joined, max_leaves=8))
def test_random_rules_agree_with_a_row_at_a_time(case: tuple[str, Any]) -> None:
    rule, holds = case
    assert FIELDS.mask(rule).tolist() == [bool(holds(row)) for row in ROWS]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), conditions(), st.sampled_from(["and", "or"])), min_size=1, max_size=7))
def test_and_or_not_bind_as_in_python(chain: list[tuple[int, tuple[str, Any], str]]) -> None:
    rule = " ".join(f"{'not ' * nots}{text} {word}" for nots, (text, _), word in chain).rsplit(" ", 1)[0]
    found = FIELDS.mask(rule)
    for place, row in enumerate(ROWS):
        truths = " ".join(f"{'not ' * nots}{bool(holds(row))} {word}" for nots, (_, holds), word in chain)
        assert found[place] == eval(truths.rsplit(" ", 1)[0])


WHOLE_RULES = ["n", "=", "in", "(", ")", "t has", "'ab'", "not", "d >", "2020-01-02", "is null", "\ud83d", "\x00"]


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="ntl bd()=<>!,\"'`andorhsiu12\\-", max_size=30))
def test_any_text_is_a_rule_or_a_clean_error(text: str) -> None:
    with contextlib.suppress(PlumError):
        assert FIELDS.mask(text).shape == (len(ROWS),)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=20) | st.lists(st.sampled_from(WHOLE_RULES) | st.characters(), max_size=5).map(" ".join))
def test_any_characters_are_a_rule_or_a_clean_error(text: str) -> None:
    with contextlib.suppress(PlumError):
        assert FIELDS.mask(text).shape == (len(ROWS),)


EDGES = [-(2**63), -(2**63) + 1, -(2**53) - 1, -1, 0, 1, 2**31, 2**53 + 1, 2**63 - 2, 2**63 - 1]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([*EDGES, -(2**63) - 1, 2**63, 2**64, 10**30, 0.5, 1e300, 1e400]), min_size=1, max_size=4),
    st.sampled_from([*COMPARE, "in"]),
)
def test_whole_numbers_are_exact_to_the_last(values: list[int | float], operator: str) -> None:
    fields = ItemFields(pd.DataFrame({"item_id": map(str, EDGES), "n": np.array(EDGES, dtype=np.int64)}))
    if operator == "in":
        expected = [edge in values for edge in EDGES]
        assert fields.mask(f"n in ({', '.join(map(spelt, values))})").tolist() == expected
    else:
        expected = [COMPARE[operator](edge, values[0]) for edge in EDGES]
        assert fields.mask(f"n {operator} {spelt(values[0])}").tolist() == expected


def spelt(number: int | float) -> str:
    return "1e400" if number == float("inf") else f"{number}"


def test_the_examples_of_the_manual(fields: ItemFields) -> None:
    text = (Path(__file__).parents[2] / "docs/rules.md").read_text(encoding="utf-8")
    rules, code = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("rules", "python"))
    assert rules
    assert code
    assert [int(fields.mask(rule).sum()) for rule in rules[1].splitlines()] == [1, 1, 3, 1, 3, 3, 3, 2, 5, 5]
    scope: dict[str, Any] = {}
    exec(code[1], scope)
    assert scope["mask"].tolist() == [True, False, False]
