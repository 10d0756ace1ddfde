"""Configuration of the stages that turn items into Semantic IDs: features and tokenize."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from plum.config.base import Batch, Count, Rate, Section, Share, UserPath, Weight, Width, names_a_path
from plum.config.training import OptimizerConfig

BEHAVIOUR = ("cooccurrence", "dense")
"""Encoders of training histories: their vectors are not content, and items without training interactions have none."""
CodebookSize = Annotated[int, Field(ge=2, le=2**20)]
OF_THE_TOKENIZER = ("weight", "isotropy")
"""Settings of a modality that stage tokenize reads; its vectors do not depend on them."""
TEXT_FIELDS = ("title", "topics", "creator", "description")


class ModalityConfig(Section):
    """One content embedding of every item."""

    encoder: Literal["tfidf", "topics", "sentence-transformers", "cooccurrence", "dense", "numeric", "file"] = "tfidf"
    """What makes the vectors. tfidf: words of ``fields``; topics: the item's topics; sentence-transformers: a sentence
    encoder on ``fields``; numeric: standardised numbers; file: your own vectors; cooccurrence: which items occur
    together in training histories, for catalogues with little content; dense: the dense baseline's item vectors (the
    baseline is then trained first)."""
    fields: list[str] = Field(default=["title", "creator", "description"], min_length=1, validate_default=True)
    """Item columns to encode. tfidf and sentence-transformers: any of title, topics, creator, description; numeric:
    further numeric columns of the items, such as price."""
    dimensions: Width = 64
    """tfidf, topics and cooccurrence: width of the vectors after SVD."""
    window: Count | None = None
    """cooccurrence: two items at most this many places apart in a history are a pair; by default any two of a
    history."""
    model: Annotated[str, BeforeValidator(names_a_path)] | None = None
    """sentence-transformers: a hub id, a local folder, or ``package:NAME`` for a model that a Python package ships."""
    path: UserPath | None = None
    """file: a float32 .npy of shape (N, D), rows in the order of items.parquet; or a .parquet with a column item_id
    and either one column of lists or D columns of numbers. The .parquet may omit items that have no vector."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """How much it counts in Semantic IDs, whatever its width. rqkmeans: its share of the vectors' variance; rqvae: a
    factor of its reconstruction error."""
    isotropy: Literal["none", "centre", "whiten", "all-but-the-top"] = "centre"
    """What is removed from its vectors before they are quantised. none: nothing; centre: their mean; whiten: the mean,
    and all axes get the same variance (Su et al. 2021); all-but-the-top: the mean and the strongest axes, one per 100
    dimensions (Mu and Viswanath 2018). The files of the features stage do not change."""

    @field_validator("fields")
    @classmethod
    def _fields_are_of_the_encoder(cls, fields: list[str], info: ValidationInfo) -> list[str]:
        encoder = info.data.get("encoder")  # none if it is itself a mistake
        if encoder == "numeric":
            if set(fields) & set(TEXT_FIELDS):
                raise ValueError("encoder numeric needs numeric columns of the items, such as [price]")
            if len(set(fields)) < len(fields):
                raise ValueError("a field is listed twice")
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
    """Stage features: item content -> vectors, one per modality."""

    modalities: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ModalityConfig] = Field(
        default={
            "text": ModalityConfig(),
            "topics": ModalityConfig(encoder="topics", fields=["topics"]),
        },
        min_length=1,
    )
    """Name -> modality. The defaults are skipped where the data lack what they encode. Give all that you want: your
    mapping replaces the default one."""

    @field_validator("modalities")
    @classmethod
    def _names_are_free(cls, modalities: dict[str, ModalityConfig]) -> dict[str, ModalityConfig]:
        if "item_id" in modalities:
            raise ValueError("item_id cannot name a modality: it is the column of item ids")
        return modalities

    def is_default(self, name: str) -> bool:
        """Whether a modality is one of the defaults, which the data may lack."""
        default: dict[str, ModalityConfig] = type(self).model_fields["modalities"].default
        return default.get(name) == self.modalities[name]


class TokenizeConfig(OptimizerConfig):
    """Stage tokenize: items -> Semantic IDs (SIDs), by default with an RQ-VAE (PLUM section 2.1; TIGER section 3.1)."""

    max_steps: Count | None = None
    """rqvae: most optimizer steps; the learning rate falls over all of them. Training stops earlier by ``patience``. By
    default 3,000, or in a larger catalogue a quarter of its items, 20,000 at most."""
    held_out: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """rqvae: share of the items, drawn by the seed, that training does not see. The weights kept are those with the
    smallest reconstruction error on them: for catalogues that many new items will join. 0, or fewer than 30 such items:
    train on all items, and keep the weights with the smallest error on 2,000 of them."""
    patience: Count | None = 15
    """rqvae: stop when the error of held-out items, or else of those 2,000, has not fallen in this many validations,
    one every 100 steps."""
    batch_size: Batch = 256
    """Items per training step. Co-occurring pairs add as many again."""
    learning_rate: Rate = 3e-3
    """Peak learning rate. Lower it if the codebooks collapse."""
    method: Literal["rqvae", "rqkmeans", "random"] = "rqvae"
    """rqvae: a trained autoencoder; rqkmeans: residual k-means of the content, faster and without training; random:
    meaningless codes, as a control."""
    codebook_sizes: (
        Annotated[list[Annotated[int, Field(ge=2, le=2**20)]], Field(min_length=1, max_length=16)] | None
    ) = None
    """Codes per level. By default three levels chosen from the catalogue size: the first is the largest power of two
    up to a sixth of the items, between 16 and 2,048; each next one is half as large (PLUM section 2.1)."""
    latent_dim: Width = 128
    """rqvae: width of latents and codewords. With fewer than the modalities' dimensions together, their weakest
    principal components are lost at the start and must be learnt back."""
    hidden_dim: Width = 256
    """rqvae: width of the hidden layer of every encoder and decoder."""
    beta: Weight = 0.25
    """rqvae: weight of the commitment term (PLUM section 2.1)."""
    loss_scale: Literal["mean", "sum"] = "mean"
    """rqvae: squared errors are means over dimensions and modalities, or sums over both (PLUM section 2.1). With sums
    wide modalities count more, and the co-occurrence term counts less by about the content's width."""
    progressive_masking: bool = True
    """rqvae: each step reconstructs an item from its first r levels, r drawn uniformly (PLUM section 2.1)."""
    codebook_updates: Literal["gradient", "ema"] = "gradient"
    """rqvae: train codewords by gradients, or set them to moving averages of the residuals they quantise (van den Oord
    et al. 2017)."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """ema: share of the averages that each step keeps (van den Oord et al. 2017, appendix A.1)."""
    kmeans_init: bool = True
    """rqvae: initialise codebooks by residual k-means of the catalogue instead of at random."""
    reset_dead_codes: bool = True
    """rqvae: every 100 steps, move codes that no item has onto random items; not in the last tenth of the training."""
    warm_start: UserPath | None = None
    """rqvae: the folder of another run. Training starts from that run's tokenizer, which must have the same shape. Use
    it only if both runs' content vectors come from the same fixed encoder."""
    compare_with: UserPath | None = None
    """The folder of another run, by default that of ``warm_start``. ``quality.json`` then says how many of that run's
    Semantic IDs stay the same."""
    contrastive_weight: Weight = 0.03
    """rqvae: weight of the co-occurrence term (PLUM section 2.1); 0 turns it off. On Amazon Beauty with titles, the
    default gives it a gradient of the reconstruction's size; at 0.1 it is more than twice as large."""
    pairs: Literal["window", "session"] = "window"
    """Where positive pairs of the co-occurrence term come from: the whole training history, or single sessions of
    it."""
    cooccurrence_window: Count = 3
    """Two items at most this many places apart in a training history or session are a positive pair."""
    session_minutes: Annotated[float, Field(gt=0, le=1e9)] = 30.0
    """session: a longer pause, in minutes, starts a new session."""
    pair_sampling: Literal["count", "pmi"] = "count"
    """Draw pairs in proportion to how often they occur, or to their positive pointwise mutual information, which
    corrects for popularity."""
    collision: Literal["suffix", "share", "reassign"] = "suffix"
    """What happens to items with the same codes. suffix: one more code tells them apart (TIGER); share: they share
    their SID (PLUM); reassign: the less popular ones move to a free SID, level by level to the nearest code with
    room."""
    capacity: Count = 1
    """reassign: the largest number of items per SID."""
    min_usage: Share = 0.25
    """Stop if a level uses a smaller share of its codes: its codebook has collapsed."""
    min_perplexity_share: Share | None = 0.05
    """Stop if a level's perplexity is a smaller share of its codes: items crowd onto few codes, which ``min_usage``
    does not notice. On MovieLens and Amazon Beauty levels are between 0.4 and 0.95."""
    max_bucket: Count | None = None
    """Stop if more items than this have the same codes, counted before ``collision`` applies."""
    min_uniqueness: Share | None = None
    """Stop if a smaller share of the items has codes of its own, counted before ``collision`` applies."""
    max_reconstruction_ratio: Annotated[float, Field(gt=0, le=1e6)] | None = 1.5
    """rqvae: stop if the reconstruction error is more than this many times that of residual k-means with codebooks of
    the same sizes: the tokenizer has not learnt its input. Over 1 there is a warning."""

    @model_validator(mode="before")
    @classmethod
    def _steps_not_epochs(cls, given: Any) -> Any:
        if isinstance(given, dict) and "epochs" in given:
            raise ValueError("epochs is no setting of the tokenizer, whose training counts steps: set max_steps")
        return given

    @model_validator(mode="after")
    def _only_models_start_warm(self) -> TokenizeConfig:
        if self.warm_start is not None and self.method != "rqvae":
            raise ValueError(f"warm_start needs method rqvae; {self.method} has no weights to start from")
        return self
