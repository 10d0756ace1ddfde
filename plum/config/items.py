"""Configuration of the stages that turn items into Semantic IDs: features and tokenize."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from plum.config.base import Count, Section, Share, UserPath
from plum.config.models import TrainingConfig

BEHAVIOUR = ("cooccurrence", "dense")
"""Encoders of training histories: their vectors are no content, and later items have none."""
TEXT_FIELDS = ("title", "topics", "creator", "description")


class ModalityConfig(Section):
    """One content embedding of every item."""

    encoder: Literal["tfidf", "topics", "sentence-transformers", "cooccurrence", "dense", "numeric", "file"] = "tfidf"
    """cooccurrence: vectors of which items training histories hold together, for catalogues with little content;
    dense: the dense baseline's vectors of items, which is then trained first; numeric: standardised numbers; file:
    vectors of your own."""
    fields: list[str] = Field(default=["title", "creator", "description"], min_length=1, validate_default=True)
    """tfidf and sentence-transformers: title, topics, creator, description; numeric: further columns of the items."""
    dimensions: Count = 64
    """Width after SVD, for tfidf, topics and cooccurrence."""
    window: Count | None = None
    """cooccurrence: items at most this many places apart are a pair; by default any two of a history."""
    model: str | None = None
    """sentence-transformers: a hub id, a local folder, or ``package:NAME`` for a model that a Python package ships."""
    path: UserPath | None = None
    """file: a float32 .npy of shape (N, D), rows in the order of items.parquet; or a .parquet with a column item_id and
    a column of lists of numbers, or D columns of numbers, in which items that have no vector may be left out."""

    @field_validator("fields")
    @classmethod
    def _fields_are_of_the_encoder(cls, fields: list[str], info: ValidationInfo) -> list[str]:
        encoder = info.data.get("encoder")  # none if it is itself a mistake
        if encoder == "numeric":
            if set(fields) & set(TEXT_FIELDS):
                raise ValueError("encoder numeric needs numeric columns of the items, such as [price]")
            if len(set(fields)) < len(fields):
                raise ValueError("a field stands there twice")
            return fields
        for field in fields:
            if encoder and field not in TEXT_FIELDS:
                near = difflib.get_close_matches(field, TEXT_FIELDS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(TEXT_FIELDS)}"
                raise ValueError(f"there is no field {field!r} for this encoder; {hint}")
        return fields

    @model_validator(mode="after")
    def _encoder_has_its_source(self) -> ModalityConfig:
        if self.encoder == "sentence-transformers" and not self.model:
            raise ValueError("encoder sentence-transformers needs `model`")
        if self.encoder == "file" and not self.path:
            raise ValueError("encoder file needs `path`, a .npy or .parquet file")
        return self


class FeaturesConfig(Section):
    """Item content -> dense vectors, one per modality."""

    modalities: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ModalityConfig] = Field(
        default={
            "text": ModalityConfig(),
            "topics": ModalityConfig(encoder="topics", fields=["topics"]),
        },
        min_length=1,
    )

    @field_validator("modalities")
    @classmethod
    def _names_are_free(cls, modalities: dict[str, ModalityConfig]) -> dict[str, ModalityConfig]:
        if "item_id" in modalities:
            raise ValueError("no modality can be called item_id: that is the column which names the items")
        return modalities

    def is_default(self, name: str) -> bool:
        """Whether a modality is one of those that every catalogue is tried with: it may be missing from the data."""
        default: dict[str, ModalityConfig] = type(self).model_fields["modalities"].default
        return default.get(name) == self.modalities[name]


class TokenizeConfig(TrainingConfig):
    """Items -> Semantic IDs by an RQ-VAE (PLUM section 2.1; TIGER section 3.1)."""

    epochs: Count = 100
    batch_size: Count = 256
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    method: Literal["rqvae", "rqkmeans", "random"] = "rqvae"
    """rqkmeans: residual k-means of the content, without training; random: codes that mean nothing, as a control."""
    codebook_sizes: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)] | None = None
    """Codes per level; by default chosen from the catalogue size (see ``plum.sid.table.default_sizes``)."""
    latent_dim: Count = 32
    hidden_dim: Count = 128
    beta: Annotated[float, Field(ge=0)] = 0.25
    """Weight of the commitment term (PLUM section 2.1)."""
    progressive_masking: bool = True
    """Each step reconstructs from the first r levels, r drawn uniformly (PLUM section 2.1)."""
    codebook_updates: Literal["gradient", "ema"] = "gradient"
    """Codewords move by gradients, or are moving averages of what they quantise (van den Oord et al. 2017)."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """ema: how much of the averages each step keeps (van den Oord et al. 2017, appendix A.1)."""
    kmeans_init: bool = True
    """Codebooks start from residual k-means of the catalogue, else from random codewords."""
    reset_dead_codes: bool = True
    """Codes that no item has move onto items after each epoch but those of the last tenth."""
    warm_start: UserPath | None = None
    """The folder of another run: start from the weights of its tokenizer, which must have the same shape, instead of
    random ones. For content vectors of the same space only, such as those of a fixed encoder."""
    compare_with: UserPath | None = None
    """The folder of another run: ``quality.json`` says how much of its Semantic IDs survives; by default that of
    ``warm_start``."""
    contrastive_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the co-occurrence term (PLUM section 2.1); 0 turns it off."""
    pairs: Literal["window", "session"] = "window"
    """Positive pairs are of the whole training history, or of its sessions only: no long pause between the two."""
    cooccurrence_window: Count = 3
    """Items at most this far apart in a training history, or in a session, are a positive pair."""
    session_minutes: Annotated[float, Field(gt=0)] = 30.0
    """session: the longest pause between two interactions of a session."""
    pair_sampling: Literal["count", "pmi"] = "count"
    """Pairs are drawn as often as they occur, or by how much more often than their items' popularity has it."""
    collision: Literal["suffix", "share", "reassign"] = "suffix"
    """suffix: one more code tells items with equal codes apart (TIGER); share: they share their SID (PLUM);
    reassign: the less popular of them move to the first free SID, level by level to the nearest code with room."""
    capacity: Count = 1
    """reassign: the most items of a SID."""
    min_usage: Share = 0.25
    """Stop if a level uses a smaller share of its codes."""
    min_perplexity_share: Share | None = 0.05
    """Stop if a level's perplexity is a smaller share of its codes: dead-code reset keeps codes in use, by an item or
    two, that the data have no need of. On MovieLens and Amazon Beauty levels are between 0.4 and 0.95."""
    max_bucket: Count | None = None
    """Stop if more items have the same codes, before collisions are dealt with."""
    min_uniqueness: Share | None = None
    """Stop if a smaller share of items has codes of its own, before collisions are dealt with."""

    @model_validator(mode="after")
    def _only_models_start_warm(self) -> TokenizeConfig:
        if self.warm_start is not None and self.method != "rqvae":
            raise ValueError(f"warm_start is for method rqvae; {self.method} has no weights to start from")
        return self
