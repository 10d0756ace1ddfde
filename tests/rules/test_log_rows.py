"""Rules on the rows of a log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from plum.data.logs import load_logs
from plum.errors import PlumError
from plum.rules.columns import NumberColumn
from plum.rules.language import Condition, Value
from plum.rules.log_rows import LogRule, log_rule

LOG = """user_id,item_id,timestamp,rating,event,price
u1,a,2020-01-01,5,view,1
u1,b,2020-01-02T12:00,-1,purchase,2
U1,c,2020-02-01,3.7,purchase,30
u2,a,2021-01-01,,view,x
,,2021-01-02,,search,
"""


def log(folder: Path) -> Path:
    (folder / "log.csv").write_text(LOG)
    return folder / "log.csv"


def message(folder: Path, where: str | None, min_rating: float | None = None, **kwargs: object) -> str:
    with pytest.raises(PlumError) as caught:
        load_logs(log(folder), where=LogRule(where, min_rating), **kwargs)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("where", "min_rating", "items"),
    [
        ("rating > 0", None, "ac"),
        ("rating > 0 or rating is null and item_id is not null", None, "aca"),
        ("event = purchase", None, "bc"),
        ("event in (Purchase, view) and user_id = u1", None, "ab"),
        ("timestamp >= 2020-01-02 and timestamp < 2021-01-01", None, "bc"),
        ("timestamp = 2020-01-02", None, "b"),
        ("timestamp < 1577923200", None, "a"),
        (None, 3.7, "ac"),
        ("event = purchase", 3, "c"),
        ("user_id is not null", None, "abca"),
        ("not event in (view, search)", None, "bc"),
    ],
)
def test_rows_that_satisfy_a_rule(tmp_path: Path, where: str | None, min_rating: float | None, items: str) -> None:
    tables = load_logs(log(tmp_path), where=LogRule(where, min_rating), max_bad_share=0)
    assert "".join(tables.interactions["item_id"]) == items
    (problem,) = tables.problems
    assert (problem.count, problem.asked) == (5 - len(items), True)
    assert list(tables.interactions)[5:] == []  # what only the rule reads is not kept


def test_rows_left_out_do_not_hide_how_many_are_unusable(tmp_path: Path) -> None:
    path = log(tmp_path)
    path.write_text(LOG + "u3,a,never,5,purchase,1\n" + "u4,a,2020-01-01,1,view,1\n" * 200)
    with pytest.raises(PlumError, match=r"1 of 3 rows are unusable"):
        load_logs(path, where=LogRule("event = purchase"))


def test_a_value_that_the_rule_needs_and_can_not_read_is_unusable(tmp_path: Path) -> None:
    path = log(tmp_path)
    path.write_text(LOG.replace("3.7", "good"))
    found = load_logs(path, where=LogRule("rating > 0"), max_bad_share=0.5).problems
    assert [(problem.reason, problem.count) for problem in found] == [
        ("rating is not a number", 1),
        ("left out by where: rating > 0", 3),
    ]


def test_mistakes_are_told(tmp_path: Path) -> None:
    assert "did you mean 'event'" in message(tmp_path, "evnt = view")
    assert "no row satisfies where: event = sold" in message(tmp_path, "event = sold")
    assert "seconds since 1970, whatever the file's unit" in message(tmp_path, "timestamp > 1577923200000")
    assert "price is text" in message(tmp_path, "price > 2")
    assert "leaves out" in message(tmp_path, None, 3, columns={"rating": ""})
    with pytest.raises(PlumError, match="rule, character 9"):
        LogRule("rating >")
    assert log_rule(None, None) is None
    assert log_rule("  ", None) is None


def test_a_rule_may_use_our_name_or_the_file_s(tmp_path: Path) -> None:
    columns = {"device": "event"}
    for where in ("event = view", "device = view"):
        found = load_logs(log(tmp_path), columns=columns, where=LogRule(where)).interactions
        assert found["device"].tolist() == ["view", "view"]
        assert "event" not in found


def test_the_smallest_whole_number_is_found() -> None:
    least, most = -(1 << 63), (1 << 63) - 1
    column = NumberColumn(pa.array([least, most, 0, None]))
    for operator in ("in", "="):
        for value, wanted in ((least, [1, 0, 0, 0]), (most, [0, 1, 0, 0]), (least - 1, [0] * 4), (most + 1, [0] * 4)):
            mask = column.test(Condition("x", operator, (Value(str(value), 0),), 0, 0))
            assert np.array_equal(mask, np.array(wanted, bool)), (operator, value)
