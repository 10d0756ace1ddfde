import io
import re

import pytest
from rich.console import Console

from plum.report.compare_table import comparison_markdown, comparison_table, comparison_view


def figures(mean, seed_means=()):
    spread = {"seed_means": list(seed_means), "seed_sd": 0.0123 if len(seed_means) > 1 else None}
    return {"mean": mean, "ci95": [mean - 0.01, mean + 0.02], **spread}


def system(name, recall, ndcg, seeds=(0,), retriever=None):
    means = {"recall@10": figures(recall, [recall] * len(seeds)), "ndcg@10": figures(ndcg, [ndcg] * len(seeds))}
    return {"name": name, "retriever": retriever or name, "runs": ["x"], "seeds": list(seeds), "metrics": means}


def entry(metric, other, difference, p_value, p_holm, seed_sd=None):
    ends = [difference - 0.01, difference + 0.01]
    told = {"metric": metric, "a": "plum", "b": other, "difference": difference, "ci95": ends, "p_value": p_value}
    return told | {"p_holm": p_holm, "seeds_paired": seed_sd is not None, "seed_sd": seed_sd}


@pytest.fixture
def result():
    return {
        "protocol": {"split": "leave-one-out", "seen": "filtered", "candidates": 1234},
        "synthetic": False,
        "n_users": 5678,
        "reference": "plum",
        "metrics": ["recall@10", "ndcg@10"],
        "resamples": 2000,
        "runs": [{"name": "x", "folder": "runs/x", "seed": 0}],
        "systems": [
            system("[red]dense|", 0.0859, 0.05),
            system("plum", 0.0648, 0.06, (0, 1, 2)),
            system("optimum", 0.9, 0.9),
        ],
        "comparisons": [
            entry("recall@10", "[red]dense|", -0.0211, 0.0004, 0.0008),
            entry("ndcg@10", "[red]dense|", 0.01, 0.25, 0.25),
        ],
        "lists": {"[red]dense|": {"counts": {}, "explained": ["Lists that *end* early: 3."]}},
        "notes": ["p (Holm) is corrected for 2 tests."],
    }


def printed(value):
    console = Console(width=160, record=True, color_system="truecolor", file=io.StringIO())
    console.print(value)
    return console.export_text(clear=False), console.export_text(styles=True)


def test_the_table_shows_each_system_with_its_test(result):
    text, styled = printed(comparison_table(result))
    _, rule, *lines = text.splitlines()
    assert set(rule) == {"─"}
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines[:3]]
    assert [row[0] for row in cells] == ["[red]dense|", "plum", "optimum"]
    assert cells[0][1:] == [
        "0.0859 [0.076–0.106]",
        "0.0500 [0.040–0.070]",
        "−0.0211 [−0.0311 to −0.0111]",
        "< 0.001",
        "< 0.001",
        "0",
    ]
    assert (len(cells[1]), cells[1][-1]) == (4, "3 (0, 1, 2)")  # no test of the reference against itself
    assert "plum − system, Recall@10" in text
    assert "5,678 users" in text
    bold = [part for part in ("0.0859", "0.0648", "0.0600", "0.0500", "0.9000") if f"\x1b[1m{part}" in styled]
    assert bold == ["0.0859", "0.0600"]  # the best rival of a column, not the bound


def test_below_the_table_stands_what_to_know(result):
    text, _ = printed(comparison_view(result))
    assert "- p (Holm) is corrected for 2 tests." in text
    assert "- [red]dense|: Lists that *end* early: 3." in text


def test_markdown_holds_every_test_and_no_broken_table(result):
    text = comparison_markdown(result)
    assert "| \\[red\\]dense\\| | **0.0859** (0.076–0.106) | 0.0500 (0.040–0.070) | 0 |" in text
    assert "| Recall@10 | \\[red\\]dense\\| | −0.0211 | −0.0311 to −0.0111 | < 0.001 | < 0.001 | – |" in text
    assert "| NDCG@10 | \\[red\\]dense\\| | +0.0100 | 0.0000 to +0.0200 | 0.250 | 0.250 | – |" in text
    assert "| plum | Recall@10 | 0.0123 | 0: 0.0648, 1: 0.0648, 2: 0.0648 |" in text
    assert "- Lists that \\*end\\* early: 3." in text
    assert "- items ranked for every user: 1,234" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {5, 8}
    assert "Synthetic" not in text


def test_what_there_is_nothing_of_is_left_out(result):
    result |= {"comparisons": [], "lists": {}, "notes": [], "systems": [system("plum", 0.1, 0.1)], "synthetic": True}
    text = comparison_markdown(result)
    assert "**Synthetic data.**" in text
    for part in ("## Paired", "## Seeds", "## Notes", "## Lists"):
        assert part not in text
    assert "**0.1" not in text  # nothing to be best among
    assert "synthetic data" in printed(comparison_table(result))[0]


def test_lists_without_anything_odd_say_so(result):
    result["lists"] = {"theirs": {"counts": {}, "explained": []}}
    assert "## Lists of theirs\n\n- No problem was found in them." in comparison_markdown(result)
