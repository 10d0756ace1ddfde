"""Stage eval's blends and hybrid: what they are made of, what is told, and parts that can't be blended."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run

from plum.config.file import load_config
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.evaluation.rankings import Recommendations, top_k
from plum.retrievers.hybrid import CONSTANTS, WEIGHTS
from plum.stages import inputs, pipeline
from plum.stages.eval.combined import combine, first
from plum.stages.eval.field import Field


class Fixed:
    """Gives every user the same scores (N,), whatever the history."""

    def __init__(self, name: str, scores: np.ndarray) -> None:
        self.name, self.asked = name, []
        self._scores = scores

    def recommend(self, histories, k, seen):
        self.asked.append((len(histories), k))
        return top_k(np.tile(self._scores, (len(histories), 1)), k, seen)


def field_of(scores: Mapping[str, np.ndarray]) -> Field:
    return Field({name: Fixed(name, values) for name, values in scores.items()}, {}, {})


def falling(n_items: int) -> np.ndarray:
    return np.arange(n_items, 0, -1.0)


@pytest.fixture
def config(finished_run: Path) -> RunConfig:
    return tiny_run.config_of(finished_run, "eval.blends={own: [popularity, itemknn]}")


@pytest.fixture(scope="module")
def data(finished_run: Path) -> inputs.Prepared:
    return inputs.read_prepared(finished_run)


@pytest.fixture(scope="module")
def metrics(finished_run: Path) -> dict[str, Any]:
    return json.loads((finished_run / "eval/metrics.json").read_text(encoding="utf-8"))


def test_the_blends_of_a_run_are_of_all_that_there_is(metrics: dict[str, Any]) -> None:
    counted = ["popularity", "recencypop", "textknn", "itemknn"]
    assert list(metrics["blends"]) == ["counting", "blend"]
    assert list(metrics["blends"]["counting"]["parts"]) == counted
    assert list(metrics["blends"]["blend"]["parts"]) == [*counted, "dense", "plum"]
    for name, told in metrics["blends"].items():
        weights = {part: values["weight"] for part, values in told["parts"].items()}
        assert sum(weights.values()) == pytest.approx(1)
        for part, values in told["parts"].items():
            assert sum(values["powers"].values()) == pytest.approx(weights[part])
            assert values["depth"] == (10 if part == "plum" else 200)  # plum has ten beams
        assert (told["users"], told["targets"]) == (20, 20)
        assert told["loss"] < told["loss_with_equal_weights"]
        assert told["converged"]
        assert told["trace"][-1] == {"step": told["steps"], "gap": told["gap"]} | {
            "stochastic_gap": told["trace"][-1]["stochastic_gap"]
        }
        assert metrics["tuning"][name]["chosen"] == pytest.approx(weights, abs=1e-4)
        assert "was learnt" not in metrics["tuning"][name]["note"]
        assert "20 validation users; 0 of their 20 targets are in no list" in metrics["tuning"][name]["note"]


def test_what_is_named_is_scored_the_hybrid_and_own_blends_too(run_copy: Path) -> None:
    names = "eval.retrievers=[plum, dense, itemknn, popularity, hybrid, dense+itemknn, blend]"
    config = tiny_run.config_of(run_copy, names, "eval.blends={dense+itemknn: [dense, itemknn]}", "eval.blend_depth=20")
    pipeline.run_eval(config)
    metrics = json.loads((run_copy / "eval/metrics.json").read_text())
    order = ["popularity", "itemknn", "dense", "plum", "hybrid", "dense+itemknn", "blend", "optimum"]
    assert list(metrics["retrievers"]) == order
    assert list(metrics["blends"]["dense+itemknn"]["parts"]) == ["dense", "itemknn"]
    assert list(metrics["blends"]["blend"]["parts"]) == ["popularity", "itemknn", "dense", "plum"]
    assert metrics["blends"]["blend"]["parts"]["dense"]["depth"] == 20
    cost = metrics["efficiency"]
    assert cost["dense+itemknn"] == {name: cost["dense"][name] for name in cost["dense+itemknn"]}
    assert cost["blend"] == cost["hybrid"]
    report = (run_copy / "eval/report.md").read_text()
    assert "Other retrievers, blended: weights learnt on validation users. They are: dense" in report
    tuned = metrics["tuning"]["hybrid"]
    assert tuned["searched"] == {"weight": list(WEIGHTS), "constant": list(CONSTANTS)}
    assert "weight is that of plum" in tuned["note"]
    assert "20 validation users" in tuned["note"]
    lists = pd.read_parquet(run_copy / "eval/recommendations.parquet")
    hybrid_is_its_parts_fused(lists, tuned["chosen"])


def hybrid_is_its_parts_fused(lists: pd.DataFrame, chosen: Mapping[str, float]) -> None:
    weights = {"plum": chosen["weight"], "dense": 1 - chosen["weight"]}
    parts = lists[lists["retriever"].isin(weights)]
    worth = parts["retriever"].map(weights) / (chosen["constant"] + parts["rank"])
    fused = parts.assign(worth=worth).groupby(["user_id", "item_id"])["worth"].sum()
    for user, found in lists[lists["retriever"] == "hybrid"].groupby("user_id"):
        scores = fused[user]
        expected = scores[scores > 0].sort_values(ascending=False).to_numpy()[:10]
        np.testing.assert_allclose(found["score"].to_numpy(), expected[: len(found)], rtol=1e-5)


def test_parts_are_asked_once_and_to_their_depth(config: RunConfig, data: inputs.Prepared) -> None:
    n = len(data.items)
    field = field_of({"popularity": falling(n), "itemknn": falling(n)[::-1], "plum": falling(n)})
    made = combine(config, data, field)
    assert {name: part.asked for name, part in field.retrievers.items()} == {
        "popularity": [(20, 200)],
        "itemknn": [(20, 200)],
        "plum": [(20, 10)],
    }
    assert list(made.blends) == ["counting", "own", "blend"]
    assert made.blends["own"][1].tolist() == made.blends["counting"][1].tolist()


def test_a_part_that_lists_nothing_is_told_and_gets_next_to_no_weight(
    config: RunConfig, data: inputs.Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    n = len(data.items)
    field = field_of({"popularity": falling(n), "itemknn": np.full(n, -np.inf), "textknn": np.full(n, 0.5)})
    with caplog.at_level(logging.WARNING, "plum"):
        made = combine(config, data, field)
    assert "itemknn lists nothing for any of 20 validation users" in caplog.text
    assert "textknn gives all items of a list the same score, for all 20 validation users" in caplog.text
    assert "popularity" not in caplog.text
    told = made.told["own"]["parts"]["itemknn"]
    assert told["weight"] == pytest.approx(0.005)
    assert (told["users_without_list"], told["targets_listed"]) == (20, 0)
    assert made.told["counting"]["parts"]["textknn"]["users_with_equal_scores"] == 20


@pytest.mark.parametrize("scores", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(config: RunConfig, data: inputs.Prepared, scores: float) -> None:
    n = len(data.items)
    broken = falling(n)
    broken[0] = scores
    with pytest.raises(PlumError, match="itemknn can't rank the items") as caught:
        combine(config, data, field_of({"popularity": falling(n), "itemknn": broken}))
    assert "leave itemknn out of eval.retrievers" in str(caught.value)


def test_a_blend_without_two_of_its_parts_is_left_out_with_the_reason(
    config: RunConfig, data: inputs.Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    n = len(data.items)
    field = field_of({"popularity": falling(n), "plum": falling(n)})
    field.left_out["itemknn"] = "the log is too short"
    with caplog.at_level(logging.WARNING, "plum"):
        made = combine(config, data, field)
    assert list(made.blends) == ["blend"]
    assert "blend own goes without its part itemknn: the log is too short" in caplog.text
    assert field.left_out["own"] == "a blend needs two parts, and of popularity, itemknn this run has popularity"
    assert field.left_out["counting"].endswith("this run has popularity")
    assert set(field.tuning) == {"blend"}


@pytest.mark.parametrize("known", [True, False])
def test_without_a_listed_target_there_is_no_blend(
    config: RunConfig, data: inputs.Prepared, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    users, histories, targets = inputs.validation_sample(data, 20, 0)
    asked = (users, histories, targets) if known else (users[:0], [], [])
    monkeypatch.setattr(inputs, "validation_sample", lambda *_: asked)
    n = len(data.items)
    field = field_of({"popularity": np.full(n, -np.inf), "itemknn": np.full(n, -np.inf)})
    made = combine(config, data, field)
    assert made.blends == made.told == field.tuning == {}
    assert field.left_out["own"].startswith(f"none of the {20 * known} validation targets is in a list")


def test_the_first_entries_of_lists_are_cut() -> None:
    found = Recommendations(np.array([[3, 2, 1]]), np.array([[3, 2, 1]], np.float32))
    assert first(found, 2).items.tolist() == [[3, 2]]
    assert first(found, 9) is found


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["eval.blends={own: [dense]}"], "blend own needs two or more parts, found 1"),
        (["eval.blends={own: []}"], "blend own needs two or more parts, found 0"),
        (["eval.blends={own: [dense, dense, plum]}"], "blend own names a part twice"),
        (["eval.blends={own: [dense, bm25]}"], "unknown part 'bm25'; known here: popularity"),
        (["eval.blends={own: [dense, itemkn]}"], "unknown part 'itemkn'; did you mean itemknn?"),
        (["eval.blends={own: [dense, counting]}"], "can't have counting as a part, which is a combination itself"),
        (["eval.blends={own: [dense, hybrid]}"], "can't have hybrid as a part"),
        (["eval.blends={own: [dense, plum], b: [own, plum]}"], "blend b can't have own as a part"),
        (["eval.blends={own: [dense, optimum]}"], "unknown part 'optimum'"),
        (["eval.blends={dense: [itemknn, plum]}"], "a blend can't be called dense"),
        (["eval.blends={Own Blend: [itemknn, plum]}"], "the name of a blend is of small letters"),
        (["eval.blends={own: [lem, plum]}"], "blend own names lem, which needs a section eval.lem"),
        (["eval.retrievers=[plum, own]", "eval.blends={own: [itemknn, plum]}"], "has the part itemknn, which is not"),
        (["eval.retrievers=[plum, counting]"], "counting blends two or more of the other retrievers"),
        (["eval.retrievers=[plum, blend]"], "blend blends two or more of the other retrievers, named with it: plum"),
        (["eval.retrievers=[plum, own]"], "there is no retriever 'own'"),
        (["eval.blend_depth=5"], "eval.blend_depth"),
    ],
)
def test_a_mistake_in_a_blend_is_told(tmp_path: Path, settings: list[str], told: str) -> None:
    path = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    with pytest.raises(PlumError) as caught:
        load_config(path, settings)
    assert told in str(caught.value)


def test_a_blend_that_is_not_scored_does_not_need_its_parts(tmp_path: Path) -> None:
    path = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run"))
    config = load_config(path, ["eval.retrievers=[plum, itemknn]", "eval.blends={own: [dense, plum]}"])
    assert config.eval.blended == {}
    assert load_config(path, ["eval.blends={counting: [textknn, itemknn]}"]).eval.blended["counting"] == (
        "textknn",
        "itemknn",
    )
