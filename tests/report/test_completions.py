from report_page import EVIL

from plum.report.completions import completions_page

SHOT = {"lines": ["Item <|sid_0_1|> has title: Heat", "Item <|sid_0_2|> has title:"], "completion": "Ran"}


def test_prompts_completions_and_truths_are_told():
    page = completions_page([{**SHOT, "truth": "Ran (1985)", "copied": "Heat"}])
    assert "\n    Item <|sid_0_1|> has title: Heat\n    Item <|sid_0_2|> has title:\n" in page
    assert page.endswith("- model: Ran\n- truth: Ran (1985)\n- nearest item: Heat\n")


def test_texts_cannot_become_markup_or_leave_their_line():
    hostile = ["# Title", "```", "\n\n## Not a heading", "- a list", "\x1b[2J", "> quote", EVIL]
    for text in hostile:
        page = completions_page([{"lines": [text], "completion": text, "truth": text, "copied": ""}])
        body = page.split("## Prompt 1\n\n")[1].splitlines()
        prompt, blank, model, truth, copied = body
        assert prompt.startswith("    ")
        assert blank == ""
        assert model.removeprefix("- model: ") == truth.removeprefix("- truth: ")
        assert model.startswith("- model: ")
        assert truth.startswith("- truth: ")
        assert copied == "- nearest item: –"
        assert "\x1b" not in page
        assert "<script>" not in model


def test_without_prompts_the_page_says_so():
    assert "No held-out item has a text" in completions_page([])
