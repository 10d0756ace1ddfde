"""A tiny Llama-type model as a GGUF file, written with the package ``gguf``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import transformers as hf

from plum.lm import vocab

TEXTS = ["Item has title: Heat (1995)", "The topics in item are: Action, Crime", "wh = naïve café"] * 3
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
HEADS, KEYS = 4, 2


def made(tied: bool = True) -> tuple[hf.LlamaForCausalLM, hf.PreTrainedTokenizerBase]:
    """A model with grouped heads, and its byte-level tokenizer."""
    tokenizer = vocab.train_tokenizer(TEXTS, 320)
    hf.set_seed(0)
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEYS,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        rope_theta=10000.0,
    )
    return hf.LlamaForCausalLM(config).eval(), tokenizer


def write(
    path: Path,
    model: hf.LlamaForCausalLM,
    tokenizer: Any,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    architecture: str = "llama",
    ends: bool = True,
    change: Callable[[gguf.GGUFWriter], object] = lambda _: None,
) -> Path:
    """Write a model; matrices in the type given, vectors in float32; ``ends``: with an end and a padding token."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, ends)
    change(writer)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = _turned(name, weight.numpy())
        stored = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(_renamed(name), gguf.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, ends: bool) -> None:
    parts = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    control = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in control else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in parts["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    if ends:
        writer.add_eos_token_id(tokenizer.eos_token_id)
        writer.add_pad_token_id(tokenizer.pad_token_id)


def _renamed(name: str) -> str:
    """``model.layers.0.mlp.up_proj.weight`` -> ``blk.0.ffn_up.weight``."""
    layer = name.removesuffix(".weight")
    if layer.startswith("model.layers."):
        number, part = layer.removeprefix("model.layers.").split(".", 1)
        return f"blk.{number}.{NAMES[part]}.weight"
    return f"{NAMES[layer]}.weight"


def _turned(name: str, weight: np.ndarray) -> np.ndarray:
    """Queries and keys as llama.cpp has them: the two numbers that a rotary position turns stand side by side."""
    heads = {"q_proj.weight": HEADS, "k_proj.weight": KEYS}.get(name.rsplit("self_attn.", 1)[-1])
    if heads is None:
        return weight
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()
