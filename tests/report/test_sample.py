from io import StringIO

import pytest
from rich.console import Console

from plum.report.console import console_table
from plum.report.page import render_report
from plum.report.sample import few_hits, few_users, over_users

FIGURES = {"plum": {"recall@10": 0.1, "hit@10": 0.1, "ndcg@10": 0.05}, "popularity": {"hit@10": 0.2, "ndcg@10": 0.1}}


def test_few_users_are_told_and_enough_are_not():
    assert few_users(27) == ("Only 27 users.", "The intervals are wide, and small differences cannot be seen.")
    assert few_users(500) is None
    assert few_users(None) is None


@pytest.mark.parametrize(("n_users", "named"), [(24, "plum 2, popularity 5"), (40, "plum 4."), (50, None)])
def test_few_hits_name_their_retrievers(n_users, named):
    told = few_hits(n_users, FIGURES)
    assert (told is None) if named is None else (named in told[1])


def test_the_bound_and_other_metrics_have_no_hits():
    assert few_hits(40, {"optimum": {"hit@10": 0.0}}) is None
    assert few_hits(40, FIGURES, "ndcg@10") is None


def test_the_number_of_users_stands_beside_every_interval():
    ends = {"plum": {"recall@10": [0.05, 0.2]}, "popularity": {"recall@10": [0.1, 0.4]}}
    values = {name: {**figures, "recall@10": figures["hit@10"]} for name, figures in FIGURES.items()}
    difference = {"metric": "recall@10", "a": "plum", "b": "popularity", "difference": -0.1, "ci95": [-0.2, 0.1]}
    payload = {"n_users": 27, "retrievers": values, "intervals": ends, "comparisons": [difference]}
    _, markdown = render_report(payload)
    assert "Means over 27 test users with 95% intervals" in markdown
    assert "Means over 27 users with 95% intervals" in markdown
    assert "over the same 27 users" in markdown
    assert "Only 27 test users." in markdown
    assert "Fewer than 5 hits (Hit rate@10):" in markdown
    shown = StringIO()
    Console(file=shown, width=120).print(console_table(payload))
    assert "27 users, 95% intervals over users" in shown.getvalue()
    assert "Only 27 users." in shown.getvalue()
    assert over_users(None) == "users"
