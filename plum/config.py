"""One typed config per stage; ``plum.config_file`` reads them from YAML and ``--set key=value``."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from plum.tuning import combinations

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are mistakes, values are checked, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class MovieLensSource(Section):
    """A MovieLens release in its original layout (GroupLens)."""

    kind: Literal["movielens"]
    release: Literal["ml-100k", "ml-latest-small", "ml-latest", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m"]


class AmazonSequencesSource(Section):
    """Amazon 2014 5-core sequences, ``NAME.txt`` and ``NAME_item2attributes.json``, in ``<data home>/amazon-2014``."""

    kind: Literal["amazon-sequences"]
    name: str


class AmazonReviewsSource(Section):
    """Raw Amazon review and metadata JSONL(.gz) of 2014, 2018 or 2023."""

    kind: Literal["amazon-reviews"]
    reviews: UserPath
    metadata: UserPath | None = None


class LogsSource(Section):
    """Your own logs: CSV, TSV, Parquet or JSONL with a mapping from our column names to yours."""

    kind: Literal["logs"]
    interactions: UserPath
    items: UserPath | None = None
    users: UserPath | None = None
    columns: dict[str, str] = {}
    item_columns: dict[str, str] = {}
    topic_separator: str = "|"
    timestamp_unit: Literal["auto", "s", "ms", "iso"] = "auto"
    encoding: str = "utf-8"


class SyntheticSource(Section):
    """Made-up data with a planted truth, so that the best reachable recall is known."""

    kind: Literal["synthetic"]
    n_users: Count = 2000
    n_items: Count = 300
    seed: Seed = 0


Source = Annotated[
    MovieLensSource | AmazonSequencesSource | AmazonReviewsSource | LogsSource | SyntheticSource,
    Field(discriminator="kind"),
]
SOURCES: dict[str, type[Section]] = {
    get_args(section.model_fields["kind"].annotation)[0]: section for section in get_args(get_args(Source)[0])
}


class SplitConfig(Section):
    """Which interactions train, validate and test."""

    protocol: Literal["leave-one-out", "temporal"] = "leave-one-out"
    valid_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """temporal only: share of interactions, by time, in the validation part."""
    test_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """temporal only: share of interactions, by time, in the test part."""
    ties: Literal["shuffle", "keep"] = "shuffle"
    """Order of a user's interactions that share a timestamp: seeded shuffle, or as they stand in the input."""
    seed: Seed = 0
    """Of that shuffle; not the run's seed, so that runs with other seeds are asked for the same items."""
    k_core_users: Annotated[int, Field(ge=0)] = 0
    k_core_items: Annotated[int, Field(ge=0)] = 0


class DataConfig(Section):
    """Stage ``data prepare``: source, checks and split."""

    source: Source
    split: SplitConfig = SplitConfig()
    max_bad_share: Share = 0.01
    """Refuse the source if a larger share of its rows can't be used."""
    tags_as_text: bool = True
    """Append users' free-text tags to an item's description, those on held-out interactions left out."""


class ModalityConfig(Section):
    """One content embedding of every item."""

    encoder: Literal["tfidf", "topics", "sentence-transformers", "cooccurrence", "file"] = "tfidf"
    """cooccurrence: vectors of which items training histories hold together, for catalogues with little content."""
    fields: Annotated[list[Literal["title", "topics", "creator", "description"]], Field(min_length=1)] = [
        "title",
        "creator",
        "description",
    ]
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


class TrainingConfig(Section):
    """What every trained model shares."""

    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_share: Share = 0.05
    schedule: Literal["constant", "cosine"] = "cosine"
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    checkpoint_steps: Count = 200
    """Steps between checkpoints, from which a killed stage goes on."""


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
    collision: Literal["suffix", "share"] = "suffix"
    """suffix: one more code tells items with equal codes apart (TIGER); share: they share their SID (PLUM)."""
    min_usage: Share = 0.25
    """Stop if a level uses a smaller share of its codes."""


class ScratchModelConfig(Section):
    """Shape of the small Llama-type model that ``base: scratch`` trains from random weights."""

    hidden_size: Count = 128
    layers: Count = 4
    heads: Count = 4
    intermediate_size: Count = 384
    text_vocabulary: Annotated[int, Field(ge=300)] = 2000
    """Size of the byte-level BPE vocabulary, Semantic IDs not counted."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchModelConfig:
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of dimensions
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of twice the heads, {2 * self.heads}")
        return self


class LanguageModelConfig(TrainingConfig):
    """What both trainings of the language model share."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Of the input embeddings and of every attention and feed-forward branch, beside the model's own, if it has any."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products in training: auto is bfloat16 on CUDA, else float32. Some CPUs gain from bfloat16 too."""


class CptConfig(LanguageModelConfig):
    """Continued pre-training (PLUM section 2.2)."""

    epochs: Count = 10
    """Passes over the behaviour corpus."""
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    base: Annotated[str, AfterValidator(os.path.expanduser)] = "scratch"
    """``scratch``, or a local folder or hub id of a decoder-only model."""
    scratch: ScratchModelConfig = ScratchModelConfig()
    context_length: Annotated[int, Field(ge=16)] = 256
    behaviour_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Share of training tokens from user behaviour; the rest is item metadata (PLUM section 2.2: half and half)."""
    max_history: Count = 50


class FinetuneConfig(LanguageModelConfig):
    """Generative retrieval: history -> the next item's SID (PLUM section 2.3)."""

    epochs: Count = 30
    batch_size: Count = 16
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    max_history: Count = 50
    """Items of history the model sees (PLUM: about the last 100 watches)."""
    history_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Chance that an item of a training history is left out, drawn anew each epoch."""
    patience: Count = 5
    """Stop after this many validations without a better Recall@10."""
    validation_users: Count = 2000
    """At most this many users, drawn by the seed, are decoded at each validation."""
    validation_beams: Count = 20
    validate_every: Count = 1
    """Epochs between validations; decoding takes a good part of a short epoch's time."""


class SearchedConfig(TrainingConfig):
    """A trained model whose settings may be chosen on the validation part."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products in training: auto is bfloat16 on CUDA, else float32. Some CPUs gain from bfloat16 too."""
    search: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    """Fields of this section -> values to try. Every combination is trained with the same seed; the best validation
    Recall@10 wins, ties go to the earlier."""

    @field_validator("search")
    @classmethod
    def _values_fit(cls, search: dict[str, list[Any]]) -> dict[str, list[Any]]:
        mistakes: list[str] = []
        checked = {name: cls._values_of(name, values, mistakes) for name, values in search.items()}
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return checked

    @model_validator(mode="after")
    def _combinations_fit(self) -> SearchedConfig:
        mistakes: dict[str, None] = {}  # a set that keeps its order
        for values in combinations(self.search) if self.search else []:
            try:
                with_settings(self, values)
            except ValidationError as error:
                mistakes |= {f"search: {entry['msg'].removeprefix('Value error, ')}": None for entry in error.errors()}
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @classmethod
    def _values_of(cls, name: str, values: list[Any], mistakes: list[str]) -> list[Any]:
        """The values as the field takes them (``1e-3`` is text in YAML); what it refuses is added to the mistakes."""
        known = [field for field in cls.model_fields if field != "search"]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
            mistakes.append(f"{name}: unknown key; {hint}")
            return values
        field = cls.model_fields[name]
        form: Any = Annotated[(field.annotation, name, *field.metadata)]  # the name, since something must stand there
        kind: TypeAdapter[Any] = TypeAdapter(form, config=ConfigDict(allow_inf_nan=False))
        checked = []
        for value in values:
            try:
                checked.append(kind.validate_python(value))
            except ValidationError as error:
                mistakes.append(f"{name}: {error.errors()[0]['msg']} (given: {value!r})")
        if any(value in checked[:place] for place, value in enumerate(checked)):
            mistakes.append(f"{name}: a value is given twice")
        return checked


Searched = TypeVar("Searched", bound=SearchedConfig)


def with_settings(section: Searched, values: Mapping[str, Any]) -> Searched:
    """A section with some of its fields set to other values, and nothing left to search.

    Raises:
        pydantic.ValidationError: if the values don't fit.
    """
    return type(section).model_validate(section.model_dump() | dict(values) | {"search": {}})


class DenseConfig(SearchedConfig):
    """The dense baseline: SASRec-type model, softmax cross-entropy."""

    epochs: Count = 100
    batch_size: Count = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    hidden_size: Count = 64
    layers: Count = 2
    heads: Count = 2
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    embedding_size: Count | None = None
    """Width of the item-ID embeddings, projected to ``hidden_size`` where it differs; by default ``hidden_size``."""
    tied: bool = True
    """Whether items have the same embedding as input and as output."""
    negatives: Count | None = None
    """Items that a batch's softmax is estimated from (sampled softmax with log-Q correction); by default the full
    softmax up to 100,000 items, and 8,192 negatives above."""
    negative_power: Share = 0.75
    """Negatives are drawn by how often an item is a training target, to this power."""
    max_history: Count = 50
    patience: Count = 10

    @model_validator(mode="after")
    def _heads_divide(self) -> DenseConfig:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of heads {self.heads}")
        return self


class LemConfig(DenseConfig):
    """The large embedding model (PLUM table 2): nearly all parameters in item-ID embeddings, a small transformer."""

    embedding_size: Count | None = 256
    tied: bool = False


class EvalConfig(Section):
    """Which retrievers are compared, and how."""

    dense: DenseConfig = DenseConfig()
    lem: LemConfig | None = None
    """The large embedding model, if it is wanted beside the others: its tables are large and take long to train."""
    cutoffs: Annotated[list[Count], Field(min_length=1)] = [1, 5, 10, 20, 50]
    beams: Count | Annotated[list[Count], Field(min_length=1)] = 50
    """Beam width of plum's decoder: one number, or one per level of the Semantic IDs, disambiguation code counted."""
    scores_over: Literal["codes", "legal", "vocabulary"] = "codes"
    """What the probability of a code is normalised over (docs/decoding.md): its level's codes, the codes that may
    follow its prefix, or the model's whole vocabulary."""
    filter_seen: bool = True
    """Headline: items of the user's history are never recommended; the other way is reported beside it."""
    resamples: Count = 2000
    """Bootstrap and permutation resamples."""
    cold_below: Count = 5
    """An item with fewer training interactions than this is cold."""
    examples: Annotated[int, Field(ge=0)] = 5

    @model_validator(mode="after")
    def _beams_reach(self) -> EvalConfig:
        last = self.beams if isinstance(self.beams, int) else self.beams[-1]
        if last < max(self.cutoffs):
            raise ValueError(f"beams {self.beams} is smaller than the largest cutoff {max(self.cutoffs)}")
        if 10 not in self.cutoffs:
            raise ValueError("cutoffs must hold 10, the headline")
        return self


class RunConfig(Section):
    """A whole pipeline."""

    title: str = "plum"
    workdir: UserPath
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    tokenize: TokenizeConfig = TokenizeConfig()
    cpt: CptConfig = CptConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    eval: EvalConfig = EvalConfig()
