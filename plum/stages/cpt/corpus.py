"""All documents of a run, written once and read as batches: the folder ``cpt/corpus``."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from plum.config.corpus import BehaviourDocuments, MetadataDocuments, ReplayDocuments
from plum.config.language_model import CptConfig
from plum.config.run import RunConfig
from plum.config.templates import SID
from plum.corpus import behaviour, metadata, replay
from plum.corpus.behaviour import BinField, Field, ItemForm, TextField, Texts
from plum.corpus.bins import Bins
from plum.corpus.documents import Document, Draft, Frame
from plum.corpus.encoder import Encoder
from plum.corpus.fields import as_text
from plum.corpus.metadata import Sentence
from plum.corpus.shards import HELD_OUT, TRAIN, Documents, read_documents, write_documents
from plum.lm import documents, vocab
from plum.run import artifacts, shapes
from plum.run.writing import make_folder
from plum.stages.cpt import base, reading
from plum.stages.cpt.reading import Sources

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

CORPUS = "corpus"
SUMMARY, WHO = "corpus.json", "held_out.parquet"
TOKENIZER_CHARACTERS = 1 << 24
"""Of general text that a new tokenizer learns its words from, at most."""


@dataclass(frozen=True)
class Corpus:
    """The documents of a run by name, mapped into memory.

    Attributes:
        train: those that are trained on.
        held_out: those of held-out users and items; general text has none.
    """

    train: Mapping[str, Documents]
    held_out: Mapping[str, Documents]


class CorpusWriter:
    """Writes the documents of all kinds, one after the other.

    Args:
        settings: of the stage.
        sources: what documents are made of.
        tokenizer: extended by the tokens of codes and bins.
        given: numbers and texts of interactions, and the bins of the numbers.
        seed: of the run.
    """

    def __init__(
        self,
        settings: CptConfig,
        sources: Sources,
        tokenizer: PreTrainedTokenizerBase,
        given: tuple[dict[str, np.ndarray], Mapping[str, np.ndarray], Bins],
        seed: int,
    ) -> None:
        self._settings, self.sources, self.tokenizer, self._seed = settings, sources, tokenizer, seed
        self._numbers, self._texts, self._bins = given
        self._sids = vocab.codec_of(tokenizer, sources.table.sizes).encode(sources.table.codes)
        self._encoder = Encoder(tokenizer, self._bins.tokens())
        self._frame = Frame(tokenizer.bos_token_id, end_token(tokenizer), settings.context_length)

    def write(self, folder: Path) -> None:
        """Write ``<name>/train-*.arrow`` and ``<name>/held_out-*.arrow`` for each kind, and what they hold."""
        make_folder(folder)
        kinds, spent = {}, 0
        for name, section in self._settings.corpus.documents.items():
            n = {
                part: write_documents(folder / name, part, self._documents(section, part == HELD_OUT, spent))
                for part in (TRAIN, HELD_OUT)
            }
            found = {part: len(read_documents(folder / name, part)) for part in n}
            spent = spent or round(n[TRAIN] / section.weight)  # an epoch is a pass over the first
            kinds[name] = {
                "kind": section.kind,
                "documents": found[TRAIN],
                "tokens": n[TRAIN],
                "held_out_documents": found[HELD_OUT],
                "held_out_tokens": n[HELD_OUT],
            }
            logger.info("cpt: %s documents of %s, %s tokens", f"{found[TRAIN]:,}", name, f"{n[TRAIN]:,}")
        artifacts.write_json(folder / SUMMARY, {"kinds": kinds})
        artifacts.write_table(folder / WHO, _who(self.sources))

    def encode(self, found: Sequence[Sequence[str | int]]) -> list[np.ndarray]:
        """Token ids of documents, not closed, given as texts and, for Semantic IDs, rows of items."""
        return [np.concatenate([self._frame.opening, *self._encoded(parts)]).astype(np.int64) for parts in found]

    def _encoded(self, parts: Sequence[str | int]) -> Iterator[np.ndarray]:
        """The parts, neighbouring texts as one; the blank before a Semantic ID or at the end is no part of a text."""
        for is_text, run in itertools.groupby(parts, lambda part: isinstance(part, str)):
            if is_text:
                yield from self._encoder.encode([text] if (text := "".join(map(str, run)).rstrip()) else [])
            else:
                yield from (self._sids[int(row)] for row in run)

    def new_tokens(self) -> np.ndarray:
        """Token ids (N,) of all codes and bins."""
        bins = self.tokenizer.convert_tokens_to_ids(list(self._bins.tokens()))
        return np.concatenate([vocab.flat_token_ids(self.tokenizer, self.sources.table.sizes), np.array(bins, int)])

    def write_extras(self, folder: Path) -> None:
        """Write into the model's folder what belongs to it beside its weights: the bins, and whose codes it knows."""
        base.write_extras(folder, self.sources.table, self._bins)

    def examples(self) -> Iterator[tuple[str, Iterator[Document]]]:
        """Each kind of documents that are trained on, by name, not written."""
        for name, section in self._settings.corpus.documents.items():
            yield name, self._documents(section, held=False, spent=0)

    def _documents(
        self, section: BehaviourDocuments | MetadataDocuments | ReplayDocuments, held: bool, spent: int
    ) -> Iterator[Document]:
        if isinstance(section, BehaviourDocuments):
            drafts = self._behaviour(section, held)
        elif isinstance(section, MetadataDocuments):
            drafts = self._metadata(section, held)
        else:
            drafts = iter(()) if held else self._replay(section, spent)
        return itertools.chain.from_iterable(map(self._frame.fit, drafts))

    def _behaviour(self, section: BehaviourDocuments, held: bool) -> Iterator[Draft]:
        template = reading.section_template(section)
        rows = self.sources.items_of_interactions
        fields: dict[str, Field] = {name: self._bin_field(name) for name in template.fields if name in self._numbers}
        for name, values in self._texts.items():
            if name in template.fields:
                fields[name] = self._text_field(section, values)
        for name in reading.text_columns(self.sources, set(template.fields) - {SID, *fields}):
            texts = Texts.joined(list(self._item_texts(section, name)))
            if len(texts.tokens):
                fields[name] = TextField(texts, rows)
        form = ItemForm(template, self._sids, fields, self._encoder)
        opening = documents.history_prefix(self.tokenizer)[len(self._frame.opening) :]
        histories, users = self.sources.histories.train, self.sources.held_users
        return behaviour.drafts(histories, users == held, form, opening, self._settings.max_history)

    def _bin_field(self, name: str) -> BinField:
        names = Bins({name: self._bins.edges[name]}).tokens()
        ids = np.array(self.tokenizer.convert_tokens_to_ids(names), dtype=np.int32)
        return BinField(self._bins.place(name, self._numbers[name]), ids)

    def _text_field(self, section: BehaviourDocuments, values: np.ndarray) -> TextField:
        """A text of interactions, each different one encoded once."""
        rows, different = pd.factorize(pd.Series([as_text(value) for value in values]))
        cut = self._short([str(text) for text in different], section.text_tokens)
        return TextField(Texts.joined(cut), rows)

    def _item_texts(self, section: BehaviourDocuments, name: str) -> Iterator[np.ndarray]:
        """A text of every item; held-out items have none, or their histories would tell what is held out."""
        for rows, columns in self.sources.items([name]):
            held = self.sources.held_items[rows]
            texts = ["" if left else as_text(value) for value, left in zip(columns[name], held, strict=True)]
            yield from self._short(texts, section.text_tokens)

    def _short(self, texts: list[str], longest: int) -> list[np.ndarray]:
        """Texts as they go on after a token, cut."""
        spaced = [f" {text}" if text else "" for text in texts]
        return [ids[: longest * bool(text)] for ids, text in zip(self._encoder.encode(spaced), texts, strict=True)]

    def _metadata(self, section: MetadataDocuments, held: bool) -> Iterator[Draft]:
        for facts in item_facts(self.sources, section, self._seed, held):
            yield from metadata.drafts(facts, self._sids, self._encoder)

    def _replay(self, section: ReplayDocuments, spent: int) -> Iterator[Draft]:
        """General text, no more than all epochs need beside the other kinds."""
        drafts = replay.drafts(replay.texts(section.files, section.column), self._encoder)
        if not spent or self._settings.corpus.unit == "epochs":
            return drafts
        return replay.limited(drafts, round(self._settings.epochs * spent * section.weight))


def prepare(config: RunConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, CorpusWriter]:
    """The base model, its tokenizer, and what writes the documents in its tokens.

    Raises:
        PlumError: if the base or a template can't be used.
    """
    settings = config.cpt
    sources = reading.read(config.workdir, settings.corpus, config.seed)
    given = reading.numbers_and_bins(sources, settings.corpus, base.earlier_bins(settings.base))
    words = tokenizer_texts(settings, sources, config.seed)
    model, tokenizer = base.load(config, sources.table, given[-1].tokens(), words)
    return model, tokenizer, CorpusWriter(settings, sources, tokenizer, given, config.seed)


def item_facts(sources: Sources, section: MetadataDocuments, seed: int, held: bool) -> Iterator[list[Sentence]]:
    """The facts about held-out items, or about the others, some items at a time."""
    templates = reading.templates(section)
    named = {name for forms in templates.values() for form in forms for name in form.fields}
    columns = reading.item_columns(sources, named)
    for rows, values in sources.items(columns) if columns else ():
        chosen = sources.held_items[rows] == held
        some = {name: list(itertools.compress(found, chosen)) for name, found in values.items()}
        yield list(metadata.facts(rows[chosen].tolist(), some, templates, seed))


def tokenizer_texts(settings: CptConfig, sources: Sources, seed: int) -> Iterator[str]:
    """What a new tokenizer learns its words from: all that is trained on, without Semantic IDs."""
    yield documents.HISTORY_PREFIX
    for section in settings.corpus.documents.values():
        if isinstance(section, MetadataDocuments):
            for facts in item_facts(sources, section, seed, held=False):
                yield from (fact.text for fact in facts)
        elif isinstance(section, ReplayDocuments):
            left = TOKENIZER_CHARACTERS
            for text in replay.texts(section.files, section.column):
                if (left := left - len(text)) < 0:
                    break
                yield text


def _who(sources: Sources) -> pd.DataFrame:
    """The held-out users and items, by id."""
    users = sources.histories.user_ids[sources.held_users].astype(str)
    items = sources.item_ids[sources.held_items].astype(str)
    what = ["user"] * len(users) + ["item"] * len(items)
    return pd.DataFrame({"what": what, "id": [*users, *items]}, dtype="str")


def read(folder: Path) -> Corpus:
    """The documents of ``cpt/corpus``.

    Raises:
        PlumError: if they were changed or are damaged.
    """
    kinds = artifacts.read_json(folder / SUMMARY, shapes.Corpus)["kinds"]
    parts = ({name: read_documents(folder / name, part) for name in kinds} for part in (TRAIN, HELD_OUT))
    return Corpus(*parts)


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that closes a document."""
    for token in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise ValueError("a tokenizer needs an end or a padding token")
