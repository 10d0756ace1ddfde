"""``plum recommend`` under business rules: what comes, what is said of it, and mistakes told before loading."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from test_cli import refused

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def items(finished_run: Path) -> pd.DataFrame:
    return pd.read_parquet(finished_run / "data/items.parquet")


@pytest.fixture
def ask(cli: Cli, finished_run: Path, items: pd.DataFrame) -> Cli:
    """Ask for recommendations after the first two items."""
    history = ("--history", items["item_id"][0], "--history", items["item_id"][1])
    return lambda *options: cli("recommend", "--workdir", finished_run, *history, *options)


def answer(result: tuple[int, str, str]) -> tuple[list[str], int]:
    """Item ids and the number of legal items."""
    code, out, err = result
    assert code == 0, err
    found = json.loads(out)
    return [one["item_id"] for one in found["recommendations"]], found["legal_items"]


def with_topic(items: pd.DataFrame, topic: str) -> set[str]:
    return set(items["item_id"][[topic in topics for topics in items["topics"]]])


def test_only_items_that_satisfy_the_rule_come(ask: Cli, items: pd.DataFrame) -> None:
    topic = items["topics"][5][0]
    legal = with_topic(items, topic) - set(items["item_id"][:2])
    found, n_legal = answer(ask("--where", f'topics has "{topic}"', "--k", 60, "--json"))
    assert set(found) == legal
    assert n_legal == len(legal)
    others, n_others = answer(ask("--where", f'not topics has "{topic.upper()}"', "--k", 60, "--json"))
    assert not set(others) & legal
    assert n_legal + n_others == 58


def test_all_rules_and_lists_must_hold(ask: Cli, items: pd.DataFrame, tmp_path: Path) -> None:
    allowed, denied = items["item_id"][1:30], items["item_id"][10:15]
    (tmp_path / "allow.txt").write_text("\n".join(allowed) + "\n\n")
    (tmp_path / "deny.txt").write_text("".join(f" {item} \r\n" for item in denied))
    lists = ("--allow", tmp_path / "allow.txt", "--deny", tmp_path / "deny.txt")
    found, _ = answer(ask(*lists, "--where", "title is not null", "--where", "popularity >= 0", "--k", 60, "--json"))
    assert set(found) == set(allowed[1:]) - set(denied)
    assert answer(ask(*lists, "--where", f"item_id = {denied.iloc[0]}", "--json")) == ([], 0)


def test_the_history_may_come_back(ask: Cli, items: pd.DataFrame) -> None:
    rule = ("--where", f"item_id in ({items['item_id'][0]}, {items['item_id'][7]})", "--json")
    assert answer(ask(*rule)) == ([items["item_id"][7]], 1)
    found, n_legal = answer(ask(*rule, "--keep-seen"))
    assert (set(found), n_legal) == ({items["item_id"][0], items["item_id"][7]}, 2)
    assert answer(ask("--keep-seen", "--k", 60, "--json"))[1] == 60


def test_a_short_list_says_why(ask: Cli, items: pd.DataFrame) -> None:
    rule = f"item_id in ({items['item_id'][0]}, {items['item_id'][7]}, {items['item_id'][8]})"
    code, out, _ = ask("--where", rule, "--k", 3)
    assert (code, "3 items satisfy the rules, 1 of them in the history." in out) == (0, True)
    assert items["title"][7] in out
    code, out, _ = ask("--where", rule, "--k", 2)
    assert (code, "satisfy" in out) == (0, False)
    code, out, _ = ask("--where", f"item_id = {items['item_id'][7]}")
    assert (code, "1 item satisfies the rules." in out) == (0, True)
    code, out, _ = ask("--where", "popularity < 0")
    assert (code, out.splitlines()[0]) == (0, "No item satisfies the rules.")
    code, out, _ = ask("--k", 60)
    assert (code, "58 items of the catalogue are not in the history." in out) == (0, True)


def test_fields_of_today_are_joined(ask: Cli, items: pd.DataFrame, tmp_path: Path) -> None:
    stock = pd.DataFrame({"item_id": items["item_id"][2:12], "price": range(10), "in_stock": [True, False] * 5})
    pd.concat([stock, pd.DataFrame({"item_id": ["new"], "price": [3], "in_stock": [True]})]).to_csv(
        tmp_path / "stock.csv", index=False
    )
    cheap = ("--fields", tmp_path / "stock.csv", "--where", "in_stock and price < 5", "--json")
    code, out, err = ask(*cheap)
    assert set(answer((code, out, err))[0]) == set(items["item_id"][[2, 4, 6]])
    assert "stock.csv: 1 rows of items outside the catalogue: 'new'" in err
    missing = answer(ask("--fields", tmp_path / "stock.csv", "--where", "price is null", "--k", 50, "--json"))
    assert set(missing[0]) == set(items["item_id"][12:])


def test_mistakes_in_a_request_are_told(ask: Cli, items: pd.DataFrame, tmp_path: Path) -> None:
    topic = items["topics"][5][0]
    refused(ask("--where", "yaer > 3"), "items have no field 'yaer'", "fields: item_id, title, topics", "popularity")
    refused(ask("--where", "title has"), "rule, character 10: the rule ends where a value is expected", "^")
    refused(ask("--where", f'topics has "{topic}x"'), f"no item has '{topic}x' among its topics", "did you mean")
    refused(ask("--where", ""), "the rule is empty")
    refused(ask("--allow", tmp_path / "gone.txt"), "gone.txt does not exist")
    (tmp_path / "ids.txt").write_text(f"{items['item_id'][3]}\nnobody\n")
    refused(ask("--deny", tmp_path / "ids.txt"), "ids.txt: 1 of 2 item ids are not in the catalogue", "'nobody'")
    (tmp_path / "ids.txt").write_text("\n")
    refused(ask("--allow", tmp_path / "ids.txt"), "ids.txt is empty")
    (tmp_path / "twice.csv").write_text(f"item_id,price\n{items['item_id'][3]},1\n{items['item_id'][3]},2\n")
    refused(ask("--fields", tmp_path / "twice.csv", "--where", "price > 1"), "twice.csv: 1 items have several rows")
    refused(ask("--fields", tmp_path / "twice.csv"), "--fields has no effect without --where")
    refused(ask("--where", "popularity >= 0", "--k", 61), "--k 61 is more than the catalogue holds")


def test_an_empty_list_of_denied_items_denies_nothing(ask: Cli, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("")
    assert answer(ask("--deny", tmp_path / "ids.txt", "--json"))[1] == 58


def test_rules_are_checked_before_torch_is_loaded(finished_run: Path, items: pd.DataFrame) -> None:
    script = (
        "import sys\nfrom plum.cli.app import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        "    sys.exit(f'{stop.code} {\"torch\" in sys.modules}')"
    )
    arguments = ["recommend", "--workdir", finished_run, "--history", items["item_id"][0], "--where", "yaer > 3"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "2 False"
