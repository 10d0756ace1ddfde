"""plum init reads text of other suffixes and quotes, and writes the settings by which a run reads it too."""

from __future__ import annotations

from pathlib import Path

import made_up_logs as made
import pytest

from plum.recipes.finding import find
from plum.recipes.make import read


@pytest.mark.parametrize(("name", "separator"), [("log.dat", "::"), ("log.txt", "|"), ("log.inter", "\t")])
def test_delimiters_are_recognised(tmp_path: Path, name: str, separator: str) -> None:
    text = made.log().to_csv(index=False).replace(",", separator)
    if name == "log.inter":
        text = text.replace("user_id\titem_id\ttimestamp", "user_id:token\titem_id:token\ttimestamp:float", 1)
    (tmp_path / name).write_text(text)
    found = find(tmp_path / name)
    assert found.log_roles.mapping() == {name: name for name in made.NAMES}
    assert read(found).measured.sizes.interactions == made.USERS * 8


@pytest.mark.parametrize(
    ("title", "setting"),
    [(r'"Say \"no, no\""', {"escape": "backslash"}), ('"Late show', {"quoting": "none"}), ('"Plain"', {})],
)
def test_quotes_are_read_as_they_were_written(tmp_path: Path, title: str, setting: dict[str, str]) -> None:
    log = made.write(tmp_path / "log.csv", made.log())
    rows = "".join(f"{item},{title if item == 3 else f'Title {item}'},x\n" for item in range(made.ITEMS))
    (tmp_path / "items.csv").write_text("item_id,title,kind\n" + rows)
    found = read(find(log, tmp_path / "items.csv")).found
    assert found.layout == setting
    assert {key: found.source().get(key) for key in setting} == setting
