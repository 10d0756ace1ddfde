"""Configuration of the documents that continued pre-training reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from plum.config.base import Length, Section, UserPath, Weight
from plum.config.templates import SID, parse_template

KINDS = ("behaviour", "metadata", "replay")
HALF = 0.5
_Bins = Annotated[int, Field(ge=2, le=1000)]


def _template(text: str) -> str:
    parse_template(text)
    return text


def _fact(text: str) -> str:
    if parse_template(text).fields == (SID,):
        raise ValueError(f"template {text!r} names no field beside {{{SID}}}, so it says nothing about the item")
    return text


Templates = Annotated[list[Annotated[str, AfterValidator(_fact)]], Field(min_length=1)]
FACTS: dict[str, list[str]] = {
    "title": [
        "Item {sid} has title: {title}",
        "{sid} is called {title}",
        "The title of item {sid} is {title}",
    ],
    "title_to_sid": [
        "{title} is item {sid}",
        "The item called {title} is {sid}",
        "Title: {title} Item: {sid}",
    ],
    "topics": [
        "The topics in item {sid} are: {topics}",
        "{sid} is about {topics}",
        "Item {sid} belongs to {topics}",
    ],
    "topics_to_sid": [
        "An item about {topics} is {sid}",
        "Topics: {topics} Item: {sid}",
    ],
    "creator": [
        "Item {sid} was made by: {creator}",
        "{sid} is by {creator}",
    ],
    "creator_to_sid": [
        "{creator} made item {sid}",
        "An item by {creator} is {sid}",
    ],
    "description": [
        "Item {sid} is described as: {description}",
        "About {sid}: {description}",
    ],
    "description_to_sid": [
        "{description} This is item {sid}",
    ],
}
"""The default templates, by what a document tells: from the Semantic ID to the text, and back."""


class BehaviourDocuments(Section):
    """User histories as documents: ``wh =`` and the items, oldest first."""

    kind: Literal["behaviour"] = "behaviour"
    """Documents of users' histories."""
    weight: Weight = HALF
    """Its share of the training tokens beside the weights of the other kinds."""
    template: Annotated[str, AfterValidator(_template)] = "{sid}"
    """What stands for each item. ``{sid}`` alone is what fine-tuning and retrieval read. Further fields: ``{gap}``, the
    hours since the user's last interaction; ``{rating}`` and other columns of the interactions; ``{title}``,
    ``{topics}``, ``{creator}`` and other columns of the items. Numbers become bin tokens such as ``<|rating_3|>``. A
    field without a value is left out, with the text before it."""
    bins: _Bins = 8
    """Bins per number, quantiles of the training part. A number with fewer different values gets one bin for each."""
    text_tokens: Length = 8
    """Text in the template is cut to this many tokens."""


class MetadataDocuments(Section):
    """What is known of each item, in sentences that hold its Semantic ID."""

    kind: Literal["metadata"] = "metadata"
    """Documents of items' texts."""
    weight: Weight = HALF
    """Its share of the training tokens beside the weights of the other kinds."""
    templates: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Templates] = Field(
        default=FACTS, min_length=1, validate_default=True
    )
    """Name -> templates. Each name gives every item one document, in a template drawn by the seed from those whose
    fields the item has. With ``{sid}`` first the model learns to describe an item, with ``{sid}`` last to find it. Give
    all that you want: your mapping replaces the default one."""


class ReplayDocuments(Section):
    """General text, against forgetting."""

    kind: Literal["replay"] = "replay"
    """Documents of general text."""
    files: list[UserPath] = Field(min_length=1)
    """Text files, whose documents are paragraphs; or .jsonl and .parquet with a document per row. They are streamed,
    and read no further than the training needs."""
    column: str = "text"
    """jsonl and parquet: where the text is."""
    weight: Weight = HALF
    """Its share of the training tokens beside the weights of the other kinds."""


Documents = Annotated[BehaviourDocuments | MetadataDocuments | ReplayDocuments, Field(discriminator="kind")]


class CorpusConfig(Section):
    """What continued pre-training reads; PLUM's half behaviour and half metadata by default (section 2.2)."""

    behaviour: BehaviourDocuments = BehaviourDocuments()
    """User histories."""
    metadata: MetadataDocuments = MetadataDocuments()
    """Item texts."""
    replay: ReplayDocuments | None = None
    """General text; none by default."""
    more: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Documents] = Field(default={})
    """Further documents by name, each of one ``kind``: ``{reviews: {kind: replay, files: [reviews.jsonl], weight:
    0.2}}``."""
    unit: Literal["tokens", "epochs"] = "tokens"
    """What weights count. tokens: shares of the training tokens; an epoch is one pass over the first documents with a
    weight. epochs: passes over the documents in each epoch, ``{behaviour: 1, metadata: 0.5}`` for example."""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.01
    """Share of users, and of items, drawn by the seed, whose documents are not trained on: the losses on them show what
    was learnt. At least 10 of each, but at most a twentieth."""

    @property
    def documents(self) -> dict[str, BehaviourDocuments | MetadataDocuments | ReplayDocuments]:
        """All documents with a weight, by name."""
        named = {"behaviour": self.behaviour, "metadata": self.metadata, "replay": self.replay, **self.more}
        return {name: section for name, section in named.items() if section is not None and section.weight > 0}

    @model_validator(mode="after")
    def _something_is_read(self) -> CorpusConfig:
        if taken := [name for name in self.more if name in KINDS]:
            raise ValueError(f"more: {taken[0]} has a section of its own; give its settings there")
        if len({section.bins for section in self.documents.values() if isinstance(section, BehaviourDocuments)}) > 1:
            raise ValueError("there are behaviour documents with different bins, and a number has one set of tokens")
        if not self.documents:
            raise ValueError("all weights are 0, so there is nothing to read")
        return self


def with_short_form(given: Any) -> Any:
    """Settings of stage cpt with ``behaviour_share: 0.7`` written out as weights of behaviour and metadata.

    Raises:
        ValueError: if the weights are given too, or it is no share.
    """
    if not isinstance(given, dict) or "behaviour_share" not in given:
        return given
    share, corpus = given["behaviour_share"], given.get("corpus") or {}
    inner = {name: corpus.get(name) or {} for name in KINDS[:2]} if isinstance(corpus, dict) else {}
    if not inner or any(not isinstance(section, dict) or "weight" in section for section in inner.values()):
        raise ValueError("behaviour_share is short for corpus.behaviour.weight and corpus.metadata.weight: give one")
    try:
        number = float(share)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(share, bool) or not 0.001 <= number <= 0.999:
        raise ValueError(f"behaviour_share is a share from 0.001 to 0.999 (given: {share!r})")
    weights = {"behaviour": number, "metadata": 1 - number}
    sections = {name: {**section, "weight": weights[name]} for name, section in inner.items()}
    return {name: value for name, value in given.items() if name != "behaviour_share"} | {"corpus": corpus | sections}
