"""Try every causal language model of transformers at a tiny size, and write the table in docs/decoding.md.

    python docs/scripts/architectures.py            # try all (a few minutes) and write the table
    python docs/scripts/architectures.py gpt2 phi3  # try some and print what came of it

An architecture works if it passes plum's checks, and if the scores of constrained beam search for prompts of several
lengths in one batch are those of each prompt alone and of the model's own forward pass over each whole sequence, with
more beams than the model has positions and prompts longer than its sliding window; after the codes' tokens were added
to it, and it was saved and read again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.metadata
import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import plum  # noqa: F401  (first: it tells OpenMP how to wait)

# isort: split
import numpy as np
import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

from plum.decoding.beam import Scoring, beam_search
from plum.decoding.constraint import DeviceTrie
from plum.decoding.tree import check_tree_attention
from plum.decoding.trie import Trie
from plum.errors import PlumError
from plum.lm import bases, folders, vocab
from plum.lm.architectures import why_not
from plum.lm.examples import Batch
from plum.lm.logits import check_head
from plum.lm.loss import next_token_loss

PAGE = Path(__file__).resolve().parents[1] / "decoding.md"
START, END = "<!-- architectures -->", "<!-- /architectures -->"
WORDS = 70
CODES = (8, 8, 4)
POSITIONS = 64
WINDOW = 6
LARGEST = 30_000_000
WORKS = "works"

_VALUES: dict[Any, str] = {
    32: "hidden_size d_model n_embd dim emb_dim embed_dim intermediate_size ffn_dim n_inner decoder_ffn_dim "
    "encoder_ffn_dim dff dim_ff ffn_hidden_size mlp_hidden_size projection_dim expert_dim word_embed_proj_dim ff_dim "
    "embedding_size feed_forward_size input_hidden_size expert_ffn_hidden_size attention_hidden_size "
    "input_embedding_size output_embedding_size vision_output_dim out_hidden_size image_size",
    2: "num_hidden_layers n_layer num_layers n_layers encoder_layers decoder_layers num_key_value_heads "
    "num_experts_per_tok moe_topk top_k n_group topk_group num_encoder_layers num_decoder_layers kv_n_heads "
    "attn_kv_heads num_kv_heads num_global_key_value_heads swa_num_key_value_heads num_experts_per_token moe_k depth "
    "num_global_layers",
    4: "num_attention_heads n_head num_heads n_heads encoder_attention_heads decoder_attention_heads num_local_experts "
    "num_experts n_routed_experts moe_num_experts num_decoder_attention_heads num_encoder_attention_heads "
    "mamba_n_heads mamba_num_heads swa_num_attention_heads index_n_heads",
    8: "head_dim kv_channels rotary_dim qk_nope_head_dim qk_rope_head_dim v_head_dim global_head_dim "
    "hidden_size_per_layer_input swa_head_dim swa_v_head_dim attention_head_dim index_head_dim patch_size",
    16: "moe_intermediate_size shared_expert_intermediate_size q_lora_rank kv_lora_rank moe_ffn_hidden_size",
    POSITIONS: "max_position_embeddings n_positions max_seq_len n_ctx seq_length max_target_positions "
    "max_source_positions max_sequence_length",
    WINDOW: "sliding_window index_topk keep_window_size",
    1: "bos_token_id n_groups",
    3: "eos_token_id",
}
_ZEROS = (
    "pad_token_id num_nextn_predict_layers num_kv_shared_layers first_k_dense_replace",
    "attention_dropout dropout hidden_dropout attn_pdrop embd_pdrop resid_pdrop activation_dropout hidden_dropout_prob "
    "attention_probs_dropout_prob attn_dropout resid_dropout emb_dropout residual_dropout",
)
SIZES: dict[str, Any] = {
    **{name: value for value, names in _VALUES.items() for name in names.split()},
    **dict.fromkeys(_ZEROS[0].split(), 0),
    **dict.fromkeys(_ZEROS[1].split(), 0.0),
}
LATENT = {"num_key_value_heads": 4}
SPECIAL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa"), LATENT
    ),
    **dict.fromkeys(("minicpm3", "youtu", "longcat_flash", "dots3_note_text"), LATENT),
    "dots1": {"n_shared_experts": 1},
    "gpt_neo": {"attention_types": [[["global"], 2]]},
    "mamba2": {"head_dim": 16},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "zaya": {"num_experts_per_tok": 1},
}
_LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.3, 1.4, 2.0], "long_factor": [3.0] * 4}
_SCALED = {"rope_theta": 1e4, "factor": 2.0}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon, ALiBi": ("falcon", {"alibi": True}),
    "gpt_neo, local attention": ("gpt_neo", {"attention_types": [[["global", "local"], 1]]}),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "phi3, longrope": ("phi3", {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 32}),
    "llama, dynamic positions": ("llama", {"rope_parameters": _SCALED | {"rope_type": "dynamic"}}),
    "llama, linear positions": ("llama", {"rope_parameters": _SCALED | {"rope_type": "linear"}}),
    "qwen2, windows": ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": WINDOW}),
    "opt, embedding of another width": ("opt", {"word_embed_proj_dim": 16}),
    "lfm2, as published": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "bert, causal": ("bert", {"is_decoder": True}),
}
"""Settings of an architecture that change what it computes."""


def tiny_config(kind: type, settings: dict[str, Any] | None = None) -> Any:
    """A configuration of a few thousand numbers; parts that are configurations themselves are made tiny too."""
    try:
        names = {field.name for field in dataclasses.fields(kind)}
    except TypeError:
        names = set()
    given = {name: SIZES[name] for name in names if name in SIZES}
    for name, part in (getattr(kind, "sub_configs", None) or {}).items():
        if dataclasses.is_dataclass(part) and part.__name__ != "AutoConfig":
            given[name] = tiny_config(part, SPECIAL.get(part.model_type))
    return kind(**given | (settings or {}))


def tiny_model(kind: type, settings: dict[str, Any]) -> Any:
    """A tiny model with weights far from 0, so that a wrong context changes scores.

    Raises:
        ValueError: if it is not tiny.
    """
    config = tiny_config(kind, settings)
    classes = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    of_kind = classes[0] if isinstance(classes, list | tuple) else classes
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in of_kind(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} numbers")
    torch.manual_seed(0)
    model = of_kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.normal_(std=0.2)
    return model


def outcome(kind: type, settings: dict[str, Any]) -> str:
    """``works``, or why plum refuses the architecture, or what went wrong in words that start with ``!``."""
    if getattr(kind, "is_encoder_decoder", False):
        return "encoder-decoder"
    known = None if settings else _why_not(_default(kind))
    try:
        model = tiny_model(kind, settings)
    except Exception as error:  # whatever a tiny size does to an architecture
        lines = str(error).strip().splitlines()
        return known or f"not tried: no tiny one could be made ({type(error).__name__}: {lines[0] if lines else ''})"
    if getattr(model.config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if reason := known or _why_not(model.config):
        return reason
    try:
        check_head(model)
        check_tree_attention(model)
    except PlumError as error:
        return f"! refused only after loading: {error.found}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _differences(_with_codes(model, Path(folder))) or WORKS
    except Exception as error:
        return f"! {type(error).__name__}: {error}"


def _why_not(config: Any) -> str | None:
    try:
        return None if config is None else why_not(config)
    except ValueError:  # several text models in one
        return "it is made of several language models"


def _default(kind: type) -> Any:
    """The configuration as published, whose layers may be of more kinds than those of a tiny one."""
    try:
        return kind()
    except Exception:  # some need settings
        return None


def _with_codes(model: Any, folder: Path) -> tuple[Any, tuple[np.ndarray, ...]]:
    """The model as plum trains it: saved, read, with codes in its vocabulary, saved, read; and the codes' tokens."""
    rows = model.get_input_embeddings().weight.shape[0]
    tokenizer = _tokenizer(min(WORDS, rows))
    folders.save_model_folder(model, tokenizer, folder / "base")
    model, tokenizer = bases.base_model(str(folder / "base"))
    vocab.add_sid_tokens(tokenizer, CODES)
    vocab.extend_embeddings(model, tokenizer, CODES)
    check_head(model)
    tokens = torch.arange(4, 24).reshape(2, 10)
    next_token_loss(model.train(), Batch(tokens, tokens)).backward()
    folders.save_model_folder(model, tokenizer, folder / "finetune" / "model")
    again, tokenizer = folders.run_model(folder / "finetune" / "model")
    return again.eval(), vocab.codec_of(tokenizer, CODES).token_ids


def _tokenizer(size: int) -> Any:
    """A tokenizer of ``size`` words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {name: number for number, name in enumerate(("<pad>", "<s>", "<unk>", "</s>"))}
    words |= {f"w{number}": number for number in range(len(words), size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", unk_token="<unk>", eos_token="</s>"
    )


@torch.no_grad()
def _differences(made: tuple[Any, tuple[np.ndarray, ...]]) -> str | None:
    """How scores in a batch differ from those alone, or from the model's own; None if they don't."""
    from plum.sid.codec import Codec

    model, token_ids = made
    rng, codec = np.random.default_rng(0), Codec(token_ids)
    codes = np.stack([rng.integers(0, size, 150) for size in CODES], axis=1)
    index = DeviceTrie.put(Trie.build(codes, CODES), codec, torch.device("cpu"))
    prompts = [rng.integers(4, WORDS, length) for length in (1, 20, 9, 31, 33, 45)]

    def search(asked: list[np.ndarray]) -> Any:
        return beam_search(model, asked, index, 64, scoring=Scoring("vocabulary"))

    together = search(prompts)
    for row, prompt in enumerate(prompts):
        alone = search([prompt]).scores[0]
        if not torch.allclose(together.scores[row], alone, atol=1e-3, rtol=1e-3):
            apart = float((together.scores[row] - alone).abs().max())
            return f"! scores in a batch differ by {apart:.2g} from those alone"
        for beam in (0, 30, 63):
            tokens = codec.encode(together.codes[row, beam][None].numpy())[0]
            own = _own_score(model, prompt, tokens)
            if not abs(own - float(together.scores[row, beam])) < 2e-3 * max(1, abs(own)):
                return f"! a score is {float(together.scores[row, beam]):.4g}, the model's own {own:.4g}"
    return None


def _own_score(model: Any, prompt: np.ndarray, tokens: np.ndarray) -> float:
    """Log-probability of tokens after a prompt, by the model's forward pass over each whole sequence."""
    total = 0.0
    for number, token in enumerate(tokens.tolist()):
        sequence = torch.from_numpy(np.concatenate([prompt, tokens[:number]]))[None]
        total += float(model(input_ids=sequence, use_cache=False).logits[0, -1].float().log_softmax(-1)[token])
    return total


def try_all(wanted: Iterable[str] = (), tell: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Outcomes by name of the architecture or variant, each told when it is known."""
    kinds = {kind.model_type: kind for kind in MODEL_FOR_CAUSAL_LM_MAPPING}
    tried = {name: (kind, SPECIAL.get(name, {})) for name, kind in sorted(kinds.items())}
    tried |= {
        name: (CONFIG_MAPPING[kind], SPECIAL.get(kind, {}) | settings) for name, (kind, settings) in VARIANTS.items()
    }
    chosen = set(wanted) or set(tried)
    if unknown := chosen - set(tried):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}")
    outcomes = {}
    for name, (kind, settings) in tried.items():
        if name in chosen:
            outcomes[name] = outcome(kind, settings)
            tell(f"{name}: {outcomes[name]}")
    return outcomes


def table(outcomes: dict[str, str]) -> str:
    """Markdown: the architectures that work, and those refused for each reason."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, found in outcomes.items():
        reason = re.sub(r"^beams cannot be decoded side by side with model type \S+: ", "", found)
        groups["not tried" if found.startswith("not tried") else reason].append(f"{name}")
    order = sorted(groups, key=lambda reason: (reason != WORKS, reason == "not tried", -len(groups[reason])))
    rows = [f"| {reason} | {len(groups[reason])} | {'; '.join(groups[reason])} |" for reason in order]
    version = importlib.metadata.version("transformers")
    command = "`python docs/scripts/architectures.py`"
    about = f"{len(outcomes)} architectures and variants of transformers {version}, by {command}:"
    return "\n".join([about, "", "| works, or why it is refused | n | model types |", "|---|---|---|", *rows])


def main() -> None:
    """Try, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names
    logging.disable(logging.WARNING)
    outcomes = try_all(names, functools.partial(print, flush=True))
    if not names:
        before, _, rest = PAGE.read_text().partition(START)
        PAGE.write_text(f"{before}{START}\n{table(outcomes)}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
