"""Continued pre-training of a given checkpoint, and fine-tuning on what comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_gguf
import tiny_run
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from plum.errors import PlumError
from plum.lm import gguf
from plum.lm.vocab import train_tokenizer
from plum.run.manifest import read_manifest
from plum.serving import recommend
from plum.stages import cpt, finetune


def save_gpt2(folder: Path, run: Path, positions: int) -> Path:
    """A pre-trained checkpoint as a user has one: GPT-2 type, its own tokenizer, no Semantic IDs."""
    tokenizer = train_tokenizer(pd.read_parquet(run / "data/items.parquet")["title"].dropna(), 400)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=positions,
            n_embd=32,
            n_layer=1,
            n_head=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_given_model_learns_the_semantic_ids_and_recommends(run_copy: Path, tmp_path: Path) -> None:
    base = save_gpt2(tmp_path / "base", run_copy, positions=128)
    config = tiny_run.config_of(run_copy, f"cpt.base={base}", "finetune.epochs=1")
    cpt.run(config)
    finetune.run(config)
    assert "source/model.safetensors" in read_manifest(run_copy / "cpt").inputs
    model = AutoModelForCausalLM.from_pretrained(run_copy / "finetune/model")
    tokenizer = AutoTokenizer.from_pretrained(run_copy / "finetune/model")
    assert model.config.model_type == "gpt2"
    sizes = [level["size"] for level in json.loads((run_copy / "tokenize/quality.json").read_text())["levels"]]
    vocabulary = tokenizer.get_vocab()
    wanted = [f"<|sid_{level}_{code}|>" for level, size in enumerate(sizes) for code in range(size)]
    assert all(token in vocabulary for token in wanted)
    assert max(vocabulary[token] for token in wanted) < model.get_input_embeddings().weight.shape[0]
    items = pd.read_parquet(run_copy / "data/items.parquet")["item_id"]
    answer = recommend.Recommender(config).for_history(items[:3].tolist(), recommend.Request(k=5))
    assert len(answer.history) == 3
    assert {item.item_id for item in answer.items} <= set(items[3:])
    assert len(answer.items) == 5


def test_a_gguf_file_learns_the_semantic_ids(run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gguf.CACHE_HOME, str(tmp_path / "cache"))
    base = tiny_gguf.write(tmp_path / "tiny.gguf", *tiny_gguf.made())
    cpt.run(tiny_run.config_of(run_copy, f"cpt.base={base}", "cpt.epochs=1"))
    assert [name for name in read_manifest(run_copy / "cpt").inputs if "source" in name] == ["source/tiny.gguf"]
    model = AutoModelForCausalLM.from_pretrained(run_copy / "cpt/model")
    assert model.config.model_type == "llama"
    assert len(model.get_input_embeddings().weight) > len(tiny_gguf.made()[1])


def test_a_given_model_that_changed_is_pre_trained_again(run_copy: Path, tmp_path: Path) -> None:
    base = save_gpt2(tmp_path / "base", run_copy, positions=128)
    config = tiny_run.config_of(run_copy, f"cpt.base={base}")
    cpt.run(config)
    before = tiny_run.times(run_copy)
    cpt.run(config)
    assert tiny_run.times(run_copy) == before
    save_gpt2(base, run_copy, positions=96)
    cpt.run(config)
    assert tiny_run.rerun(before, tiny_run.times(run_copy)) == {"cpt"}


def test_a_context_longer_than_the_model_takes_is_refused(run_copy: Path, tmp_path: Path) -> None:
    base = save_gpt2(tmp_path / "base", run_copy, positions=32)
    with pytest.raises(PlumError, match="32"):
        cpt.run(tiny_run.config_of(run_copy, f"cpt.base={base}"))


def test_a_base_that_is_not_there_is_refused(run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PlumError, match=r"cpt\.base"):
        cpt.run(tiny_run.config_of(run_copy, f"cpt.base={tmp_path / 'nowhere'}"))
