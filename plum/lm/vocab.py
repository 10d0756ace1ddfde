"""Tokenizer and embeddings of a language model with Semantic-ID tokens, from scratch or pre-trained."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AddedToken,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from plum.errors import PlumError
from plum.sid.codec import Codec, sid_tokens

# Its progress bars for loading and saving would interfere with ours and with the log.
hf_logging.disable_progress_bar()

logger = logging.getLogger(__name__)
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"


@dataclass(frozen=True)
class ScratchShape:
    """Shape of a Llama-type model trained from random weights."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, without Semantic-ID tokens yet.

    Args:
        texts: the corpus.
        vocabulary_size: at most this many tokens, including the special ones and the 256 bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def scratch_model(shape: ScratchShape, tokenizer: PreTrainedTokenizerBase, context_length: int) -> LlamaForCausalLM:
    """A Llama-type model with random weights and tied embeddings for a tokenizer's whole vocabulary."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def load_pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a decoder-only model and its tokenizer from a local folder or the hub, in float32.

    Raises:
        PlumError: if it can't be loaded, is not a causal language model, or is incomplete.
    """
    what = f"cpt.base: no decoder-only language model could be loaded from {name!r}"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # damaged files may raise anything
        lines = str(error).strip().splitlines()
        raise PlumError(
            what,
            f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__,
            "give a folder with config.json, weights and tokenizer, a hub id that this machine can reach, or `scratch`",
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise PlumError(
            what,
            f"{len(missing)} of its weights are missing, the first is {missing[0]}",
            "give a complete checkpoint of a causal language model (missing weights would be random)",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise PlumError(what, "its tokenizer has neither a padding nor an end token", "add one of them")
    return model, tokenizer


def add_sid_tokens(tokenizer: PreTrainedTokenizerBase, sizes: Sequence[int]) -> int:
    """Extend a tokenizer by one token per code; return the number of new tokens.

    The tokens are looked for in the text as it stands, before any normaliser: one that puts a space before each piece
    of text (Mistral, Phi-3) or changes letters would else break all but the first code of a Semantic ID.
    """
    tokens = [
        AddedToken(token, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
        for token in sid_tokens(sizes)
    ]
    return tokenizer.add_tokens(tokens)  # type: ignore[arg-type]


def place_codes(model: PreTrainedModel, codec: Codec, directions: Sequence[np.ndarray]) -> None:
    """Initialise the codes' embeddings of a new model along given directions, at the scale of its other embeddings.

    Args:
        model: with random weights.
        codec: the codes' tokens.
        directions: (C, W) of mean square 1 for the first levels; later levels keep their random embeddings.
    """
    scale = model.config.get_text_config().initializer_range
    with torch.no_grad():
        for matrix in _vocabulary_matrices(model):
            for ids, rows in zip(codec.token_ids, directions, strict=False):
                matrix[torch.from_numpy(ids)] = scale * torch.from_numpy(rows).to(matrix)


def extend_embeddings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sizes: Sequence[int],
    directions: Sequence[np.ndarray] = (),
) -> None:
    """Give every Semantic-ID token its own embedding row.

    New rows are the mean of the old ones plus a deviation of a tenth of their spread: within the model's embedding
    space, yet all different. Unused padding rows of the matrix are overwritten, because they were never trained.

    Args:
        model: pre-trained.
        tokenizer: already extended by the codes' tokens.
        sizes: codes per level.
        directions: (C, W) of mean square 1 for the first levels, the directions of their deviations; later levels get
            random ones.
    """
    n_rows = len(_matrix(model.get_input_embeddings()))
    before = min(n_rows, len(tokenizer))
    new_ids = torch.from_numpy(flat_token_ids(tokenizer, sizes))
    known = torch.ones(before, dtype=torch.bool)
    known[new_ids[new_ids < before]] = False
    needed = max(len(tokenizer), int(new_ids.max()) + 1)
    if needed > n_rows:
        model.resize_token_embeddings(needed, mean_resizing=False)
    given = torch.from_numpy(np.concatenate([np.zeros((0, embedding_width(model)), np.float32), *directions]))
    with torch.no_grad():
        for matrix in _vocabulary_matrices(model):
            old = matrix[:before][known.to(matrix.device)]
            ways = torch.randn(len(new_ids), matrix.shape[1], dtype=matrix.dtype)
            ways[: len(given)] = given.to(matrix.dtype)
            matrix[new_ids.to(matrix.device)] = old.mean(0) + 0.1 * old.std(0) * ways.to(matrix.device)


def embedding_width(model: PreTrainedModel) -> int:
    """W, the width of a model's embeddings."""
    return _matrix(model.get_input_embeddings()).shape[1]


def _vocabulary_matrices(model: PreTrainedModel) -> list[Tensor]:
    """The input embeddings and, if it is another matrix, the output head's."""
    embeddings, head = _matrix(model.get_input_embeddings()), _matrix(model.get_output_embeddings())
    return [embeddings] if head is embeddings else [embeddings, head]


def _matrix(layer: nn.Module | None) -> Tensor:
    """The weight (V, D) of an embedding or an output head."""
    holder: Any = layer
    return holder.weight


def flat_token_ids(tokenizer: PreTrainedTokenizerBase, sizes: Sequence[int]) -> np.ndarray:
    """Token ids of all codes, level by level, as one int64 array."""
    return np.concatenate(codec_of(tokenizer, sizes).token_ids)


def codec_of(tokenizer: PreTrainedTokenizerBase, sizes: Sequence[int]) -> Codec:
    """The codec of a tokenizer that was extended with these codes.

    Raises:
        PlumError: if it was not.
    """
    try:
        return Codec.from_vocabulary(sizes, tokenizer.get_vocab())
    except KeyError as error:
        raise PlumError(
            "the language model has no token for a code of the Semantic IDs",
            str(error),
            "run `plum cpt` again: the model was made for other Semantic IDs",
        ) from None


def load_model_folder(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and tokenizer that an earlier stage of this run wrote."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def save_model_folder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a model (safetensors) and its tokenizer as one Hugging Face folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
