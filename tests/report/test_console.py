"""The tables that end a run on the terminal."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from plum.report.console import examples_table

LONG = "Wallace & Gromit: The Best of Aardman Animation, with a very long name (1996)"
USERS = [
    {
        "user_id": "u7",
        "history": ["Alien (1979)", LONG],
        "target": "[red]Fargo (1996)",
        "recommendations": {
            "plum": [{"title": "[red]Fargo (1996)", "hit": True}, {"title": LONG, "hit": False}],
            "dense": [{"title": "Elsewhere", "hit": False}],
        },
    },
    {
        "user_id": "u8",
        "history": ["千と千尋の神隠し" * 9],
        "target": " / ".join("ABCDEFGH"),
        "recommendations": {"plum": []},
    },
]


def shown(width, users=USERS):
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    console.print(examples_table(users, console.width))
    return console.file.getvalue().splitlines()


def cells(line):
    return [cell.strip() for cell in line.split("│")[1:-1]]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_titles_are_cut_to_the_width_and_keep_their_year(width):
    lines = shown(width)
    assert all(cell_len(line) <= width for line in lines)
    history, found, target = cells(lines[5])
    for title in (history, found):
        assert title.startswith("Wallace")
        assert title.endswith("… (1996)")
    assert target == ""


def test_a_hit_is_marked_and_what_came_next_stands_beside():
    assert cells(shown(120)[4]) == ["Alien (1979)", "✓ [red]Fargo (1996)", "[red]Fargo (1996)"]
    assert not any("Elsewhere" in line for line in shown(120))


def test_of_many_targets_some_are_shown():
    text = "\n".join(shown(120))
    assert "and 3 more" in text


def test_a_wide_terminal_cuts_nothing():
    assert not any("…" in line for line in shown(250))
