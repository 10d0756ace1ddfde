"""The parts of a full report; :mod:`test_report` has what holds for every report."""

import re

import pytest
from full_payload import LEVELS, RETRIEVERS, full_payload, full_report
from markupsafe import Markup
from report_page import EVIL, Page, row_of, text_of

from plum.report import figures, wording
from plum.report.page import render_report


@pytest.fixture(scope="module")
def full():
    return full_report()


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are most of the time: only what they say is kept."""
    stub = '<svg role="img" aria-label="{}"></svg>'
    monkeypatch.setattr(figures, "render", lambda draw, identifier, label, height: Markup(stub).format(label))


@pytest.mark.parametrize("key", sorted(full_payload() | {"synthetic": True}))
def test_a_missing_or_empty_part_is_left_out(key, undrawn):
    payload = full_payload() | {"synthetic": True}
    whole = render_report(payload)
    empty = {str: "", int: 0, bool: False, dict: {}, list: []}[type(payload.pop(key))]
    without = render_report(payload)
    assert without[0] != whole[0]
    assert without[1] != whole[1]
    assert render_report(payload | {key: empty}) == without


@pytest.mark.parametrize("key", ["slices", "efficiency", "tuning", "levels2", "prefix_recall", "lists", "dense_search"])
def test_a_part_that_holds_only_empty_things_does_no_harm(key, undrawn):
    payload = full_payload()
    hollow = {name: {} for name in payload[key]} if isinstance(payload[key], dict) else [{} for _ in payload[key]]
    html, _ = render_report(payload | {key: hollow})
    assert Page(html).open == []


def test_the_full_report_is_as_sound_as_the_small_one(full):
    html, page = full[0], Page(full[0])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert page.open == []
    assert len(ids) == len(set(ids))
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    for said in (
        "Recall@10 by popularity of the target. head: popularity 0.019",
        "Recall@10 by length of the history",
        "Recall@10 of the first codes",
        "Recall@10 over the FLOPs of the training. lem 0.0740 for 5 TFLOP; dense 0.0862 for 4.31 TFLOP",
        "256 of 256 codes have items, the fullest 151",
    ):
        assert any(label.startswith(said) or said in label for label in labels)
    assert not any("age group" in label for label in labels)
    anchors = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert anchors == {attributes["id"] for tag, attributes in page.tags if tag == "section"}
    assert html.count("<details>") == 1


def test_both_forms_have_the_same_sections_and_tables(full):
    html, markdown = full
    heads = re.findall(r"<h[23][^>]*>(.*?)</h[23]>", html)
    escaped = [line.lstrip("# ").replace("\\", "") for line in markdown.splitlines() if re.match("##+ ", line)]
    assert escaped == [head for head in heads if head not in ("Inputs", "Versions")]
    assert html.count("<table") == len(re.findall(r"^\|---\|", markdown, flags=re.MULTILINE))


def test_the_other_rule_for_seen_items_stands_beside_the_headline(undrawn):
    payload = {"retrievers": {"plum": {"recall@10": 0.2, "mrr@10": 0.1}, "optimum": {"recall@10": 0.5}}}
    kept = {"plum": {"recall@10": 0.15, "mrr@10": 0.1}}
    stored = render_report(payload | {"seen_kept": kept})
    # No stage writes this form.
    assert render_report(payload | {"other_view": {"seen": "kept", "retrievers": kept}}) == render_report(payload)
    assert row_of(stored[1], "plum", after="## With seen items kept") == ["plum", "0.1500 (−0.0500)"]
    assert "may be recommended, by every retriever" in text_of(stored[0])
    assert "## With seen items filtered" in render_report(payload | {"seen_filtered": kept})[1]


def test_slices_show_users_intervals_and_the_best(undrawn):
    scores = {
        "plum": {"recall@10": 0.2, "ci95": [0.1, 0.3]},
        "dense": {"recall@10": 0.1},
        "optimum": {"recall@10": 0.9},
    }
    part = {"name": "cold", "users": 1200, "targets": 1300, "retrievers": scores}
    _, markdown = render_report({"slices": [{"group": "popularity of the target", "slices": [part]}]})
    assert row_of(markdown, "slice")[:3] == ["slice", "users", "targets"]
    assert row_of(markdown, "cold") == ["cold", "1,200", "1,300", "**0.2000** (0.100–0.300)", "0.1000", "0.9000"]
    one = part | {"targets": 1200}
    assert "targets |" not in render_report({"slices": [{"group": "age", "slices": [one]}]})[1]


def test_prefix_recall_ends_with_the_item_and_is_no_headline(undrawn):
    payload = {
        "prefix_recall": {"plum": [0.6, 0.4], "dense": [0.5]},
        "retrievers": {"plum": {"recall@10": 0.3}, "dense": {}},
    }
    html, markdown = render_report(payload)
    assert row_of(markdown, "retriever", after="## How far") == ["retriever", "1 code", "2 codes", "the item"]
    assert row_of(markdown, "plum", after="## How far") == ["plum", "0.6000", "0.4000", "0.3000"]
    assert row_of(markdown, "dense", after="## How far") == ["dense", "0.5000", "–", "–"]
    assert "laxer than recall of items and never the headline" in text_of(html)
    assert "dense 0.500." in html  # its line ends where its values do


def test_cost_of_training_has_dashes_where_nothing_is_trained(full):
    assert row_of(full[1], "popularity", after="## What the training cost") == ["popularity", *5 * ["–"], "0.0120"]
    expected = ["plum", "933K", "1.9M", "45.6M", "290 TFLOP", "20", "0.0810"]
    assert row_of(full[1], "plum", after="## What the training cost") == expected


def test_every_trial_is_told_best_first_and_the_chosen_is_marked(undrawn):
    trials = [{"settings": {"dropout": d}, "valid_recall@10": v} for d, v in ((0.1, 0.2), (0.5, 0.3), (0.7, None))]
    search = {
        "searched": {"dropout": [0.1, 0.5, 0.7]},
        "trials": trials,
        "chosen": {"dropout": 0.5},
        "note": "By hand.",
    }
    html, markdown = render_report({"tuning": {"dense": search}})
    rows = [line.split("|")[1].strip() for line in markdown.splitlines() if re.match(r"\| \d", line)]
    assert rows == ["2 ✓ chosen", "1", "3"]
    assert row_of(markdown, "2 ✓ chosen") == ["2 ✓ chosen", "**0.5**", "**0.3000**"]
    assert row_of(markdown, "3") == ["3", "0.7", "–"]
    assert "By hand." in text_of(html)
    assert "Searched dropout0.1, 0.5, 0.7" in text_of(html)
    assert "Chosen of 3: dropout 0.5" in text_of(html)
    assert sum(attributes.get("class") == "marked" for tag, attributes in Page(html).tags if tag == "tr") == 1


def test_nothing_is_called_chosen_where_nothing_was_searched(undrawn):
    only = {"searched": {}, "trials": [{"settings": {}, "valid_recall@10": 0.2}], "chosen": {}, "note": "not searched"}
    html, markdown = render_report({"tuning": {"plum": only}})
    assert row_of(markdown, "1") == ["1", "0.2000"]
    assert "✓" not in html + markdown
    for text in (text_of(html), " ".join(markdown.split())):
        assert "Settings under 'searched' were chosen by their validation figure" in text
        assert "Every setting" not in text


def test_dense_search_lists_and_levels_are_told(full):
    _, markdown = full
    expected = ["hnsw", "M: 32; efConstruction: 200; efSearch: 64", "99.5%", "0.083", "3.2 s", "6.1 MiB"]
    assert row_of(markdown, "hnsw") == expected
    told = markdown[markdown.index("## Lists as delivered") : markdown.index("## Examples")]
    assert re.findall(r"^- (.*)", told, flags=re.MULTILINE) == [
        f"{name}: users with fewer than k items: 1,234" for name in ("itemknn", "textknn")
    ]
    odd_in_none = {name: {"repeated items": 0} for name in RETRIEVERS}
    assert "Nothing odd was found in any list." in render_report({"lists": odd_in_none})[1]
    assert row_of(markdown, "0", after="### The first level")[1] == "150"
    assert f"{LEVELS} codes" in markdown


def test_codebook_levels_tell_their_dead_codes(undrawn):
    level = {"size": 2048, "usage": 0.5, "dead": 1024, "perplexity": 900.25}
    older = {"size": 4, "usage": 1.0, "perplexity": 3.0}  # of a run that did not count them
    _, markdown = render_report({"quality": {"levels": [level, older]}})
    assert row_of(markdown, "level") == ["level", "codes", "in use", "dead", "perplexity"]
    assert row_of(markdown, "0") == ["0", "2,048", "50.0%", "1,024", "900.2"]
    assert row_of(markdown, "1") == ["1", "4", "100.0%", "–", "3.0"]


def test_everything_to_repeat_the_run_is_there(full):
    html, markdown = full
    assert "    plum data fetch amazon-beauty\n" in markdown
    assert "    data:\n      source:\n        kind: amazon\n" in markdown
    assert "<details>\n<summary>" in html  # closed
    assert "- data/items.parquet: b00000000000\n" in markdown
    assert "<dt>data/items.parquet</dt><dd><code>b00000000000</code></dd>" in html


@pytest.mark.parametrize("key", ["config", "inputs", "retriever_about", "lists", "tuning", "slices", "dense_search"])
def test_foreign_text_in_new_parts_is_shown_as_text(key, undrawn):
    foreign = {
        "config": EVIL,
        "inputs": {EVIL: "0" * 64},
        "retriever_about": {"plum": EVIL},
        "lists": {"plum": {EVIL: 3}},
        "tuning": {EVIL: {"note": EVIL, "searched": {EVIL: [EVIL]}, "trials": [{"settings": {EVIL: EVIL}}]}},
        "slices": [{"group": EVIL, "slices": [{"name": EVIL, "retrievers": {EVIL: {"recall@10": 1}}}]}],
        "dense_search": [{"index": EVIL, "parameters": {EVIL: EVIL}}],
    }
    html, markdown = render_report({key: foreign[key]})
    assert EVIL in Page(html).text
    assert "script" not in {tag for tag, _ in Page(html).tags}
    if key == "config":
        assert f"    {EVIL}\n" in markdown  # an indented block: text as it is
    else:
        assert "<script" not in markdown
        assert wording.escape_markdown(EVIL) in markdown


def test_comparisons_say_whether_they_are_corrected(full):
    entries = [
        {key: value for key, value in entry.items() if key != "p_holm"} for entry in full_payload()["comparisons"]
    ]
    plain, _ = render_report({"comparisons": entries})
    assert "The p-values are not corrected" in text_of(plain)
    assert "Holm" not in text_of(plain)
    assert "not corrected" not in text_of(full[0])
    assert "corrected by Holm's method for all comparisons shown" in text_of(full[0])
    found = row_of(full[1], "Recall@10", after="## Paired")
    assert found == [
        "Recall@10",
        "plum − popularity",
        "+0.0690",
        "+0.0650 to +0.0730",
        "&lt; 0.001",
        "0.006",
        "plum ahead",
    ]


def test_the_list_the_report_is_about_stands_first(full):
    first = full[1][full[1].index("## Examples") :].split("### User")[1]
    names = re.findall(r"^- (\w+): ", first, flags=re.MULTILINE)[1:]  # after the target
    assert names == ["plum", *(name for name in RETRIEVERS if name not in ("plum", "optimum"))]
