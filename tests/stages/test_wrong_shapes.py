"""Files of a run of right syntax and wrong shape, or damaged, in a run whose manifests vouch for them all the same."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
from sealed import seal

from plum.cli.items import _report_view
from plum.cli.results import show_results
from plum.config.file import load_config
from plum.errors import PlumError
from plum.run import artifacts, shapes
from plum.serving import assign
from plum.serving.recommend import Recommender, Request
from plum.sid.frozen import load_frozen
from plum.stages import checks, inputs, trained
from plum.stages.eval import reporting, scoring
from plum.stages.eval.field import _optimum, all_retrievers
from plum.stages.tokenize import reading
from plum.studies.compare import compare_runs
from plum.studies.inspect_items import inspect

WRONG: tuple[Any, ...] = (
    *(None, "x", "../../x", True, -1, 1.5, 1e308, 2**40, 10**30, [], {}, [[1]], [2**40], {"x": {}}),
    *("x" * 5000, {"recall@1000000000000": 0.5}, {"recall@" + "9" * 5000: 0.5}),
)
DELETED = object()
SPENT = {"duration_s": 1.0, "peak_memory_mib": 1.0}
JSON_FILES = (
    *(f"{stage}/manifest.json" for stage in tiny_run.STAGES),
    *("data/summary.json", "features/features.json", "features/encoders/text.json", "features/encoders/topics.json"),
    *("tokenize/quality.json", "tokenize/tokenizer.json", "cpt/metrics.json", "finetune/metrics.json"),
    *("dense/metrics.json", "dense/trials.json", "eval/metrics.json", "eval/examples.json", "assigned/report.json"),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a JSON lies; of a list the first two."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, entry in inside:
        yield from places(entry, (*at, key))


def changed(value: Any, at: tuple[Any, ...], wrong: Any) -> Any:
    """The same JSON with another value, or none, at a place."""
    if not at:
        return None if wrong is DELETED else wrong
    whole = copy.deepcopy(value)
    parent = whole
    for key in at[:-1]:
        parent = parent[key]
    if wrong is DELETED:
        del parent[at[-1]]
    else:
        parent[at[-1]] = wrong
    return whole


def new_items(run: Path) -> Path:
    """A file of items that the run does not have."""
    path = run.parent / "new.parquet"
    items = pd.read_parquet(run / artifacts.ITEMS)
    items.assign(item_id="n" + items["item_id"])[:5].to_parquet(path)
    return path


def light(run: Path, new: Path) -> dict[str, Callable[[], object]]:
    """What reads files of a run without its language model."""
    config = load_config(run / "config.yaml", ["data.max_bad_share=0.99"], workdir=run)

    def assigned() -> None:
        folder = assign.run(config, new)
        _report_view(artifacts.read_json(folder / assign.REPORT, shapes.Assigned))

    def kept() -> None:
        prepared = inputs.read_prepared(run)
        scoring._protocol(config, 60)
        scoring.read_asked(config, prepared)
        inputs.train_times(run)
        inputs.content_vectors(run)
        trained.dense_model(config, "dense", 60)

    return {
        "inspect": lambda: inspect(config, "i0001"),
        "compare": lambda: compare_runs([run], n_resamples=5),
        "show": lambda: show_results(config),
        "assign": assigned,
        "costs": lambda: reporting.costs(config),
        "checks": lambda: checks.check_named(config, list(artifacts.COMMANDS)),
        "features": lambda: reading.read_features(run, inputs.read_prepared(run).items["item_id"]),
        "kept": kept,
    }


def heavy(run: Path, new: Path) -> dict[str, Callable[[], object]]:
    """All that reads files of a run."""
    config = load_config(run / "config.yaml", workdir=run)
    return light(run, new) | {
        "recommend": lambda: Recommender.open(run).for_user("u00001", Request(k=3)),
        "field": lambda: all_retrievers(config, inputs.read_prepared(run)),
        "payload": lambda: reporting.payload(config, run / "eval", SPENT),
    }


@pytest.fixture
def run(run_copy: Path) -> Path:
    """A finished run with assigned Semantic IDs."""
    light(run_copy, new_items(run_copy))["assign"]()
    return run_copy


def try_wrong_values(run: Path, readers: dict[str, Callable[[], object]], n: int, seed: int) -> int:
    """Change one value at a time and read; gives the number of refusals."""
    draw, refused = random.Random(seed), 0
    for name in JSON_FILES:
        path = run / name
        whole = path.read_text()
        value = json.loads(whole)
        cases = [(at, wrong) for at in places(value) for wrong in (*WRONG, DELETED)]
        manifests = {one: one.read_text() for one in run.glob("*/manifest.json")}
        for at, wrong in draw.sample(cases, min(n, len(cases))):
            path.write_text(json.dumps(changed(value, at, wrong)))
            if path.name != artifacts.MANIFEST:
                seal(run)
            for reader, read in readers.items():
                if reader == "payload" and name.startswith("eval/"):  # written in the same moment
                    continue
                try:
                    read()
                except PlumError:
                    refused += 1
                except Exception as error:
                    raise AssertionError(f"{reader} of {name} with {str(wrong)[:50]} at {at}") from error
            for one, text in (manifests | {path: whole}).items():
                one.write_text(text)
    return refused


@pytest.mark.slow
def test_wrong_values_are_refused_or_do_not_matter(run: Path) -> None:
    assert try_wrong_values(run, heavy(run, run.parent / "new.parquet"), 3, seed=1) > 50


@pytest.mark.parametrize(
    ("name", "key", "wrong", "told"),
    [
        ("tokenize/quality.json", ("levels", 0, "size"), 2**40, r"levels\.0\.size.*less than or equal"),
        ("tokenize/quality.json", ("levels", 0, "size"), 2**30, r"codes per level \[1073741824.*60 items"),
        ("tokenize/tokenizer.json", ("shape", "hidden_dim"), 2**30, r"encoders\.0\.network\.0\.weight has shape"),
        ("tokenize/tokenizer.json", ("rules", "collision"), "none", r"rules\.collision.*'share'"),
        ("dense/metrics.json", ("chosen",), {"hidden_size": 2**30}, "names settings that the search does not have"),
        ("eval/metrics.json", ("retrievers", "plum", "recall@100000000000"), 0.5, "cutoff 100,000,000,000"),
        ("eval/metrics.json", ("n_users",), "150", r"n_users.*valid integer, found '150'"),
        ("eval/examples.json", (0, "history"), 3, r"0\.history.*valid list, found 3"),
        ("features/features.json", ("modalities", "text", "shape"), [7, 16], "does not fit the catalogue"),
        ("data/summary.json", ("timestamps_are_positions",), "no", r"timestamps_are_positions.*boolean, found 'no'"),
        ("data/manifest.json", ("config", "split"), {}, r"config is not as plum writes it.*split\.ties"),
        ("data/manifest.json", ("outputs", "items.parquet"), 3, r"outputs\.items\.parquet.*found 3"),
    ],
)
def test_the_message_names_file_key_and_value(
    run_copy: Path, name: str, key: tuple[Any, ...], wrong: Any, told: str
) -> None:
    path = run_copy / name
    path.write_text(json.dumps(changed(json.loads(path.read_text()), key, wrong)))
    if path.name != artifacts.MANIFEST:
        seal(run_copy)
    messages = []
    for read in [*light(run_copy, new_items(run_copy)).values(), lambda: load_frozen(run_copy / "tokenize")]:
        try:
            read()
        except PlumError as error:
            messages.append(str(error))
    assert any(re.search(told, message, re.DOTALL) for message in messages), messages
    assert all("to do: " in message for message in messages)


def damages(content: bytes) -> dict[str, bytes]:
    return {"empty": b"", "half": content[: len(content) // 2], "zeros": bytes(len(content)), "text": b"{}\n"}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tokenize/rqvae.safetensors", lambda run, config: inputs.read_codebooks(run)),
        ("tokenize/rqvae.safetensors", lambda run, config: load_frozen(run / "tokenize")),
        ("data/truth.safetensors", lambda run, config: _optimum(config, 60)),
        ("dense/dense.safetensors", lambda run, config: trained.dense_model(config, "dense", 60)),
        ("tokenize/index.safetensors", lambda run, config: Recommender.open(run).for_user("u00001", Request(k=3))),
        ("features/text.npy", lambda run, config: inputs.content_vectors(run)),
        ("features/present.parquet", lambda run, config: reading.read_features(run, pd.Series(["a"]))),
        ("data/split.parquet", lambda run, config: inputs.read_prepared(run)),
        ("tokenize/semantic_ids.parquet", lambda run, config: inspect(config, "i0001")),
        ("tokenize/quality.json", lambda run, config: inspect(config, "i0001")),
        ("eval/recommendations.parquet", lambda run, config: compare_runs([run], n_resamples=5)),
        ("cpt/train_log.jsonl", lambda run, config: artifacts.read_log(run / "cpt/train_log.jsonl")),
    ],
)
def test_damaged_files_are_refused_by_name(run_copy: Path, name: str, read: Callable[[Path, Any], object]) -> None:
    config, path = tiny_run.config_of(run_copy), run_copy / name
    whole = path.read_bytes()
    for damage, content in damages(whole).items():
        path.write_bytes(content)
        with pytest.raises(PlumError, match=rf"(?s){path.name} is not what stage .* wrote.*run `plum"):
            read(run_copy, config)
        if (damage, path.suffix) in (("empty", ".jsonl"), ("text", ".jsonl")):
            continue  # a log like any other
        with pytest.raises(PlumError, match=r"(?s)to do: "):
            read(seal(run_copy), config)
        path.write_bytes(whole)
        seal(run_copy)


def test_swapped_and_edited_files_are_noticed(run_copy: Path) -> None:
    config = tiny_run.config_of(run_copy)
    split = run_copy / artifacts.SPLIT
    table = pd.read_parquet(split)
    table.assign(user_id=table["user_id"].str.replace("u", "v")).to_parquet(split, index=False)
    vectors = np.load(run_copy / "features/text.npy")
    np.save(run_copy / "features/text.npy", vectors[::-1])
    for name, read in (
        ("split.parquet", lambda: Recommender(config)),
        ("split.parquet", lambda: compare_runs([run_copy], n_resamples=5)),
        ("text.npy", lambda: inputs.content_vectors(run_copy)),
    ):
        with pytest.raises(PlumError, match=f"{name} is not what stage"):
            read()
