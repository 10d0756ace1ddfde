"""Text of the data reaches terminals, logs and reports as it stands: nothing in it is obeyed."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_run
from rich.table import Table

from plum.errors import PlumError
from plum.foreign import VisibleFormatter, cell, json_text, one_line, terminal, visible
from plum.recipes.recipe import Choice
from plum.recipes.writing import to_yaml
from plum.report.wording import escape_markdown

Cli = Callable[..., tuple[int, str, str]]

ESC, BEL, CSI = "\x1b", "\x07", "\x9b"
HOSTILE = [
    "[/rare] closes",
    "[red]red[uncut][bold]",
    f"{ESC}[2J{ESC}]0;title{BEL}clear",
    f"{CSI}31m c1 \x85 \x00 nul",
    "\u202egnp.exe \u2066x\u2069",
    "over\rwritten\b\b",
    ":smile: $x^ _{",
    "| pipe ` tick <script>alert(1)</script>",
    "![image](https://example.org/x.png) [link](http://example.org)",
    "5 < 6 & \"quotes\" 'too'",
]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What rich itself sends to a terminal."""
RAW = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a{ESC}[2Jb{BEL}", r"a\x1b[2Jb\x07"),
        ("a\x9b\x85\x7f", r"a\x9b\x85\x7f"),
        ("\u202e\u2067\u200f\u2028\ufeff", r"\u202e\u2067\u200f\u2028\ufeff"),
        ("half \ud83d", r"half \ud83d"),
        ("\r\b\x00", r"\r\x08\x00"),
        ("no\u200bwidth\u2060", r"no\u200bwidth\u2060"),
        ("Amélie 👩‍👧 日本 [red]", "Amélie 👩‍👧 日本 [red]"),
        ("two\nlines\tand tab", "two\nlines\tand tab"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert one_line(text) == shown.replace("\n", "\\n").replace("\t", "\\t")


def test_json_stays_json() -> None:
    value = {title: [title] for title in HOSTILE} | {"half": "\ud83d"}
    text = json_text(json.dumps(value, ensure_ascii=False))
    assert not RAW.search(text)
    assert json.loads(text) == value
    text.encode("utf-8")


@pytest.mark.parametrize("forced", [True, False])
def test_tables_show_what_stands_there(forced: bool) -> None:
    out = StringIO()
    table = Table("head", title="[bold]a[/x]", caption=":smile:")
    for title in HOSTILE:
        table.add_row(cell(title))
    console = terminal(file=out, width=120, force_terminal=forced)
    console.print(table)
    console.print(HOSTILE[2], *HOSTILE[:2])
    shown = ESCAPES.sub("", out.getvalue())
    assert not RAW.search(shown)
    for title in [*HOSTILE, "[bold]a[/x]", ":smile:"]:
        assert one_line(title) in shown


def test_values_of_log_lines_begin_no_lines_of_their_own() -> None:
    values = (f"a\n12:00:00 {ESC}[0m", np.int64(3), Path("b\nc"))
    record = logging.LogRecord("plum", logging.INFO, __file__, 1, "item %s: %d %s\nmore", values, None)
    assert VisibleFormatter("%(message)s").format(record) == "item a\\n12:00:00 \\x1b[0m: 3 b\\nc\nmore"


def test_comments_of_a_written_pipeline_stay_comments() -> None:
    text = to_yaml(["log of\u2028cpt: {}"], [Choice("data.max_bad_share", 0.1, "a column\nworkdir: /tmp\x85seed: 3")])
    assert [line for line in text.splitlines() if line.startswith(("workdir", "seed", "cpt"))] == []


def test_markdown_makes_no_links() -> None:
    assert escape_markdown("see https://example.org or www.example.org") == (
        "see https\\://example.org or www\\.example.org"
    )
    assert escape_markdown(f"a{ESC}[0m") == "a\\\\x1b\\[0m"


@pytest.mark.parametrize(
    "arguments",
    [
        ("recommend", "--k", f"{ESC}[2J"),
        (f"{ESC}[2J",),
        ("run", f"--{ESC}[2J"),
        ("run", f"--{CSI}2J"),
        ("init", f"{ESC}[2J.csv"),
        ("compare", f"{ESC}[2J"),
        ("run", "--config", f"{ESC}[2J.yaml"),
        ("run", "--set", f"seed={ESC}[31m"),
        ("data", "fetch", f"{ESC}[2J[/x]"),
        ("run", "--config", "half\udcff.yaml"),
    ],
)
def test_what_was_typed_is_not_obeyed(cli: Cli, arguments: tuple[str, ...]) -> None:
    code, out, err = cli(*arguments)
    assert code == 2
    assert not RAW.search(ESCAPES.sub("", out + err))
    assert "Traceback" not in err


def test_an_error_shows_what_it_found(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from plum.stages import pipeline

    def fail(*_: object) -> None:
        raise PlumError(f"what {HOSTILE[2]}", HOSTILE[0], "fix")

    monkeypatch.setattr(pipeline, "run_cpt", fail)
    _, _, err = cli("cpt", "--config", "pipelines/synthetic.yaml", "--workdir", tmp_path / "run")
    assert f"what {visible(HOSTILE[2])}\n  found: {HOSTILE[0]}\n" in err


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose titles, ids, topics and title of its own are hostile."""
    home = tmp_path_factory.mktemp("hostile")
    items = [f"i{number} {HOSTILE[number % len(HOSTILE)]}" for number in range(20)]
    rows = [
        (f"u{u} {HOSTILE[u % 10]}", items[(u * step) % 20], 10**6 + u + step)
        for u in range(1, 30)
        for step in range(1, 8)
    ]
    log = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    log.to_json(home / "log.jsonl", orient="records", lines=True)
    catalogue = pd.DataFrame(
        {
            "item_id": items,
            "title": [HOSTILE[n % 10] for n in range(20)],
            "topics": [HOSTILE[(n + 1) % 10] for n in range(20)],
        }
    )
    catalogue.to_json(home / "items.jsonl", orient="records", lines=True)
    source = {"kind": "logs", "interactions": str(home / "log.jsonl"), "items": str(home / "items.jsonl")}
    values = tiny_run.pipeline(home / "run [/rare]", source) | {"title": f"{ESC}[2J[/rare] $x^ {HOSTILE[7]}"}
    values["features"]["modalities"] = {"text": {"dimensions": 4}, "topics": {"encoder": "topics", "dimensions": 4}}
    values["data"]["source"]["topic_separator"] = ";"
    values["eval"]["examples"] = 29  # all users, so that all titles are shown
    config = tiny_run.write(home / "tiny.yaml", values)
    done = subprocess.run(
        tiny_run.command("run", "--config", config),
        capture_output=True,
        timeout=300,
        env=os.environ | tiny_run.ENVIRONMENT,
        check=False,
    )
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    assert not RAW.search(told)
    for title in HOSTILE[:2]:
        assert title in told
    return home / "run [/rare]"


def on_a_terminal(*arguments: str | Path) -> str:
    """What a command sends to a terminal."""
    primary, secondary = pty.openpty()
    environment = os.environ | tiny_run.ENVIRONMENT | {"TERM": "xterm-256color", "COLUMNS": "220"}
    process = subprocess.Popen(
        [sys.executable, "-m", "plum", *map(str, arguments)], stdout=secondary, stderr=secondary, env=environment
    )
    os.close(secondary)
    parts = []
    while True:
        try:
            parts.append(os.read(primary, 65536))
        except OSError:  # the end, on Linux
            break
        if not parts[-1]:
            break
    os.close(primary)
    assert process.wait(60) == 0, b"".join(parts)
    return b"".join(parts).decode()


@pytest.mark.slow
def test_nothing_of_a_hostile_run_is_obeyed(cli: Cli, hostile_run: Path) -> None:
    first = f"i0 {HOSTILE[0]}"
    asked = [
        ("recommend", "--workdir", hostile_run, "--history", first, "--k", "19", "--search", "exact"),
        ("recommend", "--workdir", hostile_run, "--history", first, "--json"),
        ("inspect", f"i2 {HOSTILE[2]}", "--workdir", hostile_run),
        ("compare", hostile_run, "--resamples", "50"),
        ("data", "describe", "--workdir", hostile_run),
    ]
    for arguments in asked:
        code, out, err = cli(*arguments)
        assert code == 0, err
        assert not RAW.search(out + err), arguments
    shown = "".join(cli(*arguments)[1] for arguments in asked)
    for title in HOSTILE:
        assert one_line(title) in shown
    refused = cli("recommend", "--workdir", hostile_run, "--history", HOSTILE[0])
    assert (refused[0], HOSTILE[0] in refused[2]) == (2, True)
    for arguments in (asked[0], asked[2]):
        assert not RAW.search(ESCAPES.sub("", on_a_terminal(*arguments)).replace("\r\n", "\n")), arguments


@pytest.mark.slow
def test_nothing_of_a_hostile_run_is_obeyed_in_its_report(hostile_run: Path) -> None:
    html, markdown = ((hostile_run / "eval" / name).read_text() for name in ("report.html", "report.md"))
    assert not RAW.search(html + markdown)
    prose = "\n".join(line for line in markdown.split("\n") if not line.startswith("    "))  # without blocks of code
    prose = re.sub(r"\\.", "", prose)  # and without what is escaped
    for sign in ("<script", "](http", "![image", "[red]"):
        assert sign not in prose
    assert "<script" not in html
