"""Requests to a finished run from Python, and the ways of searching."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_run
import torch
from transformers import PreTrainedModel

from plum.errors import PlumError
from plum.retrieval.processor import SidLogitsProcessor
from plum.stages.recommend import Recommender, Request


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
    with pytest.raises(PlumError, match="no quota"):
        recommender.for_user("u00001", Request(search="exact", max_per_code=1))


def test_a_quota_that_leaves_too_few_says_so(recommender: Recommender, finished_run: Path) -> None:
    n_codes = pd.read_parquet(finished_run / "tokenize/semantic_ids.parquet")["code_0"].nunique()
    answer = recommender.for_user("u00001", Request(k=40, max_per_code=1))
    assert len(answer.items) <= n_codes
    assert answer.note is not None
    assert "at most 1 with the same first code" in answer.note


def test_the_command_line_offers_the_same(cli: Callable[..., tuple[int, str, str]], finished_run: Path) -> None:
    listed = {}
    for options in ((), ("--search", "exact"), ("--search", "sample"), ("--max-per-code", 1)):
        code, out, err = cli("recommend", "--workdir", finished_run, "--user", "u00001", "--k", 5, "--json", *options)
        assert code == 0, err
        listed[options] = [item["item_id"] for item in json.loads(out)["recommendations"]]
    assert listed[()] == listed["--search", "exact"]
    assert len({tuple(items) for items in listed.values()}) > 1
    code, _, err = cli("recommend", "--workdir", finished_run, "--user", "u00001", "--search", "best")
    assert code == 2
    assert "'best' is not one of" in err


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
