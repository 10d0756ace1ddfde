import copy
import io
import itertools
import re

import pytest
from full_payload import full_report
from hypothesis import given, settings
from hypothesis import strategies as st
from report_page import EVIL, Page
from rich.console import Console

from plum.report import conditions, wording
from plum.report.console import console_table
from plum.report.page import render_report


def example_payload():
    retrievers = {
        "popularity": {"recall@1": 0.02, "recall@10": 0.08, "ndcg@10": 0.04, "coverage@10": 0.05},
        "dense": {"recall@1": 0.04, "recall@10": 0.15, "ndcg@10": 0.08, "coverage@10": 0.4},
        "plum": {"recall@1": 0.05, "recall@10": 0.2, "ndcg@10": 0.07, "coverage@10": 0.3},
    }
    intervals = {
        name: {metric: [value - 0.01, value + 0.01] for metric, value in values.items() if "cov" not in metric}
        for name, values in retrievers.items()
    }
    comparisons = [
        {"metric": "recall@10", "a": "plum", "b": "dense", "difference": 0.05, "ci95": [0.03, 0.07], "p_value": 0.0005},
        {"metric": "ndcg@10", "a": "plum", "b": "dense", "difference": -0.01, "ci95": [-0.03, 0.01], "p_value": 0.4},
    ]
    return {
        "title": "Small run",
        "synthetic": True,
        "protocol": {"split": "leave-one-out", "seen": "filtered", "beam_width": 50},
        "n_users": 1234,
        "retrievers": retrievers,
        "intervals": intervals,
        "comparisons": comparisons,
        "data": {"users": 1234, "items": 5678},
        "quality": {
            "uniqueness": 0.98,
            "max_items_per_sid": 3,
            "levels": [
                {"size": 256, "usage": 1.0, "perplexity": 220.5},
                {"size": 64, "usage": 0.5, "perplexity": 20.0},
            ],
        },
        "curves": {
            "cpt": [{"step": step, "loss": 5.0 / (step + 1)} for step in range(1000)],
            "finetune": [{"step": step, "loss": 3.0 - step, "recall@10": 0.1 * step} for step in range(3)],
        },
        "examples": [
            {
                "user_id": "u7",
                "history": ["Alien", EVIL],
                "target": EVIL,
                "recommendations": {"plum": [{"title": EVIL, "hit": True}, {"title": None, "hit": False}], "dense": []},
            }
        ],
        "reproduce": ["plum run --config a.yaml\nrm -rf <x>", "plum eval"],
        "versions": {"plum": "0.1.0"},
        "timings": {"cpt": {"seconds": 200.0, "peak_mib": 1536.4}, "eval": {"seconds": 0.5}},
    }


@pytest.fixture(scope="module")
def rendered():
    return render_report(example_payload())


@pytest.fixture(scope="module", params=[lambda: render_report(example_payload()), full_report], ids=["small", "full"])
def either(request):
    return request.param()


@pytest.fixture(scope="module")
def page(rendered):
    return Page(rendered[0])


def test_every_tag_is_closed_in_order(either):
    assert Page(either[0]).open == []


def test_the_page_needs_nothing_from_elsewhere(either):
    html, page = either[0], Page(either[0])
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "image"}
    assert "@import" not in html
    assert "<metadata" not in html
    for _, attributes in page.tags:
        assert "src" not in attributes
        for key in ("href", "xlink:href"):
            assert attributes.get(key, "#").startswith("#")
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_ids_are_unique_and_references_lead_somewhere(either):
    page = Page(either[0])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [v[1:] for _, a in page.tags for key, v in a.items() if key.endswith("href")]
    targets += re.findall(r"url\(#([^)]+)\)", either[0])
    assert targets
    assert set(targets) <= set(ids)


def test_headings_descend_one_level_at_a_time_from_a_single_first(either):
    page = Page(either[0])
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_pictures_say_what_they_show(page):
    labels = [attributes.get("aria-label", "") for tag, attributes in page.tags if tag == "svg"]
    assert len(labels) == 5  # recall, differences, codebook, pre-training, fine-tuning
    assert any("plum 0.050 at 1, 0.200 at 10" in label for label in labels)
    assert any("level 1: 50.0% of 64 codes, perplexity 20.0" in label for label in labels)
    assert all(a.get("role") == "img" for tag, a in page.tags if tag == "svg")


def test_tables_scroll_in_their_own_box(either):
    page = Page(either[0])
    tables = sum(tag == "table" for tag, _ in page.tags)
    boxes = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert len(boxes) == tables
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)


def test_everything_foreign_is_shown_as_text(rendered, page):
    html, markdown = rendered
    assert "<script" not in html
    assert page.text.count(EVIL) == 3
    assert "<script" not in markdown
    assert wording.escape_markdown(EVIL) in markdown
    assert "    plum run --config a.yaml rm -rf <x>\n    plum eval\n" in markdown


def test_names_inside_pictures_are_escaped_and_ids_survive_them():
    payload = {"retrievers": {EVIL: {"recall@1": 0.1, "recall@10": 0.2}, "$x$": {"recall@1": 0.1, "recall@10": 0.3}}}
    html, _ = render_report(payload)
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    picture = Page(html[html.index("<svg") : html.index("</svg>")])
    assert EVIL in picture.text
    assert "$x$" in picture.text


def test_same_payload_same_bytes(rendered):
    assert render_report(copy.deepcopy(example_payload())) == rendered


def test_the_best_of_a_column_is_bold(rendered):
    html, markdown = rendered
    assert "<strong>0.2000</strong><small>0.190–0.210</small>" in html
    assert "<strong>0.0800</strong>" in html  # dense by NDCG, not popularity by recall
    assert "| dense | **0.0800** (0.070–0.090) |" in markdown
    assert "| plum | 0.0700 (0.060–0.080) |" in markdown


def test_the_headline_says_who_wins_and_how_sure_that_is(rendered, page):
    text = (
        "plum is ahead of dense, the best of the others. Recall@10 is 0.2000 (0.190–0.210) for plum and 0.1500 "
        "(0.140–0.160) for dense on 1,234 users: a difference of +0.0500 (95% interval +0.0300 to +0.0700, p < 0.001)."
    )
    assert text in " ".join(page.text.split())
    assert text.split(". ")[0] in rendered[1]


def headline_of(payload, combined=()):
    arguments = (payload.get(key, {}) for key in ("retrievers", "intervals"))
    asked = (*arguments, payload.get("comparisons", []), payload.get("n_users"), "plum", combined)
    return " ".join(wording.headline(*asked, taught=payload.get("taught_by_trials", False)))


def test_the_headline_admits_a_loss_and_a_tie():
    payload = example_payload()
    payload["retrievers"]["plum"]["recall@10"] = 0.1
    payload["comparisons"][0] |= {"difference": -0.05, "ci95": [-0.07, -0.03]}
    assert headline_of(payload).startswith("dense is ahead of plum. Recall@10 is 0.1000")
    assert "a difference of −0.0500 (95% interval −0.0700 to −0.0300" in headline_of(payload)
    payload["comparisons"][0] |= {"difference": -0.01, "ci95": [-0.03, 0.01], "p_value": 0.3}
    assert headline_of(payload).startswith("plum and dense, the best of the others, cannot be told apart.")


def test_where_plum_learnt_from_several_the_headline_compares_it_with_their_mean():
    payload = example_payload()
    taught = payload["retrievers"] | {"dense-mean": {"recall@10": 0.14}}
    payload["retrievers"] = taught
    payload["taught_by_trials"] = True
    entry = payload["comparisons"][0] | {"b": "dense-mean", "difference": 0.06, "ci95": [0.04, 0.08]}
    payload["comparisons"].append(entry)
    assert headline_of(payload).startswith("plum is ahead of dense-mean, the mean of its teachers. Recall@10 is 0.2000")
    assert "a difference of +0.0600" in headline_of(payload)
    taught["itemknn"] = {"recall@10": 0.3}
    assert "teachers. itemknn has the highest Recall@10, 0.3000. Recall@10 is 0.2000" in headline_of(payload)
    entry |= {"difference": -0.06, "ci95": [-0.08, -0.04]}
    assert headline_of(payload).startswith("dense-mean, the mean of plum's teachers, is ahead of plum.")
    entry |= {"ci95": [-0.08, 0.04]}
    assert headline_of(payload).startswith("plum and dense-mean, the mean of its teachers, cannot be told apart.")
    payload["taught_by_trials"] = False  # trials that taught nothing are a retriever as any other
    del taught["itemknn"]
    taught["dense-mean"] = {"recall@10": 0.3}
    assert headline_of(payload).startswith("plum and dense-mean, the best of the others, cannot be told apart.")


def test_a_lead_needs_the_adjusted_p_value_and_the_interval():
    entry = {"a": "plum", "b": "dense", "ci95": [0.01, 0.03]}
    assert wording.reading(entry) == "plum ahead"
    assert wording.reading(entry | {"p_holm": 0.049}) == "plum ahead"
    assert wording.reading(entry | {"p_holm": 0.05}) == "no clear difference"
    assert wording.reading(entry | {"ci95": [-0.01, 0.03], "p_holm": 0.001}) == "no clear difference"
    assert wording.reading(entry | {"ci95": [-0.03, -0.01], "p_holm": 0.001}) == "dense ahead"


def test_the_headline_follows_the_adjusted_p_value():
    payload = example_payload()
    payload["comparisons"][0] |= {"p_value": 0.03, "p_holm": 0.06}
    assert headline_of(payload).startswith("plum and dense, the best of the others, cannot be told apart.")
    assert "p (Holm) = 0.060" in headline_of(payload)
    payload["comparisons"][0] |= {"p_holm": 0.0001}
    assert headline_of(payload).startswith("plum is ahead of dense")
    assert "p (Holm) < 0.001" in headline_of(payload)


def test_the_headline_claims_nothing_untested():
    payload = example_payload()
    payload["comparisons"] = []
    assert headline_of(payload).startswith("plum has the highest Recall@10; its lead over dense was not tested.")
    payload["retrievers"] = {"plum": {"recall@5": 0.25}}
    assert headline_of(payload).strip() == "Recall@5 of plum is 0.2500 on 1,234 users."
    assert headline_of({}).strip() == ""


def test_the_fusion_is_no_rival_of_its_part():
    payload = example_payload()
    payload["comparisons"].append({"metric": "recall@10", "a": "plum", "b": "hybrid", "difference": 0.0})
    alone = headline_of(payload)
    payload["retrievers"]["hybrid"] = {"recall@10": 0.19}
    assert headline_of(payload) == alone  # behind plum: nothing to say
    payload["retrievers"]["hybrid"] = {"recall@10": 0.25}
    assert alone.startswith("plum is ahead of dense")
    assert headline_of(payload) == alone + " Fused with dense (hybrid) it reaches 0.2500."
    payload["comparisons"] = []
    assert headline_of(payload).startswith("plum has the highest Recall@10 but for hybrid; its lead over dense was")
    payload["retrievers"]["plum"]["recall@10"] = 0.1
    payload["retrievers"]["hybrid"] = {"recall@10": 0.12}
    assert "hybrid" not in headline_of(payload)  # ahead of plum alone, behind dense


def test_a_blend_that_holds_plum_is_no_rival_and_one_that_does_not_is():
    payload = example_payload()
    alone, reached = headline_of(payload), " Blended with other retrievers (blend) it reaches 0.3000."
    payload["retrievers"]["blend"] = {"recall@10": 0.3}
    payload["blends"] = {
        "counting": {"parts": {"popularity": {}, "itemknn": {}}},
        "blend": {"parts": {"itemknn": {}, "plum": {}}},
    }
    assert headline_of(payload, ["blend"]) == alone + reached
    assert "**plum is ahead of dense" in render_report(payload)[1]
    payload["retrievers"]["hybrid"] = {"recall@10": 0.25}
    assert headline_of(payload, ["blend"]) == alone + reached  # the best of those that hold plum
    payload["retrievers"]["counting"] = {"recall@10": 0.4}
    assert "**counting has the highest Recall@10; its lead over plum was not tested." in render_report(payload)[1]


def test_protocol_is_put_into_words(page):
    assert "each user's last item is the test target" in page.text
    assert "No retriever recommends items of the user's history" in page.text
    assert "beam width" in page.text


def test_hit_rate_is_left_out_only_where_it_repeats_recall():
    payload = {"retrievers": {"plum": {"recall@5": 0.2, "hit@5": 0.2}, "dense": {"recall@5": 0.1, "hit@5": 0.1}}}
    assert "Hit rate@5" not in render_report(payload)[1]
    payload["retrievers"]["dense"]["hit@5"] = 0.15
    assert "Hit rate@5" in render_report(payload)[1]


def test_nothing_at_all_is_still_a_page():
    html, markdown = render_report({})
    assert Page(html).text.count("Evaluation report") == 2  # title and heading
    assert markdown.startswith("# Evaluation report\n")


def test_holes_inside_parts_do_no_harm():
    payload = {
        "retrievers": {"plum": {"recall@10": float("nan"), "recall@5": None, "novelty@10": 3}, "dense": {}},
        "intervals": {"plum": {"recall@10": [None, 0.2]}},
        "comparisons": [{"metric": "recall@10", "a": "plum", "b": "dense", "difference": None}],
        "quality": {"levels": [{"size": 4}]},
        "curves": {"cpt": [], "finetune": [{"loss": 1.0}, {"step": 1, "loss": None, "epoch": 0.1}]},
        "examples": [{}],
        "timings": {"cpt": {}, "eval": {"seconds": None}},
    }
    html, _ = render_report(payload)
    assert "nan" not in Page(html).text


def test_long_logs_are_thinned_but_keep_their_ends(rendered):
    assert "training loss from 5 to 0.005, over 999 steps" in rendered[0]
    assert len(rendered[0]) < 200_000


def test_nothing_is_best_where_nobody_has_anything_or_all_have_the_same():
    values = {"a": {"recall@10": 0.0}, "b": {"recall@10": 0.0}, "optimum": {"recall@10": 0.5}}
    assert wording.best_of(values, "recall@10") == set()
    same = {"a": {"recall@10": 0.5}, "b": {"recall@10": 0.5}}
    assert wording.best_of(same, "recall@10") == set()
    assert wording.best_of({**same, "c": {"recall@10": 0.4}}, "recall@10") == {"a", "b"}


def test_console_table_shows_retrievers_with_intervals():
    console = Console(width=120, file=io.StringIO(), color_system=None)
    payload = example_payload()
    payload["retrievers"]["[red]x"] = {"recall@10": 0.01}
    console.print(console_table(payload))
    text = console.file.getvalue()
    for expected in ("Recall@10", "NDCG@10", "0.2000 [0.190–0.210]", "[red]x", "1,234 users", "synthetic data"):
        assert expected in text
    best_first = [text.index(name) for name in ("plum", "dense", "popularity", "[red]x")]
    assert best_first == sorted(best_first)


def test_console_table_of_nothing():
    assert console_table({}).row_count == 0


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: wording.duration(0.423), "0.42 s"),
        (lambda: wording.duration(59.99), "1 min 00 s"),
        (lambda: wording.duration(200), "3 min 20 s"),
        (lambda: wording.duration(7500), "2 h 05 min"),
        (lambda: wording.duration(None), "–"),
        (lambda: wording.signed(-0.00004), "0.0000"),
        (lambda: wording.signed(0.5), "+0.5000"),
        (lambda: wording.p_text(0.0005), "< 0.001"),
        (lambda: wording.p_text(1), "1.000"),
        (lambda: wording.value_text(1234), "1,234"),
        (lambda: wording.value_text(1.0), "1.0000"),
        (lambda: wording.value_text(9.876), "9.88"),
        (lambda: wording.plain({"a_sid": True, "b": [1, 2000]}), "a SID: yes; b: 1, 2,000"),
        (lambda: wording.plain(0.1 + 0.2), "0.3"),
        (lambda: wording.label_of("cold_recall@10"), "Cold recall@10"),
        (lambda: wording.label_of("gini@10"), "Gini index@10"),
        (lambda: wording.label_of("prefix_recall_1@10"), "Prefix recall 1@10"),
        (lambda: wording.explain("prefix_recall_1@10") == wording.explain("prefix_recall_0@5") != "", True),
        (lambda: wording.human_count(950), "950"),
        (lambda: wording.human_count(999_600), "1M"),
        (lambda: wording.human_count(1_234_567), "1.23M"),
        (lambda: wording.human_count(3.5e9), "3.5B"),
        (lambda: wording.human_count(None), "–"),
        (lambda: wording.flops_text(3.4e12), "3.4 TFLOP"),
        (lambda: wording.flops_text(2.5e17), "250 PFLOP"),
        (lambda: wording.flops_text(0), "0"),
        (lambda: len(conditions.explain_protocol({"ties in time": "keep"})["sentences"]), 1),
        (lambda: len(conditions.explain_protocol({"ties in time": "shuffle", "seed": 0})["sentences"]), 1),
        (lambda: "seed of the split" in conditions.explain_protocol({"ties in time": "shuffle"})["sentences"][0], True),
        (lambda: wording.escape_markdown("3. a\n- b|c"), "3\\. a - b\\|c"),
        (lambda: wording.escape_markdown("- b"), "\\- b"),
    ],
)
def test_wording(call, expected):
    assert call() == expected


@settings(deadline=None, max_examples=25)
@given(st.text(max_size=40))
def test_any_title_is_shown_as_itself(title):
    payload = {"examples": [{"user_id": "1", "target": title, "recommendations": {"plum": [{"title": title}]}}]}
    html, markdown = render_report(payload)
    page = Page(html)
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "h3", "h4", "h5", "p", "div"),
        *("details", "summary", "article", "span", "strong", "ol", "li"),
    }
    body = markdown[markdown.index("### Examples") :]
    assert "<" not in body
    assert body.count("\n- ") == 2  # target and list: no title opens a line of its own
