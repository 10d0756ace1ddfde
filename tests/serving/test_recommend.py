"""Requests to a finished run from Python, and the ways of searching."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
import torch
from sealed import seal
from transformers import PreTrainedModel

from plum.decoding.processor import SidLogitsProcessor
from plum.errors import PlumError
from plum.serving.recommend import Recommender, Request


@pytest.fixture(scope="module")
def recommender(finished_run: Path) -> Recommender:
    return Recommender.open(finished_run)


def test_the_model_is_loaded_once(recommender: Recommender) -> None:
    first = recommender.for_user("u00001", Request(k=5))
    retriever = recommender.retriever()
    assert recommender.for_user("u00001", Request(k=5)) == first
    assert recommender.retriever() is retriever
    assert len(first.items) == 5


def test_exact_search_finds_what_a_beam_over_everything_finds(recommender: Recommender) -> None:
    exact = recommender.for_user("u00003", Request(k=58, search="exact"))
    beam = recommender.for_user("u00003", Request(k=58))
    assert [item.item_id for item in exact.items] == [item.item_id for item in beam.items]
    np.testing.assert_allclose([i.score for i in exact.items], [i.score for i in beam.items], atol=1e-4)


def test_a_drawn_list_is_repeated_by_the_seed(finished_run: Path) -> None:
    config = tiny_run.config_of(finished_run)
    drawn = [Recommender(config).for_user("u00001", Request(k=8, search="sample")) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert len({item.item_id for item in drawn[0].items}) == 8


def test_no_more_than_asked_for_share_a_first_code(recommender: Recommender, finished_run: Path) -> None:
    codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet").set_index("item_id")["code_0"]
    free = recommender.for_user("u00001", Request(k=10))
    assert max(Counter(codes[item.item_id] for item in free.items).values()) > 1
    spread = recommender.for_user("u00001", Request(k=10, max_per_code=1))
    assert max(Counter(codes[item.item_id] for item in spread.items).values()) == 1
    assert spread.items[0] == free.items[0]
    with pytest.raises(PlumError, match="not support a quota"):
        recommender.for_user("u00001", Request(search="exact", max_per_code=1))


def test_a_quota_that_leaves_too_few_says_so(recommender: Recommender, finished_run: Path) -> None:
    n_codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet")["code_0"].nunique()
    answer = recommender.for_user("u00001", Request(k=40, max_per_code=1))
    assert len(answer.items) <= n_codes
    assert answer.note is not None
    assert "at most 1 with the same first code" in answer.note.casefold()


@pytest.mark.parametrize("quota", [1, 2])
def test_a_list_that_its_quota_keeps_short_is_not_laid_to_the_beams(finished_run: Path, quota: int) -> None:
    wide = Recommender(tiny_run.config_of(finished_run, "eval.beams=200"))
    request = Request(k=58, max_per_code=quota)
    answer = wide.for_user("u00001", request)
    codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet").set_index("item_id")["code_0"]
    everything = {item.item_id for item in wide.for_user("u00001", Request(k=58)).items}
    reachable = int(codes[list(everything)].value_counts().clip(upper=quota).sum())
    assert len(answer.items) == reachable < answer.legal_items == len(everything)
    assert answer.note == (
        f"At most {quota} with the same first code leaves {reachable} of {answer.legal_items} legal items."
    )


def test_beams_are_named_where_they_miss_what_the_quota_leaves(finished_run: Path) -> None:
    narrow = Recommender(tiny_run.config_of(finished_run, "eval.beams=[2, 2, 10]"))
    answer = narrow.for_user("u00001", Request(k=8, max_per_code=1))
    assert answer.note is not None
    assert len(answer.items) == 2
    assert re.fullmatch(
        r"The search found 2 of \d+ legal items \(at most 1 with the same first code\); "
        r"wider eval\.beams find more\.",
        answer.note,
    )
    free = narrow.for_user("u00001", Request(k=40))
    assert free.note == (
        f"The search found {len(free.items)} of {free.legal_items} legal items; wider eval.beams find more."
    )
    wide = Recommender(tiny_run.config_of(finished_run, "eval.beams=[60, 60, 60]"))
    assert len(wide.for_user("u00001", Request(k=40)).items) == 40


def test_beams_are_not_named_for_a_drawn_list(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far a draw looks depends on its length alone."""
    monkeypatch.setattr(recommender, "_decode", lambda *_: [(3, -1.0)])
    answer = recommender.for_user("u00001", Request(k=5, search="sample", max_per_code=1))
    assert answer.note is not None
    assert answer.note.endswith("(at most 1 with the same first code); a larger --k finds more.")


def test_only_the_rows_asked_for_are_looked_up(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue may hold millions of titles."""
    expected = recommender.for_user("u00001", Request(k=5))
    lengths = []

    def watched(name: str) -> Callable[[pd.Series], Any]:
        original = getattr(pd.Series, name)

        def call(series: pd.Series) -> Any:
            lengths.append(len(series))
            return original(series)

        return call

    for name in ("__iter__", "tolist"):
        monkeypatch.setattr(pd.Series, name, watched(name))
    assert recommender.for_user("u00001", Request(k=5)) == expected
    assert max(lengths) < 60


@pytest.mark.parametrize("request_of", [{"k": 0}, {"k": -1}, {"max_per_code": 0}], ids=str)
def test_numbers_that_mean_nothing_are_told_before_the_model_is_loaded(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, request_of: dict[str, int]
) -> None:
    fresh = Recommender.open(finished_run)
    monkeypatch.setattr(fresh, "retriever", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(PlumError, match="must be at least 1"):
        fresh.for_user("u00001", Request(**request_of))


def test_the_scores_are_over_what_the_configuration_says(recommender: Recommender, finished_run: Path) -> None:
    found = {"codes": recommender.for_user("u00001", Request(k=58, search="exact"))}
    for over in ("legal", "vocabulary"):
        config = tiny_run.config_of(finished_run, f"eval.scores_over={over}")
        found[over] = Recommender(config).for_user("u00001", Request(k=58, search="exact"))
    score = {over: {item.item_id: item.score for item in answer.items} for over, answer in found.items()}
    assert len(score["codes"]) == found["codes"].legal_items
    for item, value in score["codes"].items():
        assert score["vocabulary"][item] < value < score["legal"][item]
    assert sum(np.exp(list(score["legal"].values()))) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("beams", ["23", "[7, 11, 13]"])
def test_the_beams_are_as_wide_as_the_configuration_says(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, beams: str
) -> None:
    from plum.retrievers import generative

    original, widths = generative.beam_search, []

    def search(*arguments: Any, **options: Any) -> Any:
        widths.append(inspect.signature(original).bind(*arguments, **options).arguments["widths"])
        return original(*arguments, **options)

    monkeypatch.setattr(generative, "beam_search", search)
    Recommender(tiny_run.config_of(finished_run, f"eval.beams={beams}")).for_user("u00001", Request(k=5))
    assert widths == [json.loads(beams)]


def test_the_command_line_offers_the_same(cli: Callable[..., tuple[int, str, str]], finished_run: Path) -> None:
    listed = {}
    for options in ((), ("--search", "exact"), ("--search", "sample"), ("--max-per-code", 1)):
        code, out, err = cli("recommend", "--workdir", finished_run, "--user", "u00001", "--k", 5, "--json", *options)
        assert code == 0, err
        listed[options] = [item["item_id"] for item in json.loads(out)["recommendations"]]
    assert listed[()] == listed["--search", "exact"]
    assert len({tuple(items) for items in listed.values()}) > 1
    ask = ("recommend", "--workdir", finished_run, "--user", "u00001", "--k", 5, "--search", "sample")
    seeded = [json.loads(cli(*ask, "--json", "--seed", seed)[1])["recommendations"] for seed in (0, 1, 2)]
    assert [item["item_id"] for item in seeded[0]] == listed["--search", "sample"]  # 0 is the run's own
    assert len({tuple(item["item_id"] for item in items) for items in seeded}) > 1
    assert "score + noise" in cli(*ask)[1]
    assert "noise" not in cli(*ask[:-2])[1]
    code, _, err = cli("recommend", "--workdir", finished_run, "--user", "u00001", "--search", "best")
    assert code == 2
    assert "'best' is not one of" in err


def test_json_tells_why_a_list_is_short(cli: Callable[..., tuple[int, str, str]], finished_run: Path) -> None:
    ask = ("recommend", "--workdir", finished_run, "--user", "u00001", "--json")
    assert json.loads(cli(*ask, "--k", 5)[1])["note"] is None
    short = json.loads(cli(*ask, "--k", 60)[1])
    assert short["note"] == f"{short['legal_items']} items of the catalogue are not in the history."


def test_a_code_that_is_no_number_is_told(cli: Callable[..., tuple[int, str, str]], run_copy: Path) -> None:
    path = run_copy / "tokenize/semantic_ids.parquet"
    table = pd.read_parquet(path).astype({"code_1": "float64"})
    table.loc[3, "code_1"] = None
    table.to_parquet(path)
    seal(run_copy)
    code, _, err = cli("recommend", "--workdir", run_copy, "--user", "u00001")
    assert (code, "Traceback" in err) == (2, False)
    assert "semantic_ids.parquet: 1 items with codes that are no whole numbers" in err
    assert "level 1" in err


def test_generate_is_led_by_the_run_s_index(recommender: Recommender) -> None:
    """As docs/decoding.md shows it."""
    plum = recommender.retriever()
    assert isinstance(plum.model, PreTrainedModel)
    history = np.array([3, 5, 8])
    prompt = torch.from_numpy(plum.prompt(history))[None]
    allowed = np.arange(60) % 2 == 0
    legal = plum.index.legal([plum.index.prune(allowed)], seen=[history])
    levels = len(plum.index.sizes)
    found = plum.model.generate(
        prompt,
        logits_processor=[SidLogitsProcessor(plum.index, prompt_length=prompt.shape[1], legal=legal)],
        max_new_tokens=levels,
        num_beams=5,
        num_return_sequences=5,
        do_sample=False,
        length_penalty=0.0,
        eos_token_id=None,
    )
    items = [tuple(row) for row in found[:, prompt.shape[1] :].tolist()]
    known = {tuple(tokens): row for row, tokens in enumerate(plum._item_tokens.tolist())}
    rows = [known[item] for item in items]
    assert all(row % 2 == 0 and row not in history for row in rows)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match="no run in"):
        Recommender.open(tmp_path)


def test_beam_widths_must_fit_the_levels(finished_run: Path) -> None:
    narrow = Recommender(tiny_run.config_of(finished_run, "eval.beams=[5, 10]"))
    with pytest.raises(PlumError, match=r"2 beam widths\n.*3 levels"):
        narrow.for_user("u00001", Request(k=5))
    wide = Recommender(tiny_run.config_of(finished_run, "eval.beams=[60, 60, 60]"))
    assert wide.for_user("u00001", Request(k=5)).items


def test_a_missing_index_is_told(run_copy: Path) -> None:
    (run_copy / "tokenize/index.safetensors").unlink()
    with pytest.raises(PlumError, match=r"index\.safetensors"):
        Recommender.open(run_copy).for_user("u00001", Request(k=5))
