"""The base model of continued pre-training, its vocabulary extended by the tokens of codes and bins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.config.language_model import SCRATCH
from plum.config.run import RunConfig
from plum.corpus.bins import Bins
from plum.decoding.tree import check_tree_attention
from plum.decoding.trie import fingerprint
from plum.errors import PlumError
from plum.lm import bases, vocab
from plum.lm.codewords import code_directions
from plum.lm.logits import check_head
from plum.run import saved, shapes
from plum.run.artifacts import MODEL_EXTRAS, write_json
from plum.sid.codec import SID_OPENING
from plum.sid.table import SidTable
from plum.stages import inputs

VERSION = 1  # of MODEL_EXTRAS

Base = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def files(base: str) -> list[Path]:
    """The files that a base model is read from; none for scratch or a hub model."""
    return [] if base == SCRATCH else bases.files_of(base)


def load(config: RunConfig, table: SidTable, bins: Sequence[str], texts: Iterable[str]) -> Base:
    """The base model, with an embedding for every code, made of its codeword, and for every bin.

    Args:
        config: of the run.
        table: the Semantic IDs.
        bins: names of the bins' tokens.
        texts: from which a new tokenizer learns its words; not read for a given base.

    Raises:
        PlumError: if the base can't be used, or knows the Semantic IDs of another run.
    """
    if config.cpt.base == SCRATCH:
        return _scratch(config, table, bins, texts)
    model, tokenizer = bases.base_model(config.cpt.base)
    knows_sids = _knows_sids(config.cpt.base, tokenizer, table)
    vocab.add_sid_tokens(tokenizer, table.sizes)
    before = tokenizer.get_vocab()
    new = [name for name in bins if name not in before]
    vocab.add_tokens(tokenizer, new)
    sizes = () if knows_sids else table.sizes
    codebooks = inputs.read_codebooks(config.workdir)
    directions = () if knows_sids else code_directions(codebooks, vocab.embedding_width(model), config.seed)
    vocab.extend_embeddings(model, tokenizer, sizes, directions, new)
    vocab.check_control_tokens(model, vocab.codec_of(tokenizer, table.sizes))
    check_head(model)
    check_tree_attention(model)
    return model, tokenizer


def _scratch(config: RunConfig, table: SidTable, bins: Sequence[str], texts: Iterable[str]) -> Base:
    """A small model with random weights and a tokenizer of its own."""
    shape = config.cpt.scratch
    tokenizer = vocab.train_tokenizer(texts, shape.text_vocabulary)
    vocab.add_sid_tokens(tokenizer, table.sizes)
    vocab.add_tokens(tokenizer, bins)
    model = vocab.scratch_model(
        vocab.ScratchShape(shape.hidden_size, shape.layers, shape.heads, shape.intermediate_size),
        tokenizer,
        max(config.cpt.context_length, 2048),
    )
    directions = code_directions(inputs.read_codebooks(config.workdir), shape.hidden_size, config.seed)
    vocab.place_codes(model, vocab.codec_of(tokenizer, table.sizes), directions)
    return model, tokenizer


def earlier_bins(base: str) -> Bins:
    """The bins of the numbers that a base was trained on; none for one that plum did not make."""
    path = Path(base) / MODEL_EXTRAS
    if base == SCRATCH or not path.is_file():
        return Bins()
    return Bins.from_json(saved.read_settings(path, VERSION, "choose another cpt.base", shapes.ModelExtras)["bins"])


def write_extras(folder: Path, table: SidTable, bins: Bins) -> None:
    """Write, into a model's folder, whose Semantic IDs it knows, and the bins of its numbers."""
    sids = fingerprint(table.codes, table.sizes)
    write_json(folder / MODEL_EXTRAS, {"version": VERSION, "semantic_ids": sids, "bins": bins.as_json()})


def _knows_sids(base: str, tokenizer: PreTrainedTokenizerBase, table: SidTable) -> bool:
    """Whether the base was trained on these Semantic IDs.

    Raises:
        PlumError: if it was trained on others: its codes' tokens would mean other items.
    """
    if not any(name.startswith(SID_OPENING) for name in tokenizer.get_vocab()):
        return False
    path, again = (
        Path(base) / MODEL_EXTRAS,
        "give the model that it was made from, or continue in the run that made it",
    )
    what = f"cpt.base: {base} knows Semantic IDs, but not those of this run"
    if not path.is_file():
        raise PlumError(what, f"it has codes in its vocabulary and no {MODEL_EXTRAS} that tells whose they are", again)
    found = saved.read_settings(path, VERSION, again, shapes.ModelExtras)
    if found["semantic_ids"] != fingerprint(table.codes, table.sizes):
        raise PlumError(what, "its codes are of other items, or of another tokenizer", again)
    return True
