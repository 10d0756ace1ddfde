"""Architectures refused by their configuration, and representative ones tried as the documentation's table is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers as hf

from plum.lm import bases
from plum.lm.architectures import why_not

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def trials() -> ModuleType:
    spec = importlib.util.spec_from_file_location("architectures", DOCS / "scripts/architectures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (hf.BloomConfig(), "bloom: .*ALiBi"),
        (hf.MptConfig(), "mpt: .*ALiBi"),
        (hf.FalconConfig(alibi=True), "falcon: .*ALiBi"),
        (hf.GPTNeoConfig(), "gpt_neo: its attention counts places in the cache"),
        (hf.Llama4TextConfig(), "llama4_text: its attention is chunked"),
        (hf.Llama4Config(), "llama4: its attention is chunked"),
        (hf.MambaConfig(), "mamba: it has recurrent layers"),
        (hf.RwkvConfig(), "rwkv: it has recurrent layers"),
        (hf.Qwen3NextConfig(), "qwen3_next: it has layers of kind linear_attention"),
        (
            hf.Lfm2Config(layer_types=["conv", "full_attention"], num_hidden_layers=2),
            "lfm2: it has layers of kind conv",
        ),
        (hf.BertConfig(is_decoder=True), "bert: it is an encoder"),
        (hf.XLNetConfig(), "xlnet: its cache"),
    ],
    ids=lambda value: value.model_type if isinstance(value, hf.PreTrainedConfig) else "",
)
def test_what_can_not_work_is_refused_by_name_and_reason(config: Any, reason: str) -> None:
    assert re.search(f"beams cannot be decoded side by side with model type {reason}", str(why_not(config)))


@pytest.mark.parametrize(
    "config",
    [hf.LlamaConfig(), hf.Qwen3Config(), hf.Gemma2Config(), hf.Gemma3Config(), hf.GPT2Config(), hf.FalconConfig()],
    ids=lambda config: config.model_type,
)
def test_what_works_is_not(config: Any) -> None:
    assert why_not(config) is None


def test_a_base_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    config = hf.BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2)
    hf.BloomForCausalLM(config).save_pretrained(tmp_path)
    assert "ALiBi" in str(bases.problem_of(str(tmp_path)))


def test_the_table_names_all_architectures_of_transformers() -> None:
    """It is written by a script, by hand: this tells when it must run again."""
    text = (DOCS / "decoding.md").read_text()
    table = text.partition("<!-- architectures -->")[2].partition("<!-- /architectures -->")[0]
    named = set(re.split(r"[;|]\s*|\s+\|", table.replace(" |", ";")))
    named = {name.strip() for name in named}
    for kind in ("llama", "gpt2", "gpt_neo", "bloom", "mamba", "phi3", "phi3, longrope", "falcon, ALiBi", "qwen3_next"):
        assert kind in named
    assert len(named) > 150
    assert "!" not in table


REPRESENTATIVE = ("llama", "gpt2", "opt", "gemma2", "mistral", "mixtral", "deepseek_v3", "gpt_oss", "phi3, longrope")


@pytest.mark.slow
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_scores_are_those_alone_and_those_of_the_model(name: str, trials: ModuleType) -> None:
    assert trials.try_all([name]) == {name: "works"}
