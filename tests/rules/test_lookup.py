"""The item that a reader means by an id, a title, or words of one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from plum.errors import PlumError
from plum.rules.lookup import ItemNames

ITEMS = {
    "1": "Toy Story (1995)",
    "2": "Toy Story 2 (1999)",
    "603": "Matrix, The (1999)",
    "604": "Matrix Reloaded, The (2003)",
    "5": "Sabrina (1954)",
    "6": "Sabrina (1995)",
    "7": "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
    "8": "Mise\u0301rables, Les (1998)",  # NFD
    "9": "Avventura, L' (1960)",
    "10": "Heat",
    "11": "Heat",
    "AbC": "  The   Thing\tfrom Mars ",
    "12": "Spider-Man (2002)",
    "Zoë": None,  # NFC
    "14": "1999",
    "15": "Kingdom of Heaven, the",
    "16": "",
}


@pytest.fixture(scope="module")
def names() -> ItemNames:
    frame = pd.DataFrame({"item_id": list(ITEMS), "title": list(ITEMS.values())})
    return ItemNames(frame, np.arange(len(frame))[::-1])


@pytest.mark.parametrize(
    ("asked", "item_id"),
    [
        ("603", "603"),
        (" 603 ", "603"),
        ("abc", "AbC"),
        ("Zoe\u0308", "Zoë"),
        ("Toy Story (1995)", "1"),
        ("  toy   story (1995) ", "1"),
        ("Toy Story", "1"),  # a whole title, though another contains it
        ("The Matrix", "603"),
        ("the matrix (1999)", "603"),
        ("Matrix, The", "603"),
        ("Matrix, The (1999)", "603"),
        ("The Matrix Reloaded", "604"),
        ("Sabrina (1954)", "5"),
        ("The City of Lost Children (Cité des enfants perdus, La)", "7"),
        ("city of lost", "7"),
        ("Les Mis\u00e9rables", "8"),
        ("les miserables", "8"),
        ("L'Avventura (1960)", "9"),
        ("THE THING FROM MARS", "AbC"),
        ("Thing from Mars, The", "AbC"),
        ("Spider Man", "12"),
        ("reloaded matrix", "604"),
        ("1999", "14"),
        ("The Kingdom of Heaven (2005)", "15"),  # a title without a year may be of any
    ],
)
def test_an_item_is_found_however_it_is_written(names: ItemNames, asked: str, item_id: str) -> None:
    assert list(ITEMS)[names.row_of(asked)] == item_id


@pytest.mark.parametrize(
    ("asked", "ids"), [("Heat", ["10 'Heat'", "11 'Heat'"]), ("Sabrina", ["5 'Sabrina (1954)'", "6 'Sabrina (1995)'"])]
)
def test_what_several_items_are_called_is_refused_with_their_ids(names: ItemNames, asked: str, ids: list[str]) -> None:
    with pytest.raises(PlumError, match="2 items have") as error:
        names.row_of(asked)
    assert error.value.found == ", ".join(ids)


@pytest.mark.parametrize("asked", ["", "   ", "Sabrina (1960)", "Solaris", "()"])
def test_what_no_item_is_called_is_refused(names: ItemNames, asked: str) -> None:
    with pytest.raises(PlumError, match="no item has the id"):
        names.row_of(asked)


def test_the_nearest_are_named_with_every_id_of_equal_titles(names: ItemNames) -> None:
    with pytest.raises(PlumError) as error:
        names.row_of("Haet")
    assert "10 'Heat', 11 'Heat'" in (error.value.found or "")


def test_an_item_is_found_by_what_plum_shows_of_it() -> None:
    frame = pd.DataFrame({"item_id": ["a\x1b[2J", "b", " c"], "title": ["Up", "\u202eDown\u200b", r"C\x1b"]})
    names = ItemNames(frame, np.zeros(3))
    assert [names.row_of(shown) for shown in (r"a\x1b[2J", r"\u202eDown\u200b", " c", r"c\x1b")] == [0, 1, 2, 2]


def test_ids_that_differ_in_case_alone_are_told_apart() -> None:
    frame = pd.DataFrame({"item_id": ["ab", "AB", "aB"], "title": [None, None, None]})
    names = ItemNames(frame, np.zeros(3))
    assert [names.row_of(name) for name in ("ab", "AB")] == [0, 1]
    with pytest.raises(PlumError, match="3 items"):
        names.row_of("Ab")
