"""What a reader sees before anything is unfolded: the verdict, one table, the data, and what changes how to read it."""

import re

import pytest
from full_payload import full_payload, full_report
from report_page import Page, row_of, text_of

from plum.report.page import render_report


@pytest.fixture(scope="module")
def seen():
    """The part of the page that nothing folds away."""
    html = full_report()[0]
    return html[html.index("<body>") : html.index("<details")]


def rows_of(html):
    return [re.findall(r"<th scope=\"row\">(.*?)</th>", row)[0] for row in re.findall(r"<tr.*?</tr>", html)[1:]]


def warned(**payload):
    """What the box above the data says."""
    html, _ = render_report(payload)
    box = re.search(r"<aside.*?</aside>", html, flags=re.DOTALL)
    return text_of(box[0]).removeprefix("Before you read the figures ") if box else ""


def test_the_verdict_comes_first_then_the_table_then_what_to_know(seen):
    places = [seen.index(part) for part in ('class="verdict"', "<table", "<aside", "Data and split")]
    assert places == sorted(places)
    markdown = full_report()[1]
    places = [markdown.index(part) for part in ("**plum and dense", "| hybrid |", "Leave-one-out split", "- **25% of")]
    assert places == sorted(places)
    assert places[-1] < markdown.index("## Results in detail")


def test_one_table_has_the_retrievers_best_first_and_the_bound_apart_at_its_end(seen):
    assert seen.count("<table") == 1
    order = ["hybrid", "dense", "plum", "lem", "itemknn", "textknn", "recencypop", "popularity", "optimum"]
    assert rows_of(seen) == order
    assert re.findall(r'<tr class="(\w+)"><th scope="row">(\w+)', seen) == [("marked", "plum"), ("apart", "optimum")]
    assert row_of(full_report()[1], "retriever")[1:] == ["Recall@10", "NDCG@10", "Recall@10, seen items kept"]
    assert row_of(full_report()[1], "hybrid") == [
        "hybrid",
        "**0.0940** (0.089–0.099)",
        "**0.0470** (0.045–0.049)",
        "**0.0752**",
    ]


def test_a_retriever_that_nobody_foresaw_has_its_row():
    found = {"plum": {"recall@10": 0.1}, "dense-mean": {"recall@10": 0.2}, "new": {"ndcg@10": 0.3}}
    html, _ = render_report({"retrievers": found})
    assert rows_of(html[: html.index("<details")]) == ["dense-mean", "plum", "new"]


def test_the_third_column_is_there_only_under_another_rule_for_seen_items():
    found = {"plum": {"recall@10": 0.1, "ndcg@10": 0.05}, "dense": {"recall@10": 0.2, "ndcg@10": 0.1}}
    assert row_of(render_report({"retrievers": found})[1], "retriever") == ["retriever", "Recall@10", "NDCG@10"]
    filtered = render_report({"retrievers": found, "seen_filtered": {"plum": {"recall@10": 0.3}}})[1]
    assert row_of(filtered, "retriever")[-1] == "Recall@10, seen items filtered"
    assert [row_of(filtered, name)[-1] for name in ("plum", "dense")] == ["0.3000", "–"]


def test_everything_else_is_folded_and_says_what_it_holds():
    html = full_report()[0]
    assert "<details open" not in html
    assert html.count("<svg") == html[html.index("<details") :].count("<svg") > 10
    summaries = re.findall(r"<summary><h3>(.*?)</h3>(.*?)</summary>", html)
    assert len(summaries) == html.count("<details") == 22
    assert all(re.search(r"<span>.+</span>", gist) for _, gist in summaries)
    assert (
        "Paired comparisons",
        " <span>plum in Recall@10: ahead of 5, behind 1, no clear difference to 1</span>",
    ) in [(title, gist) for title, gist in summaries]


def test_the_data_and_the_split_take_a_few_sentences(seen):
    text = text_of(seen)
    assert (
        "22,363 users, 12,101 items and 198,502 interactions from 2002-06-12 to 2014-07-23: 153,776 for training, "
        "22,363 for validation, 22,363 for test."
    ) in text
    assert "the last item" not in text
    assert "each user's last item is the test target" in text
    assert "No retriever recommends items of the user's history." in text
    temporal = render_report({"protocol": {"split": "temporal"}, "timeline": {"cuts": {"valid": 0, "test": 86_400}}})[1]
    assert "Validation begins on 1970-01-01. Test begins on 1970-01-02." in temporal


def test_a_run_without_peculiarities_has_no_warning():
    quiet = {"cold_test": 0, "test": 1000, "tied_targets": 3, "users_without_history": 2, "seen_targets_only": 9}
    protocol = {"split": "leave-one-out", "seen": "filtered"}
    lists = {"plum": {"users without any item": 0}}
    assert warned(n_users=1000, data=quiet, protocol=protocol, lists=lists) == ""


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"synthetic": True}, "Synthetic data. A program generated the interactions."),
        ({"n_users": 90}, "Only 90 test users. The intervals are wide"),
        (
            {"n_users": 1000, "data": {"seen_targets_only": 243}, "protocol": {"seen": "filtered"}},
            "24% of the test users cannot be hit. All their targets are already in their history, and items of the "
            "history are never recommended. No retriever can have a recall above 0.76 here",
        ),
        ({"n_users": 600, "data": {"users_without_history": 400}}, "40% of the users with a test item have no history"),
        (
            {"data": {"cold_test": 15, "test": 1000}},
            "1.5% of the test interactions are with items that training lacks.",
        ),
        (
            {"n_users": 1000, "data": {"tied_targets": 440}, "protocol": {"split": "leave-one-out"}},
            "Tie-breaking decides the test target of 44% of the users.",
        ),
        ({"built_on": "dense"}, "plum is built on dense. Compare them as a model and its teacher"),
        (
            {"n_users": 1000, "lists": {"itemknn": {"users without any item": 70}, "plum": {}}},
            "Some lists are empty: itemknn for 70 users. Each of them counts as a miss.",
        ),
    ],
)
def test_what_changes_how_to_read_the_figures_is_said(payload, said):
    assert warned(**payload).startswith(said)
    assert said.split(":")[0] in " ".join(render_report(payload)[1].replace("**", "").split())


@pytest.mark.parametrize(
    "payload",
    [
        {"n_users": 1000, "data": {"seen_targets_only": 243}, "protocol": {"seen": "kept"}},
        {"n_users": 1000, "data": {"tied_targets": 440}, "protocol": {"split": "temporal"}},
        {"n_users": 1000, "data": {"tied_targets": "unknown: no times"}, "protocol": {"split": "leave-one-out"}},
    ],
)
def test_what_does_not_hold_under_the_protocol_is_not_said(payload):
    assert warned(**payload) == ""


@pytest.mark.parametrize(("weight", "said"), [(0, "the lists of dense alone"), (1, "lists of plum alone"), (0.5, None)])
def test_a_fusion_that_tuning_made_one_of_its_parts_is_named(weight, said):
    payload = full_payload()
    payload["tuning"] = {"hybrid": {"searched": {"weight": [0, 0.5, 1]}, "chosen": {"weight": weight}}}
    markdown = render_report({key: payload[key] for key in ("retrievers", "tuning")})[1]
    assert ("Tuning gave hybrid" in markdown) == (said is not None)
    assert said is None or said in markdown


def test_the_page_knows_both_colour_schemes():
    html = full_report()[0]
    assert "@media screen and (prefers-color-scheme: dark)" in html
    style = html[html.index("<style>") : html.index("</style>")]
    named = set(re.findall(r"var\(--(\w+)\)", html))
    assert named <= set(re.findall(r"--(\w+):", style))
    assert {"ink", "plum", "s0", "page"} <= named
    assert Page(html).open == []
