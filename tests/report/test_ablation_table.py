"""The tables of an ablation: what stands in them, on the console and as Markdown."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from plum.report.ablation_table import ablation_markdown, ablation_view


def variant(name: str, **other: Any) -> dict[str, Any]:
    """A variant that ran with three seeds."""
    values = {
        "name": name,
        "settings": ["eval.retrievers=[plum]", f"title={name}"],
        "seeds": [0, 1, 2],
        "missing": [],
        "failed": [],
        "uniqueness": 0.9734,
        "cooccurrence": {"pairs": 1830, "share": [0.1234, 0.0456, 0.01], "random": [0.011, 0.002, 0.0]},
        "validation": 0.1,
        "recall@10": {"mean": 0.0912, "ci95": [0.081, 0.1024], "seed_means": [0.09, 0.0912, 0.0924], "seed_sd": 0.0012},
        "difference": None,
        "seconds": 183.0,
    }
    return values | other


def difference(mean: float) -> dict[str, Any]:
    return {"mean": mean, "ci95": [mean - 0.002, mean + 0.001], "p_value": 0.0004, "p_holm": 0.0312, "seed_sd": 0.0003}


NOTHING = {
    "seeds": [],
    "uniqueness": None,
    "cooccurrence": None,
    "validation": None,
    "recall@10": None,
    "difference": None,
    "seconds": None,
}


def result(*variants: dict[str, Any], **base: Any) -> dict[str, Any]:
    there = {"name": "small", "config": "pipelines/small.yaml", "n_users": 6040, "synthetic": False}
    bases = [there | {"variants": list(variants)} | base]
    return {"title": "Pieces", "metric": "recall@10", "resamples": 2000, "bases": bases}


def shown(values: dict[str, Any]) -> str:
    """What the console shows, lines of a cell joined with blanks; wide enough that nothing is wrapped."""
    out = io.StringIO()
    Console(file=out, width=400).print(ablation_view(values))
    return out.getvalue()


def rows(values: dict[str, Any]) -> dict[str, list[str]]:
    """The cells of the first Markdown table, by what stands in its first column."""
    lines = [line for line in ablation_markdown(values).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
    return {row[0]: row[1:] for row in cells}


def test_a_row_has_the_figures_of_its_variant() -> None:
    values = result(variant("v2"), variant("v1", difference=difference(-0.0104)))
    table = rows(values)
    assert table["variant"] == [
        *(
            "unique SIDs",
            "next items that share 1 code",
            "next items that share 2 codes",
            "validation Recall@10",
            "Recall@10",
        ),
        *("minus v2", "seeds", "time of a run", "p", "p (Holm)", "SD of seeds"),
    ]
    measured = ["97.3%", "12.34% (1.10%)", "4.56% (0.20%)", "0.1000", "0.0912 (0.081–0.102)"]
    assert table["v2"] == [*measured, "", "0, 1, 2", "3 min 03 s", "", "", "0.0012"]
    minus = "−0.0104 (−0.0124 to −0.0094)"
    assert table["v1"] == [*measured, minus, "0, 1, 2", "3 min 03 s", "&lt; 0.001", "0.031", "0.0012"]
    seen = shown(values)
    for text in ("97.3%", "12.34%", "0.0912", "0.081–0.102", "−0.0104", "−0.0124 to −0.0094", "6,040 users"):
        assert text in seen, text


@pytest.mark.parametrize("share", [None, {"pairs": 300, "share": [0.1], "random": [0.0]}])
def test_a_column_without_a_figure_is_left_out(share: dict[str, Any] | None) -> None:
    few = {"pairs": 290, "share": [0.1], "random": [0.0]}  # 29 that agree
    values = result(variant("v2", cooccurrence=share), variant("v1", cooccurrence=None if share else few))
    head = rows(values)["variant"]
    assert [name for name in head if name.startswith("next")] == (["next items that share 1 code"] if share else [])
    assert ("Next items: 300 pairs" in shown(values)) == bool(share)
    assert rows(values)["v1"][1] == ("–" if share else "0.1000")


def test_what_failed_and_what_is_still_to_run_is_told() -> None:
    failed = [{"seed": 1, "reason": "no [space] left", "log": "out/run.log"}]
    values = result(
        variant("v2"),
        variant("part", seeds=[0, 2], missing=[1], failed=failed),
        variant("none", missing=[0, 1, 2], **NOTHING | {"failed": failed}),
        variant("later", missing=[0, 1, 2], **NOTHING),
    )
    table = rows(values)
    assert table["part"][6] == "2 of 3"
    assert table["none"][:9] == ["–", "–", "–", "", "failed", "", "0 of 3", "–", ""]
    assert table["later"][4] == "not run yet"
    told = "part, seed 1 failed: no [space] left; see out/run.log"
    assert told in shown(values)
    assert told.replace("[", "\\[").replace("]", "\\]") in ablation_markdown(values)


def test_names_are_no_markup() -> None:
    values = result(variant("[red]v2[/red] | <b>"))
    assert "[red]v2[/red] | <b>" in shown(values)
    assert "\\[red\\]v2\\[/red\\] \\| &lt;b&gt;" in ablation_markdown(values)


def test_a_base_without_a_run_says_so() -> None:
    values = result(variant("v2", missing=[0], **NOTHING), n_users=None)
    assert "no run has finished" in shown(values)
    assert "no run has finished" in ablation_markdown(values)


def test_made_up_data_are_called_so() -> None:
    assert "synthetic" in shown(result(variant("v2"), synthetic=True))
    assert "**Synthetic data.**" in ablation_markdown(result(variant("v2"), synthetic=True))
    assert "ynthetic" not in ablation_markdown(result(variant("v2")))


def test_seeds_say_what_intervals_are_over() -> None:
    single = variant("v2", seeds=[0])
    assert "says nothing about other seeds" in shown(result(single))
    assert "Means over seeds" not in shown(result(single))
    assert "Means over seeds" in shown(result(variant("v2")))


def test_what_the_variants_are_is_told_apart_from_what_all_share() -> None:
    values = result(variant("v2"), variant("v1", settings=["eval.retrievers=[plum]", "a=`1`"]))
    lines = ablation_markdown(values).splitlines()
    assert "- all: `eval.retrievers=[plum]`" in lines
    assert "- v2: `title=v2`" in lines
    assert "- v1: `a= 1`" in lines or "- v1: `a=1`" in lines


def test_every_base_has_a_table_of_its_own() -> None:
    values = result(variant("v2"))
    values["bases"].append(values["bases"][0] | {"name": "large"})
    text = ablation_markdown(values)
    assert text.index("## small") < text.index("## large")
    assert text.count("| v2 |") == 2
    assert "large" in shown(values)
