"""Configuration of the stages that turn items into Semantic IDs: features and tokenize."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from plum.config_data import Count, Section, Share, UserPath
from plum.config_models import TrainingConfig


class ModalityConfig(Section):
    """One content embedding of every item."""

    encoder: Literal["tfidf", "topics", "sentence-transformers", "cooccurrence", "file"] = "tfidf"
    """cooccurrence: vectors of which items training histories hold together, for catalogues with little content."""
    fields: list[Literal["title", "topics", "creator", "description"]] = Field(
        default=["title", "creator", "description"], min_length=1
    )
    dimensions: Count = 64
    """Width after SVD, for tfidf, topics and cooccurrence."""
    window: Count | None = None
    """cooccurrence: items at most this many places apart are a pair; by default any two of a history."""
    model: str | None = None
    """sentence-transformers: a hub id, a local folder, or ``package:NAME`` for a model that a Python package ships."""
    path: UserPath | None = None
    """file: a float32 .npy of shape (N, D), rows in the order of items.parquet."""

    @model_validator(mode="after")
    def _encoder_has_its_source(self) -> ModalityConfig:
        if self.encoder == "sentence-transformers" and not self.model:
            raise ValueError("encoder sentence-transformers needs `model`")
        if self.encoder == "file" and not self.path:
            raise ValueError("encoder file needs `path`, a .npy file")
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


class TokenizeConfig(TrainingConfig):
    """Items -> Semantic IDs by an RQ-VAE (PLUM section 2.1; TIGER section 3.1)."""

    epochs: Count = 100
    batch_size: Count = 256
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    method: Literal["rqvae", "rqkmeans"] = "rqvae"
    codebook_sizes: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)] | None = None
    """Codes per level; by default chosen from the catalogue size (see ``plum.sid.table.default_sizes``)."""
    latent_dim: Count = 32
    hidden_dim: Count = 128
    beta: Annotated[float, Field(ge=0)] = 0.25
    """Weight of the commitment term (PLUM section 2.1)."""
    progressive_masking: bool = True
    """Each step reconstructs from the first r levels, r drawn uniformly (PLUM section 2.1)."""
    contrastive_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the co-occurrence term (PLUM section 2.1); 0 turns it off."""
    cooccurrence_window: Count = 3
    """Items at most this far apart in a training history are a positive pair."""
    collision: Literal["suffix", "share", "reassign"] = "suffix"
    """suffix: one more code tells items with equal codes apart (TIGER); share: they share their SID (PLUM);
    reassign: the less popular of them move to the nearest free SID."""
    capacity: Count = 1
    """reassign: the most items of a SID."""
    min_usage: Share = 0.25
    """Stop if a level uses a smaller share of its codes."""
