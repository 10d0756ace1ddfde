"""What continued pre-training reads and writes, from the files of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_run
from safetensors.numpy import load_file
from test_pretrained_base import save_gpt2
from transformers import AutoTokenizer

from plum.corpus.bins import Bins
from plum.errors import PlumError
from plum.run.manifest import read_manifest
from plum.stages import cpt, finetune
from plum.stages import eval as evaluation
from plum.stages.cpt import corpus

SID = r"((?:<\|sid_\d_\d+\|>)+)"
RICH = "{sid} by {creator} {rating} {gap}"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def texts_of(run: Path, name: str, part: str = "train") -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(run / "cpt/model")
    return [tokenizer.decode(one.tokens) for one in getattr(corpus.read(run / "cpt/corpus"), part)[name]]


def sids_of(run: Path) -> list[str]:
    codes = pd.read_parquet(run / "tokenize/semantic_ids.parquet").drop(columns="item_id").to_numpy()
    return ["".join(f"<|sid_{level}_{code}|>" for level, code in enumerate(row)) for row in codes]


def test_bare_histories_are_those_of_the_training_part_but_for_held_out_users(finished_run: Path) -> None:
    split = pd.read_parquet(finished_run / "data/split.parquet")
    sid = dict(zip(pd.read_parquet(finished_run / "data/items.parquet")["item_id"], sids_of(finished_run), strict=True))
    who = pd.read_parquet(finished_run / "cpt/corpus/held_out.parquet")
    held = set(who["id"][who["what"] == "user"])
    assert len(held) == 7  # a twentieth of 150
    expected: dict[bool, str] = {True: "", False: ""}
    for user, rows in split[split["part"] == "train"].sort_values("position").groupby("user_id"):
        expected[user in held] += "".join(sid[item] for item in rows["item_id"])
    for part, is_held in (("train", False), ("held_out", True)):
        texts = texts_of(finished_run, "behaviour", part)
        assert all(text.startswith("<|bos|>wh =<|sid_0_") for text in texts)
        assert "".join("".join(re.findall(SID, text)) for text in texts) == expected[is_held]


def test_held_out_items_are_told_of_only_there(finished_run: Path) -> None:
    items = pd.read_parquet(finished_run / "data/items.parquet")
    who = pd.read_parquet(finished_run / "cpt/corpus/held_out.parquet")
    held = np.flatnonzero(items["item_id"].isin(who["id"][who["what"] == "item"]))
    assert len(held) == 3
    documents = corpus.read(finished_run / "cpt/corpus")
    assert set(documents.held_out["metadata"].owners()) == set(held)
    assert set(documents.train["metadata"].owners()) == set(range(len(items))) - set(held)
    sids = sids_of(finished_run)
    for part in ("train", "held_out"):
        for one, text in zip(
            getattr(documents, part)["metadata"], texts_of(finished_run, "metadata", part), strict=True
        ):
            assert re.findall(SID, text) == [sids[one.owner]]
            assert text.endswith("<|eos|>")
            is_last = re.sub(r"\W+$", "", text.removesuffix("<|eos|>")[-6:]) == ""
            assert one.fact.endswith("_to_sid") == text.removesuffix("<|eos|>").endswith("|>") or is_last


def test_the_summary_and_the_metrics_say_what_is_there(finished_run: Path) -> None:
    kinds = read(finished_run / "cpt/corpus/corpus.json")["kinds"]
    documents = corpus.read(finished_run / "cpt/corpus")
    metrics = read(finished_run / "cpt/metrics.json")
    assert set(kinds) == {"behaviour", "metadata"}
    for name, entry in kinds.items():
        assert entry["documents"] == len(documents.train[name])
        assert entry["tokens"] == documents.train[name].lengths.sum() == metrics["tokens"][name]
        assert entry["held_out_tokens"] == documents.held_out[name].lengths.sum() > 0
    assert metrics["packing_efficiency"] > 0.95
    assert metrics["shares"] == {"behaviour": 0.5, "metadata": 0.5}


def test_without_training_the_base_is_as_it_was_but_for_new_rows(run_copy: Path, tmp_path: Path) -> None:
    base = save_gpt2(tmp_path / "base", run_copy, positions=128)
    settings = (f"cpt.base={base}", "cpt.enabled=false", f'cpt.corpus.behaviour.template="{RICH}"')
    cpt.run(tiny_run.config_of(run_copy, *settings))
    before, after = (load_file(folder / "model.safetensors") for folder in (base, run_copy / "cpt/model"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert np.array_equal(after[name][: len(weight)], weight)
    grown = after["transformer.wte.weight"]
    assert len(grown) == len(AutoTokenizer.from_pretrained(run_copy / "cpt/model"))
    new = grown[len(before["transformer.wte.weight"]) :]
    assert len(np.unique(new, axis=0)) == len(new) > 8
    files = {str(path.relative_to(run_copy / "cpt")) for path in (run_copy / "cpt").rglob("*") if path.is_file()}
    assert {"model/plum.json", "train_log.jsonl", "metrics.json", "corpus/corpus.json"} <= files
    metrics = read(run_copy / "cpt/metrics.json")
    assert (metrics["steps"], metrics["cost"]["flops"]) == (0, 0)
    assert metrics["learnt"]["losses"]["behaviour"]["before"]["loss"] > 1
    config = tiny_run.config_of(run_copy, *settings, "finetune.epochs=1")
    finetune.run(config)
    evaluation.run(config)


def test_rich_histories_hold_what_the_data_know(run_copy: Path) -> None:
    whole = "cpt.corpus.behaviour.text_tokens=60"
    cpt.run(tiny_run.config_of(run_copy, f'cpt.corpus.behaviour.template="{RICH}"', whole))
    assert "data/interactions.parquet" in read_manifest(run_copy / "cpt").inputs
    items = pd.read_parquet(run_copy / "data/items.parquet")
    who = pd.read_parquet(run_copy / "cpt/corpus/held_out.parquet")
    held = set(who["id"][who["what"] == "item"])
    creator = {
        sid: "" if item in held else f" by {name}"
        for sid, item, name in zip(sids_of(run_copy), items["item_id"], items["creator"], strict=True)
    }
    bins = Bins.from_json(read(run_copy / "cpt/model/plum.json")["bins"])
    assert {"rating", "gap"} == set(bins.edges)
    log = pd.read_parquet(run_copy / "data/interactions.parquet")
    log["part"] = pd.read_parquet(run_copy / "data/split.parquet")["part"]
    log = log.sort_values(["user_id", "timestamp"], kind="stable")
    log["gap"] = log.groupby("user_id")["timestamp"].diff() / 3600
    log = log[(log["part"] == "train") & ~log["user_id"].isin(who["id"][who["what"] == "user"])]
    sid = dict(zip(items["item_id"], sids_of(run_copy), strict=True))
    expected = ""
    for item, rating, gap in zip(log["item_id"], log["rating"], log["gap"], strict=True):
        expected += sid[item] + creator[sid[item]] + f"<|rating_{bins.place('rating', np.array([rating]))[0]}|>"
        expected += "" if np.isnan(gap) else f"<|gap_{bins.place('gap', np.array([gap]))[0]}|>"
    found = "".join(
        text.removesuffix("<|eos|>").removeprefix("<|bos|>wh =") for text in texts_of(run_copy, "behaviour")
    )
    assert found == expected


def test_fields_that_the_data_lack_are_left_out(run_copy: Path) -> None:
    cpt.run(tiny_run.config_of(run_copy, 'cpt.corpus.behaviour.template="{sid} {reward}"'))
    assert read(run_copy / "cpt/model/plum.json")["bins"] == {}  # all rewards are 1
    assert "reward" not in "".join(AutoTokenizer.from_pretrained(run_copy / "cpt/model").get_vocab())


def test_general_text_is_read_as_far_as_it_is_needed(run_copy: Path, tmp_path: Path) -> None:
    text = tmp_path / "general.txt"
    text.write_text("\n\n".join(f"Paragraph number {number} of a long general text." for number in range(5000)))
    settings = (f"cpt.corpus.replay.files=[{text}]", "cpt.corpus.replay.weight=0.25")
    cpt.run(tiny_run.config_of(run_copy, *settings))
    kinds = read(run_copy / "cpt/corpus/corpus.json")["kinds"]
    metrics = read(run_copy / "cpt/metrics.json")
    assert metrics["shares"] == {"behaviour": 0.4, "metadata": 0.4, "replay": 0.2}
    assert kinds["replay"]["tokens"] == pytest.approx(kinds["behaviour"]["tokens"] / 2, rel=0.05)
    assert kinds["replay"]["held_out_documents"] == 0
    assert "source/general.txt" in read_manifest(run_copy / "cpt").inputs
    assert texts_of(run_copy, "replay")[0] == "<|bos|>Paragraph number 0 of a long general text.<|eos|>"
    before = tiny_run.times(run_copy)
    text.write_text("Another text.")
    cpt.run(tiny_run.config_of(run_copy, *settings))
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"cpt"}


def test_a_model_of_these_semantic_ids_is_trained_on_as_it_is(run_copy: Path, tmp_path: Path) -> None:
    earlier = (run_copy / "cpt").rename(tmp_path / "earlier") / "model"
    settings = (f"cpt.base={earlier}", "cpt.enabled=false")
    cpt.run(tiny_run.config_of(run_copy, *settings))
    before, after = (load_file(folder / "model.safetensors") for folder in (earlier, run_copy / "cpt/model"))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / "plum.json").unlink(), "no plum.json that tells whose they are"),
        (
            lambda folder: (folder / "plum.json").write_text('{"version": 1, "semantic_ids": "00", "bins": {}}'),
            "its codes are of other items",
        ),
        (lambda folder: (folder / "plum.json").write_text('{"version": 1}'), "plum.json"),
    ],
)
def test_a_model_of_other_semantic_ids_is_refused(
    run_copy: Path, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    earlier = (run_copy / "cpt").rename(tmp_path / "earlier") / "model"
    damage(earlier)
    with pytest.raises(PlumError, match=told):
        cpt.run(tiny_run.config_of(run_copy, f"cpt.base={earlier}"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ['cpt.corpus.behaviour.template="{sid} {director}"'],
            r"cpt.corpus.behaviour.template: the data have no field 'director'(.|\n)*fields: sid, rating, reward, gap",
        ),
        (
            ['cpt.corpus.metadata.templates={title: ["{sid} {rating}"]}'],
            r"cpt.corpus.metadata.templates.title: the data have no field 'rating'(.|\n)*fields: sid, title, topics",
        ),
        (
            ['cpt.corpus.behaviour.template="{sid} {title} {topics} {creator} {description}"', "cpt.context_length=24"],
            r"a document is longer than the context(.|\n)*cpt.context_length is 24",
        ),
    ],
)
def test_unusable_settings_are_refused(run_copy: Path, settings: list[str], told: str) -> None:
    with pytest.raises(PlumError, match=told):
        cpt.run(tiny_run.config_of(run_copy, *settings))


def test_an_empty_corpus_is_refused(run_copy: Path) -> None:
    settings = ("cpt.corpus.behaviour.weight=0", 'cpt.corpus.metadata.templates={x: ["{sid} {title} {nothing}"]}')
    path = run_copy / "data/items.parquet"
    items = pd.read_parquet(path).assign(nothing=None).astype({"nothing": "object"})
    items.to_parquet(path)
    from plum.run.hashes import sha256

    manifest = read(run_copy / "data/manifest.json")
    manifest["outputs"]["items.parquet"] = sha256(path)
    (run_copy / "data/manifest.json").write_text(json.dumps(manifest))
    for stage in ("features", "tokenize"):
        manifest = read(run_copy / stage / "manifest.json")
        manifest["inputs"]["data/items.parquet"] = sha256(path)
        (run_copy / stage / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PlumError, match="no documents to pre-train on"):
        cpt.run(tiny_run.config_of(run_copy, *settings))


def test_files_that_are_not_there_are_known_before_the_first_stage(run_copy: Path, tmp_path: Path) -> None:
    from plum.stages import pipeline

    with pytest.raises(PlumError, match=r"cpt.corpus.replay.files: .*nowhere.txt \(no such file\)"):
        pipeline.run_cpt(tiny_run.config_of(run_copy, f"cpt.corpus.replay.files=[{tmp_path / 'nowhere.txt'}]"))


def test_documents_are_shown_and_nothing_is_written(cli: Any, run_copy: Path) -> None:
    before = tiny_run.times(run_copy)
    code, out, _ = cli("cpt", "--workdir", run_copy, "--show-examples", "2")
    assert code == 0
    assert tiny_run.times(run_copy) == before
    lines = out.splitlines()
    places = [number for number, line in enumerate(lines) if not line.startswith("  ")]
    names = [lines[number] for number in places]
    assert names[:3] == ["behaviour", "metadata, title", "metadata, title_to_sid"]
    assert all(lines[number + 1].startswith("  <|bos|>") for number in places)
    assert re.search(rf"title of item{SID} is|has title:|is called", lines[places[1] + 1])
