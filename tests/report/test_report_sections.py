"""The parts of a full report; :mod:`test_report` has what holds for every report."""

import re
from html import unescape

import pytest
from full_payload import LEVELS, RETRIEVERS, full_payload, full_report
from markupsafe import Markup
from report_page import EVIL, Page, row_of, text_of

from plum.report import drawing, results, wording
from plum.report.page import render_report


@pytest.fixture(scope="module")
def full():
    return full_report()


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are most of the time: only what they say is kept."""
    stub = '<svg role="img" aria-label="{}"></svg>'
    for name in ("render", "render_panels"):
        monkeypatch.setattr(drawing, name, lambda draw, identifier, label, height: Markup(stub).format(label))


@pytest.mark.parametrize("key", sorted(full_payload() | {"synthetic": True}))
def test_a_missing_or_empty_part_is_left_out(key, undrawn):
    payload = full_payload() | {"synthetic": True}
    whole = render_report(payload)
    empty = {str: "", int: 0, bool: False, dict: {}, list: []}[type(payload.pop(key))]
    without = render_report(payload)
    assert without[0] != whole[0]
    assert without[1] != whole[1]
    assert render_report(payload | {key: empty}) == without


@pytest.mark.parametrize("key", ["slices", "efficiency", "tuning", "codes", "prefix_recall", "lists", "dense_search"])
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
        "Recall@10 over the FLOPs of the training. hybrid 0.0940 for 294 TFLOP; dense 0.0862 for 4.31 TFLOP",
        "256 of 256 codes have items, the fullest 151",
        "most popular item has 403 training interactions, the most popular tenth of the items has 48% of all, 52 items",
        "Length of the test users' histories: median 5.5, longest 204",
        "validation begins on 2006-06-11, test begins on 2011-03-13",
        "catalogue head 5%, torso 15%, tail 50%, cold 30%; test targets head 40%",
    ):
        assert any(label.startswith(said) or said in label for label in labels)
    assert not any("age group" in label for label in labels)
    assert html.count("<details") == html.count("<details id=")


def test_both_forms_have_the_same_sections_and_tables(full):
    html, markdown = full
    heads = [unescape(head) for head in re.findall(r"<h[234][^>]*>(.*?)</h[234]>", html[html.index("</header>") :])]
    escaped = [line.lstrip("# ").replace("\\", "") for line in markdown.splitlines() if re.match("##+ ", line)]
    assert escaped == heads
    assert html.count("<table") == len(re.findall(r"^\|---\|", markdown, flags=re.MULTILINE))


def test_the_other_rule_for_seen_items_stands_beside_the_headline(undrawn):
    payload = {"retrievers": {"plum": {"recall@10": 0.2, "mrr@10": 0.1}, "optimum": {"recall@10": 0.5}}}
    kept = {"plum": {"recall@10": 0.15, "mrr@10": 0.1}}
    stored = render_report(payload | {"seen_kept": kept})
    # No stage writes this form.
    assert render_report(payload | {"other_view": {"seen": "kept", "retrievers": kept}}) == render_report(payload)
    assert row_of(stored[1], "plum", after="### With seen items kept") == ["plum", "0.1500 (−0.0500)"]
    assert "Every retriever may recommend items of the user's history." in text_of(stored[0])
    assert "### With seen items filtered" in render_report(payload | {"seen_filtered": kept})[1]


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
    assert row_of(markdown, "retriever", after="### Recall of") == ["retriever", "1 code", "2 codes", "the item"]
    assert row_of(markdown, "plum", after="### Recall of") == ["plum", "0.6000", "0.4000", "0.3000"]
    assert row_of(markdown, "dense", after="### Recall of") == ["dense", "0.5000", "–", "–"]
    assert "easier than recall of items, and never the headline" in text_of(html)
    assert "dense 0.500." in html  # its line ends where its values do


def test_cost_of_training_has_dashes_where_nothing_is_trained(full):
    assert row_of(full[1], "popularity", after="### Cost of") == ["popularity", *5 * ["–"], "0.0120"]
    expected = ["plum", "933K", "1.9M", "45.6M", "290 TFLOP", "20", "0.0810"]
    assert row_of(full[1], "plum", after="### Cost of") == expected


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
    assert "searched dropout0.1, 0.5, 0.7" in text_of(html)
    assert sum(attributes.get("class") == "marked" for tag, attributes in Page(html).tags if tag == "tr") == 1


def test_nothing_is_called_chosen_where_nothing_was_searched(undrawn):
    only = {"searched": {}, "trials": [{"settings": {}, "valid_recall@10": 0.2}], "chosen": {}, "note": "not searched"}
    html, markdown = render_report({"tuning": {"plum": only}})
    assert "- validation Recall@10: 0.2000" in markdown
    assert "✓" not in html + markdown
    assert "<table" not in html


def test_dense_search_lists_and_levels_are_told(full):
    _, markdown = full
    parameters = "32 neighbours per vector, 200 candidates while building, 64 candidates while searching"
    assert row_of(markdown, "hnsw") == ["hnsw", parameters, "99.5%", "0.083", "3.2 s", "6.1 MiB"]
    told = markdown[markdown.index("### Short and empty lists") : markdown.index("### Examples")]
    assert re.findall(r"^- (.*)", told, flags=re.MULTILINE) == [
        f"{name}: users with fewer than k items: 1,234" for name in ("itemknn", "textknn")
    ]
    odd_in_none = {name: {"repeated items": 0} for name in RETRIEVERS}
    assert "All lists of all retrievers are full." in render_report({"lists": odd_in_none})[1]
    assert row_of(markdown, "0", after="#### How items spread")[1] == "150"
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
    assert '<details id="config">' in html  # closed
    assert "- data/items.parquet: b00000000000\n" in markdown
    assert "<dt>data/items.parquet</dt><dd>b00000000000</dd>" in html


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
    found = row_of(full[1], "Recall@10", after="### Paired")
    assert found == [
        "Recall@10",
        "plum − hybrid",  # the best rival first
        "−0.0130",
        "−0.0170 to −0.0090",
        "&lt; 0.001",
        "0.006",
        "hybrid ahead",
    ]


def test_the_list_the_report_is_about_stands_first(full):
    first = full[1][full[1].index("### Examples") :].split("#### User")[1]
    names = re.findall(r"^- (\w+): ", first, flags=re.MULTILINE)[1:]  # after the target
    assert names[:3] == ["plum", "hybrid", "dense"]
    assert set(names) == set(RETRIEVERS) - {"optimum"}


def test_slices_stand_in_the_order_of_their_values():
    def named(*names):
        return [part["name"] for part in results.in_order([{"name": name} for name in names])]

    assert named("25-34", "18-24", "unknown", "under 18", "35 and over") == [
        *("under 18", "18-24", "25-34", "35 and over", "unknown")
    ]
    assert named("56", "1,000 to 2,000", "7.5") == ["7.5", "56", "1,000 to 2,000"]
    assert named("student", "artist", "other", "writer") == [
        "student",
        "artist",
        "writer",
        "other",
    ]  # by size, as given


def test_a_slice_of_all_users_is_left_out(undrawn):
    part = {"name": "certain", "users": 900, "retrievers": {"plum": {"recall@10": 0.2}}}
    payload = {"slices": [{"group": "order of the test item", "slices": [part]}], "n_users": 900}
    assert "order of the test item" not in render_report(payload)[1]
    assert "order of the test item" in render_report(payload | {"n_users": 901})[1]


def test_zeros_are_not_bold(undrawn):
    scores = {name: {"recall@10": 0.0, "ci95": [0.0, 0.0]} for name in ("plum", "dense")}
    part = {"name": "cold", "users": 3, "retrievers": scores}
    markdown = render_report({"slices": [{"group": "popularity of the target", "slices": [part]}]})[1]
    assert row_of(markdown, "cold") == ["cold", "3", "0.0000 (0.000–0.000)", "0.0000 (0.000–0.000)"]


def test_codes_are_told_in_words(full):
    told = full[1][full[1].index("### Semantic IDs") : full[1].index("### Training")]
    for line in (
        "- items with a Semantic ID of their own: 98.3%",
        "- most items on one Semantic ID: 7",
        "- items by the size of the group that shares their Semantic ID: alone 98.3%, with one other 1.0%, of 3–5 0.7%",
        "- group size that 99% of the items do not exceed: 2",
    ):
        assert line in told.splitlines()
    made_of = "#### What Semantic IDs are made of"
    assert row_of(told, "text", after=made_of) == ["text", "384", "1", "90.0%", "0.6100", "-0.0001", "whiten", "12"]
    assert row_of(told, "topics", after=made_of) == ["topics", "19", "2", "100.0%", "–", "–", "centre", "–"]
    assert row_of(told, "2", after="#### What an earlier tokenizer gave") == ["2", "0.7000", "0.7500", "0.6000"]


def test_where_recommendations_fall_is_told_beside_the_catalogue_and_the_targets(full):
    told = full[1][full[1].index("### Where recommendations fall") :]
    assert row_of(told, "catalogue") == ["catalogue", "5.0%", "15.0%", "50.0%", "30.0%"]
    assert row_of(told, "plum") == ["plum", "50.0%", "30.0%", "15.0%", "5.0%"]


def test_a_note_on_tuning_is_a_sentence_without_names_of_settings(undrawn):
    found = {"note": "not searched: hidden_size 64, learning_rate 0.001", "trials": [], "searched": {}, "chosen": {}}
    assert "Not searched: hidden size 64, learning rate 0.001." in render_report({"tuning": {"dense": found}})[1]


def test_reconstruction_stands_beside_residual_kmeans_and_a_ratio_over_one_in_red(undrawn):
    html, markdown = render_report(full_payload())
    where = "What the codes keep of the content"
    assert row_of(markdown, "text", where) == ["text", "0.05", "0.31", "0.4", "0.775"]
    assert row_of(markdown, "topics", where) == ["topics", "0.01", "0.22", "0.2", "**1.100 (!)**"]
    assert '<strong class="bad">1.100</strong>' in html
    assert html.count('class="bad"') == 1
    told = text_of(html)
    assert "2,100 steps; the error of 84 held-out items no longer fell, and was smallest after 1,100" in told
    assert "reconstruction 0.21, quantization 0.12, contrastive 0.04" in told


def test_blends_tell_their_parts_and_the_way_of_the_gap(full):
    html, markdown = full
    assert row_of(markdown, "itemknn", after="#### counting")[1:] == ["0.900", "0.225", "0.675", "12.3%", "17"]
    assert "targets in no list: 1,126 of 2,000" in markdown
    assert "search: 4,096 steps, gap 0.00061" in markdown
    assert "did not converge" not in markdown
    told = "counting: stochastic gap from 1.5 to 0.000366; gap over all users from 2.5 to 0.00061"
    assert told in markdown
    assert f"Gap of {told}" in html
    payload = full_payload()
    payload["blends"]["counting"] |= {"converged": False, "trace": []}
    assert "gap 0.00061; it did not converge" in render_report(payload)[1]
