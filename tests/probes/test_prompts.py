import numpy as np

from plum.probes.prompts import SID, pieces, shown

TITLE = "Item {sid} has title: {title}"
NAMES = ["<a>", "<b>"]


def test_a_template_is_filled_in():
    assert pieces(TITLE, 1, "Heat") == ["Item ", 1, " has title: ", "Heat"]
    assert shown(pieces(TITLE, 1, "Heat"), NAMES) == "Item <b> has title: Heat"


def test_a_prompt_stops_before_its_field():
    assert pieces(TITLE, 1, "Heat", until="title") == ["Item ", 1, " has title:"]
    assert pieces("{title} is item {sid}", 1, "Heat", until=SID) == ["Heat", " is item "]
    assert pieces("{sid}{title}", 0, "Heat", until="title") == [0]


def test_a_row_of_numpy_is_a_row():
    assert shown(pieces(TITLE, np.int64(1), "Heat"), NAMES) == "Item <b> has title: Heat"


def test_a_text_with_braces_stays_text():
    assert shown(pieces(TITLE, 0, "{sid} {title}"), NAMES) == "Item <a> has title: {sid} {title}"
