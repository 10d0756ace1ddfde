"""Spellings of "no value" in ids, numbers and texts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from plum.data.logs import load_logs
from plum.data.missing import is_missing, no_prose, prose_or_none
from plum.errors import PlumError
from plum.rules.log_rows import LogRule

ROWS = "".join(f"u{n % 20},i{n % 7},{n}\n" for n in range(200))


def log_with(folder: Path, user: str, n: int = 1) -> Path:
    path = folder / "log.csv"
    path.write_text("user_id,item_id,timestamp\n" + ROWS + "".join(f"{user},i1,{900 + n}\n" for n in range(n)))
    return path


@pytest.mark.parametrize("word", ["\\N", "NA", "<NA>", "NaT", "N/A", "None", "none", "UNDEFINED", "nil", "#N/A", "NaN"])
def test_a_word_for_no_user_is_no_user(tmp_path: Path, word: str) -> None:
    tables = load_logs(log_with(tmp_path, word))
    (problem,) = tables.problems
    assert (problem.reason, problem.count, problem.example) == ("user_id is missing", 1, f"line 202: {word!r}")
    assert tables.interactions["user_id"].nunique() == 20


def test_several_words_are_all_told(tmp_path: Path) -> None:
    path = log_with(tmp_path, "NA")
    path.write_text(path.read_text() + "null,i2,7\n")
    assert load_logs(path, max_bad_share=0.1).problems[0].example.endswith("written as 'NA', 'null'")


@pytest.mark.parametrize("user", ["0", "-1", "-", "Nano", "nannette", "(not set)"])
def test_other_ids_are_ids(tmp_path: Path, user: str) -> None:
    assert user in load_logs(log_with(tmp_path, user)).interactions["user_id"].tolist()


def test_many_users_who_are_none_are_refused_with_advice_that_works(tmp_path: Path) -> None:
    path = log_with(tmp_path, "undefined", 50)
    with pytest.raises(PlumError, match=r"50 of 250 rows are unusable(.|\n)*data.source.where=user_id is not null"):
        load_logs(path)
    tables = load_logs(path, where=LogRule("user_id is not null"))
    assert len(tables.interactions) == 200
    assert [(problem.count, problem.asked) for problem in tables.problems] == [(50, True)]


def test_a_film_may_be_called_none_but_not_many() -> None:
    assert prose_or_none(["None", "NA", "Undefined", "\\N", "nan", " ", "Nan", None]) == [
        *("None", "NA", "Undefined", None, None, None, "Nan", None)
    ]
    assert prose_or_none(["N/A", "Alien", "N/A", "N/A"]) == [None, "Alien", None, None]
    assert no_prose("<NA>")
    assert not no_prose("Null Island")


def test_items_of_a_dump_have_no_spelt_out_gaps(tmp_path: Path) -> None:
    (tmp_path / "items.tsv").write_text(
        "item_id\ttitle\ttopics\tstart\ti18n\n"
        "i0\tNone\t\\N\t1990\tNA\ni1\tA\tDrama,War\t\\N\tEU\ni2\t\\N\tN/A\t1991\tNA\n"
    )
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\nu,i0,1\nu,i1,2\n")
    items = load_logs(path, tmp_path / "items.tsv", topic_separator=",").items
    assert items["title"].tolist() == ["None", "A", None]
    assert items["topics"].tolist() == [None, ["Drama", "War"], None]
    assert items["start"].tolist() == [1990, pd.NA, 1991]
    assert items["i18n"].tolist() == ["NA", "EU", "NA"]


def test_values_of_any_type() -> None:
    assert is_missing(None)
    assert is_missing(float("nan"))
    assert not is_missing(0)
    assert not is_missing([])
