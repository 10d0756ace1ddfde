"""What stage cpt measures its model with: held-out documents, validation users, and general text if there is some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from transformers import PreTrainedModel

from plum.config.corpus import MetadataDocuments
from plum.config.language_model import MeasureConfig
from plum.config.run import RunConfig
from plum.corpus.shards import Documents
from plum.lm import documents, vocab
from plum.lm.texts import read_documents
from plum.probes.english import English
from plum.probes.tasks import Task
from plum.stages import inputs
from plum.stages.cpt.corpus import Corpus, CorpusWriter, end_token
from plum.stages.cpt.measures import HeldOut, Material


class _Tokens(Sequence[np.ndarray]):
    """The token ids of some documents, read when they are asked for."""

    def __init__(self, found: Documents, rows: Sequence[int]) -> None:
        self._found, self._rows = found, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        return self._found.tokens(self._rows[place])


def material(config: RunConfig, model: PreTrainedModel, writer: CorpusWriter, corpus: Corpus) -> Material:
    """Everything that the measurements need.

    Args:
        config: of the run.
        model: on its device, before its first step.
        writer: of the documents.
        corpus: the documents.
    """
    sizes, sources, tokenizer = config.cpt.measure, writer.sources, writer.tokenizer
    catalogue = inputs.read_prepared(config.workdir, ("item_id", "title", "topics"), only=True)
    data = catalogue.only(sources.known)
    _, histories, targets = inputs.validation_sample(data, sizes.users, config.seed)
    end = end_token(tokenizer)
    return Material(
        model=model,
        tokenizer=tokenizer,
        codec=vocab.codec_of(tokenizer, sources.table.sizes),
        new_tokens=writer.new_tokens(),
        items=data.items,
        table=sources.table,
        popularity=data.popularity,
        held_items=sources.held_items,
        documents=_documents(config, corpus),
        histories=histories if sizes.users else [],
        targets=targets if sizes.users else [],
        prefix=documents.history_prefix(tokenizer),
        max_history=config.cpt.max_history,
        filter_seen=config.eval.filter_seen,
        encode=writer.encode,
        ends=[end],
        pad=end,
        templates=_templates(config),
        seed=config.seed,
        n_items=sizes.items,
        english=_english(sizes, writer, config.seed),
    )


def _documents(config: RunConfig, corpus: Corpus) -> dict[str, HeldOut]:
    """The documents of each kind that has held-out ones: of so many held-out users or items, and those trained on."""
    found = {}
    for name, section in config.cpt.corpus.documents.items():
        held, trained = corpus.held_out[name], corpus.train[name]
        most = config.cpt.measure.items if isinstance(section, MetadataDocuments) else config.cpt.measure.users
        owners = held.owners()
        rows = np.flatnonzero(np.isin(owners, np.unique(owners)[:most])).tolist()
        if rows:
            found[name] = HeldOut(_Tokens(held, rows), _Tokens(trained, range(len(trained))))
    return found


def _templates(config: RunConfig) -> Mapping[str, str]:
    """How the model is asked: the first template of each fact that it reads."""
    found: dict[str, str] = {}
    for section in config.cpt.corpus.documents.values():
        if isinstance(section, MetadataDocuments):
            found |= {name: forms[0] for name, forms in section.templates.items() if name not in found}
    return found


def _english(sizes: MeasureConfig, writer: CorpusWriter, seed: int) -> Callable[[], Task] | None:
    """The measurement of general text, if there is some.

    Raises:
        PlumError: if the file is no text.
    """
    if sizes.text is None:
        return None
    text = "\n".join(read_documents(sizes.text))
    return partial(English, writer.tokenizer, text, sizes.characters, sizes.gaps, seed)
