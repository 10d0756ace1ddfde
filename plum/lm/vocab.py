"""Tokenizer and embeddings of a language model with Semantic-ID tokens, from scratch or pre-trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AddedToken,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from plum.errors import PlumError
from plum.sid.codec import Codec, sid_tokens

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
OTHER_TOKENIZER = "correct the token in the model's folder, or choose another cpt.base"


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


def add_sid_tokens(tokenizer: PreTrainedTokenizerBase, sizes: Sequence[int]) -> int:
    """Extend a tokenizer by one token per code; return the number of new tokens."""
    return add_tokens(tokenizer, sid_tokens(sizes))


def add_tokens(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> int:
    """Extend a tokenizer; return the number of new tokens.

    The tokens are looked for in the text as it stands, before any normaliser: one that puts a space before each piece
    of text (Mistral, Phi-3) or changes letters would else break all but the first code of a Semantic ID.
    """
    tokens = [
        AddedToken(name, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
        for name in names
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
    more: Sequence[str] = (),
) -> None:
    """Give every Semantic-ID token, and each of some more, its own embedding row.

    New rows are the mean of the old ones plus a deviation of a tenth of their spread: within the model's embedding
    space, yet all different. Unused padding rows of the matrix are overwritten, because they were never trained.

    Args:
        model: pre-trained.
        tokenizer: already extended by these tokens.
        sizes: codes per level; none if all codes have their rows.
        directions: (C, W) of mean square 1 for the first levels, the directions of their deviations; later levels get
            random ones.
        more: names of further new tokens.
    """
    n_rows = len(_matrix(model.get_input_embeddings()))
    before = min(n_rows, len(tokenizer))
    codes = flat_token_ids(tokenizer, sizes) if sizes else np.zeros(0, np.int64)
    new_ids = torch.from_numpy(np.append(codes, np.array(tokenizer.convert_tokens_to_ids(list(more)), np.int64)))
    if not len(new_ids):
        return
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
        PlumError: if it was not, or two codes, or a code and a control token, are the same token.
    """
    vocabulary = tokenizer.get_vocab()
    try:
        codec = Codec.from_vocabulary(sizes, vocabulary)
    except KeyError as error:
        raise PlumError(
            "the language model has no token for a code of the Semantic IDs",
            str(error),
            "run `plum cpt` again: the model was made for other Semantic IDs",
        ) from None
    names, ids = sid_tokens(sizes), np.concatenate(codec.token_ids).tolist()
    owners = dict(zip(ids, names, strict=True))
    for name, number in vocabulary.items():
        if owners.get(number, name) != name:
            raise PlumError(f"two names are the same token {number}", f"{owners[number]} and {name}", OTHER_TOKENIZER)
    controls = {"end": tokenizer.eos_token_id, "padding": tokenizer.pad_token_id, "start": tokenizer.bos_token_id}
    _refuse_codes(owners, controls, "tokenizer")
    return codec


def check_control_tokens(model: PreTrainedModel, codec: Codec) -> None:
    """Refuse a model whose own end, padding or start token is one of the codes: it would never be trained.

    Raises:
        PlumError: naming the key of its configuration.
    """
    config: Any = model.config.get_text_config()
    keys = ("eos_token_id", "pad_token_id", "bos_token_id")
    codes = dict.fromkeys(np.concatenate(codec.token_ids).tolist(), "a code of the Semantic IDs")
    _refuse_codes(codes, {key: getattr(config, key, None) for key in keys}, "config.json")


def _refuse_codes(codes: dict[int, str], controls: dict[str, Any], where: str) -> None:
    """Refuse control tokens, given by role, that are among the tokens of codes."""
    for role, given in controls.items():
        for number in given if isinstance(given, list) else [given]:
            if number in codes:
                raise PlumError(
                    f"the model's {role} token is the token of a code",
                    f"{number} in its {where}, which is {codes[number]}",
                    OTHER_TOKENIZER,
                )
