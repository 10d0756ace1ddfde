"""What README shows works: its commands and options exist, its links lead somewhere, its Python can be imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)

Cli = Callable[..., tuple[int, str, str]]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files_of_the_project(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_and_their_options_exist(cli: Cli) -> None:
    shown = [line.split(" #")[0] for _, block in BLOCKS for line in block.splitlines() if line.startswith("plum ")]
    shown += [code for code in re.findall(r"`(plum [^`]+)`", README) if "=" not in code.split()[1]]
    assert len(shown) >= 10
    for line in shown:
        words = [word.rstrip(",") for word in line.split()[1:]]
        path = words[:2] if words[0] == "data" else words[:1]
        code, out, _ = cli(*path, "--help")
        assert code == 0, line
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            assert option in out, line


def test_makefile_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    known = {name for names in targets for name in names.split()}
    asked = {
        word for line in re.findall(r"(?:^|`)make ([a-z -]+)", README, flags=re.MULTILINE) for word in line.split()
    }
    assert {"demo", "test"} <= asked <= known


def test_python_can_be_imported() -> None:
    imports = [
        node
        for language, block in BLOCKS
        if language == "python"
        for node in ast.parse(block).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert imports
    exec(compile(ast.Module(imports, []), "README.md", "exec"), {})
