"""`plum tokenize --assign` and `plum inspect` as a user meets them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny_run
from sealed import seal

Cli = Callable[..., tuple[int, str, str]]


def refused(result: tuple[int, str, str], *told: str) -> None:
    """The command ended with exit code 2 and one message that tells all this, and printed nothing."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.count("Error: ") == 1
    for text in told:
        assert text in err


@pytest.fixture(scope="module")
def sharing(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose items share Semantic IDs, so that every new item finds a place. Write elsewhere."""
    run = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("cli") / "run"))
    done = tiny_run.plum("tokenize", "--workdir", run, "--set", "tokenize.collision=share")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "tokenize")
    return run


def new_items(run: Path, path: Path) -> Path:
    """Three new items, a known one, and one without any content."""
    items = pd.read_parquet(run / "data/items.parquet").iloc[[0, 1, 2, 4]]
    items["item_id"] = ["new [red]", "n1", "n2", items["item_id"].iloc[-1]]
    bare = pd.DataFrame({"item_id": ["bare"]})
    pd.concat([items, bare]).to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("command", ["tokenize", "inspect"])
def test_help_shows_a_working_example(cli: Cli, command: str) -> None:
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"plum {command} " in out
    assert ("--assign new_items.parquet" in out) == (command == "tokenize")


def test_help_lists_the_commands(cli: Cli) -> None:
    _, out, _ = cli("--help")
    assert re.search(r"tokenize +Turn items into vectors", out)
    assert re.search(r"inspect +Show the items", out)


def test_new_items_get_semantic_ids_in_a_process_of_their_own(cli: Cli, sharing: Path, tmp_path: Path) -> None:
    path = new_items(sharing, tmp_path / "new.parquet")
    before = {name: (sharing / name).read_bytes() for name in ("config.yaml", "tokenize/semantic_ids.parquet")}
    done = tiny_run.plum("tokenize", "--workdir", sharing, "--assign", path)
    assert done.returncode == 0, done.stderr
    cells = [line.split("│") for line in done.stdout.splitlines() if "│" in line]
    lines = {name.strip(): number.strip() for _, name, number, _ in cells}
    assert lines["new items"] == "4"
    assert lines["already in the catalogue, unchanged"] == "1"
    assert lines["without any content"] == "1"
    assert done.stdout.splitlines()[-1] == f"Written: {sharing / 'assigned'}"
    assert "ignored, because the catalogue has them" in done.stderr
    table = pd.read_parquet(sharing / "assigned/semantic_ids.parquet")
    assert table["item_id"].tolist()[60:] == ["new [red]", "n1", "n2", "bare"]
    assert {name: (sharing / name).read_bytes() for name in before} == before
    code, out, err = cli("tokenize", "--workdir", sharing, "--assign", path, "--json")
    assert (code, "tokenize --assign: up to date" in err) == (0, True)
    assert json.loads(out) == json.loads((sharing / "assigned/report.json").read_text())


def test_assign_writes_where_it_is_told(cli: Cli, sharing: Path, tmp_path: Path) -> None:
    path = new_items(sharing, tmp_path / "new.parquet")
    arguments = ("tokenize", "--workdir", sharing, "--assign", path)
    code, out, _ = cli(*arguments, "--out", tmp_path / "out", "--json")
    assert (code, json.loads(out)["new_items"]) == (0, 4)
    assert (tmp_path / "out/semantic_ids.parquet").is_file()
    refused(cli(*arguments, "--out", sharing / "tokenize"), "would be replaced", "give another --out")


def test_mistakes_of_assign_are_told(cli: Cli, sharing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask = ("tokenize", "--workdir", sharing)
    (tmp_path / "new.csv").write_text("id,title\nn1,Fresco\n")
    (tmp_path / "old.csv").write_text("item_id,title\ni0001,Fresco\n")
    refused(cli(*ask, "--assign", "new.csv"), "new.csv: no column 'item_id'", "its columns: 'id', 'title'")
    refused(cli(*ask, "--assign", "old.csv"), "holds no new item")
    refused(cli(*ask, "--assign", "nwe.csv"), "nwe.csv does not exist", "did you mean new.csv?")
    refused(cli(*ask, "--out", "out"), "--out and --json need --assign")
    refused(cli(*ask, "--json"), "--out and --json need --assign")
    refused(cli("tokenize", "--assign", "new.csv"), "no pipeline given")
    refused(cli("tokenize", "--workdir", "nowhere", "--assign", "new.csv"), "no run in nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "old.csv"]


def test_assign_needs_the_stages_before_it(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    path = new_items(run_copy, tmp_path / "new.parquet")
    shutil.rmtree(run_copy / "features")
    refused(cli("tokenize", "--workdir", run_copy, "--assign", path), "features/, which is not there", "plum tokenize")


def test_inspect_shows_an_item_in_a_process_of_its_own(finished_run: Path) -> None:
    items = pd.read_parquet(finished_run / "data/items.parquet")
    codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet").iloc[1, 1:].tolist()
    done = tiny_run.plum("inspect", items["title"][1].lower(), "--workdir", finished_run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{items['title'][1]} item {items['item_id'][1]}")
    assert "-".join(map(str, codes)) in done.stdout
    assert "".join(f"<|sid_{level}_{code}|>" for level, code in enumerate(codes)) in done.stdout
    assert "last code: disambiguation" in done.stdout
    assert "Nearest in content (any two items: text 0." in done.stdout


def test_inspect_gives_scripts_one_object(cli: Cli, finished_run: Path) -> None:
    codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet")
    code, out, _ = cli("inspect", "i0004", "--workdir", finished_run, "--json", "--n", 2)
    found = json.loads(out)
    assert (code, found["item"]["item_id"]) == (0, "i0004")
    assert found["codes"] == found["item"]["codes"] == codes.iloc[4, 1:].tolist()
    same = int((codes["code_0"] == codes["code_0"][4]).sum()) - 1
    assert found["prefixes"][0]["total"] == same
    assert [len(prefix["items"]) for prefix in found["prefixes"]] == [
        min(2, prefix["total"]) for prefix in found["prefixes"]
    ]
    assert len(found["alike"]) == 2


def test_inspect_shows_a_semantic_id(cli: Cli, finished_run: Path) -> None:
    codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet")
    first = int(codes["code_0"][0])
    code, out, _ = cli("inspect", f"<|sid_0_{first}|>", "--workdir", finished_run, "--n", 60)
    assert code == 0
    assert f"Semantic ID {first} of 16x8x" in out
    assert all(f"[{item}]" in out for item in codes.loc[codes["code_0"] == first, "item_id"])
    assert "Nearest in content" not in out


def test_brackets_in_titles_are_no_markup(cli: Cli, run_copy: Path) -> None:
    items = pd.read_parquet(run_copy / "data/items.parquet")
    items["title"] = "[red]" + items["title"] + "[/bold]"
    items.to_parquet(run_copy / "data/items.parquet", index=False)
    seal(run_copy)
    code, out, _ = cli("inspect", "i0001", "--workdir", run_copy)
    assert code == 0
    assert out.startswith("[red]")
    assert out.count("[/bold]") > 2


def test_mistakes_of_inspect_are_told(cli: Cli, finished_run: Path) -> None:
    ask = ("--workdir", finished_run)
    refused(cli("inspect", "i00044", *ask), "no item has the id 'i00044'", "similar: id 'i0044', id 'i0004'")
    refused(cli("inspect", "99-0", *ask), "level 0 has no code 99", "codebook sizes [16, 8, ")
    refused(cli("inspect", "i0001"), "no pipeline given")
    refused(cli("inspect", "i0001", "--workdir", "nowhere"), "no run in nowhere")
    code, _, err = cli("inspect", "i0001", *ask, "--n", 0)
    assert (code, "Traceback" in err) == (2, False)
