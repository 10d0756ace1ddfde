import copy

from full_payload import LEARNT
from markupsafe import Markup
from report_page import EVIL, text_of

from plum.report import drawing
from plum.report.page import render_report
from plum.report.pretraining import pretraining, told

LOG = [
    {"step": 0, "held_out_behaviour_loss": 6.1, "recall@10": 0.01, "sid_to_title_f1": 0.0, "bits_per_character": 1.1},
    {"step": 0, "loss": 6.0},
    {"step": 50, "held_out_behaviour_loss": 2.5, "recall@10": 0.08, "sid_to_title_f1": 0.25, "bits_per_character": 1.4},
]


def report(learnt, log=()):
    return render_report({"learnt": learnt, "curves": {"cpt": list(log)}})


def test_every_figure_stands_beside_its_references():
    html, markdown = report(LEARNT, LOG)
    for form in (text_of(html), markdown):
        for heading in (
            "What pre-training learnt and forgot",
            "Loss on held-out behaviour documents, 12.3K tokens",
            "The next item from a history",
            "From a title to the Semantic ID",
            "From the Semantic ID to text",
            "General text",
            "How far the weights have moved",
        ):
            assert heading in form
    lines = markdown.splitlines()
    assert "| after pre-training | 2.50 | 2.25 | 4.50 | 3 | 1.50 |" in lines
    assert "| counted n-gram | 2.75 | 2.25 | 4.50 | 3 | 1.50 |" in lines
    assert "| popularity | 0.0425 | 0.0200 |" in lines
    assert "| copied from the nearest item | 0.5000 | 0.6000 | 0.5000 | 0.4000 |" in lines
    assert "| before pre-training | 0.0000 | – |" in lines
    assert "| always the usual word | – | 0.0200 |" in lines
    assert "| attention | 1.2M | 12.50 | 3.40% | 1.25% |" in lines


def test_the_course_is_drawn_with_popularity_as_a_level_line():
    section = pretraining(LEARNT, LOG)
    captions = [picture.caption for block in section.blocks if block.kind == "pictures" for picture in block.pictures]
    assert len(captions) == 4
    assert "next item from 0.01 to 0.08; popularity from 0.0425 to 0.0425" in captions[1]
    assert "held-out users from 6.1 to 2.5" in captions[0]


def test_any_part_may_be_missing(monkeypatch):
    monkeypatch.setattr(drawing, "render_panels", lambda *_: Markup("<svg></svg>"))  # pictures take most of the time
    for key in LEARNT:
        learnt = {name: value for name, value in LEARNT.items() if name != key}
        report(learnt, LOG)
        report({key: LEARNT[key]})
    assert not pretraining({}, []).blocks
    assert not pretraining({"losses": {}, "missing": {}}, [{"step": 0, "recall@10": 0.1}]).blocks
    damaged = copy.deepcopy(LEARNT)
    del damaged["title_to_sid"]["after"]["given"]
    damaged["losses"]["behaviour"]["after"] = {}
    report(damaged, [{"loss": 1.0}, {"step": None, "recall@10": 0.1}])


def test_what_could_not_be_measured_is_told_as_text():
    html, markdown = report({"missing": {"losses.behaviour": f"OutOfMemoryError: {EVIL}"}})
    assert "Not measured" in markdown
    assert "<script>" not in html
    assert "<script>" not in markdown


def test_a_terminal_reads_before_and_after_beside_references():
    lines = told(LEARNT)
    assert "loss on held-out behaviour documents: 6.10 -> 2.50 nats a token (counted n-gram 2.75)" in lines
    assert "next item without fine-tuning: 0.0100 -> 0.0800 Recall@10 (popularity 0.0425)" in lines
    assert "Semantic ID to topics: 0.5000 F1 (the same for all 0.3000, copied from the nearest item 0.4500)" in lines
    assert "general text: 1.10 -> 1.40 bits a character" in lines
    assert told({}) == []
