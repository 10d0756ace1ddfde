"""The shapes of a run's JSON files, as far as readers need them; numbers that decide an allocation are bounded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1, le=2**31)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""Of a modality; it is part of file names."""
Settings = dict[str, str | bool | int | float | list[Any] | None]


class Shape(BaseModel):
    """Base of all: keys that no reader needs may be there."""

    model_config = ConfigDict(allow_inf_nan=False)


class Origin(Shape):
    """``data/summary.json``: whether the data are synthetic."""

    synthetic: bool = False


class Times(Shape):
    """``data/summary.json``: whether timestamps are only positions."""

    timestamps_are_positions: bool


class SplitCounts(Shape):
    """Counts of a split."""

    users: Count
    interactions: Count
    train: Count
    valid: Count
    test: Count
    test_cold: Count
    users_without_test: Count


class TieCounts(Shape):
    """Counts of interactions of one time."""

    tied: Count
    users_test_tied: Count


class Unusable(Shape):
    """A kind of unusable rows."""

    count: Count


class KnownCounts(Shape):
    """Items by when they first occur, under the temporal protocol."""

    known: Count
    first_later: Count
    never: Count
    later_share: Number


class Summary(Times):
    """``data/summary.json`` as the report reads it."""

    synthetic: bool
    items: Count
    split: SplitCounts
    ties: TieCounts
    test_users_with_seen_targets_only: Count
    unusable_rows: list[Unusable]
    known_items: KnownCounts | None = None


class TieBreaks(Shape):
    """How a split broke ties; earlier versions had no seed of its own."""

    ties: str | None = None
    seed: Count | None = None


class Split(TieBreaks):
    """How the data were split."""

    protocol: str
    ties: str


class MadeByPrepare(Shape):
    """The settings in the manifest of stage data."""

    split: Split


class MadeByAnyPrepare(Shape):
    """The same, of any version."""

    split: TieBreaks | None = None


class MadeByFinetune(Shape):
    """The settings in the manifest of stage finetune."""

    teacher: str | None = None
    teacher_weight: Number = 0.0
    max_history: Count | None = None


class Modality(Shape):
    """A modality of the items."""

    encoder: str
    shape: Annotated[list[Count], Field(min_length=2, max_length=2)]
    mean_cosine: Number | None = None
    items_sharing_vectors: Count | None = None


class Features(Shape):
    """``features/features.json``."""

    modalities: dict[Name, Modality]


class Level(Shape):
    """A level of the Semantic IDs."""

    size: Size


class Levels(Shape):
    """``tokenize/quality.json``: codes per level."""

    levels: Annotated[list[Level], Field(min_length=1, max_length=64)]
    disambiguated: bool = False


class Health(Level):
    """A level of the Semantic IDs, and how well it is used."""

    usage: Number
    perplexity: Number


class Buckets(Shape):
    """How many items share a Semantic ID."""

    share: dict[str, Number]


class Agreement(Shape):
    """How well Semantic IDs agree with next items, by prefix length."""

    pairs: Number
    share: list[Number]
    random: list[Number]


class Distinct(Shape):
    """``tokenize/quality.json`` as an ablation reads it."""

    uniqueness: Number
    cooccurrence_agreement: Agreement | None = None


class WholeCatalogue(Levels, Distinct):
    """The Semantic IDs with the items that the tokenizer has not learnt from."""

    levels: Annotated[list[Health], Field(min_length=1, max_length=64)]  # type: ignore[assignment]
    items: Count
    later_items: Count
    max_items_per_sid: Count


class ModalityFigures(Shape):
    """What a modality brings to the Semantic IDs."""

    dimensions: Count
    weight: Number
    isotropy: str
    present: Number
    mean_cosine: Number | None = None
    mean_cosine_after: Number | None = None
    items_sharing_vectors: Count | None = None


class Quality(Levels, Distinct):
    """``tokenize/quality.json`` as the report reads it."""

    levels: Annotated[list[Health], Field(min_length=1, max_length=64)]  # type: ignore[assignment]
    buckets: Buckets
    neighbour_overlap: dict[str, Any] | None
    reconstruction_by_modality: dict[str, Number] | None
    modalities: dict[str, ModalityFigures] = {}
    stability: dict[str, Any] | None
    all_items: WholeCatalogue | None = None


class Spent(Shape):
    """The cost of a training; see ``plum.training.cost.Cost``."""

    parameters: Count
    examples: Count
    tokens: Count
    flops: Annotated[int, Field(ge=0)]
    epochs: Annotated[float, Field(ge=0)]  # 0: not trained


class Trained(Shape):
    """``metrics.json`` of a trained model: what the training cost."""

    cost: Spent


class PreTrained(Shape):
    """``cpt/metrics.json``: what was measured of the model; absent from runs of earlier versions."""

    learnt: dict[str, Any] = {}


class Validated(Shape):
    """``finetune/metrics.json``: the metric on the validation set."""

    reached: Number = Field(alias="valid_recall@10")
    taught: Number | None = Field(default=None, alias="teacher_valid_recall@10")
    training: Settings = {}


class Chosen(Shape):
    """``metrics.json`` of a baseline: the settings that its search chose."""

    chosen: Settings


class Trial(Shape):
    """An entry of ``trials.json``."""

    settings: Settings
    reached: Number = Field(alias="valid_recall@10")
    cost: Spent | None = None


class Evaluated(Shape):
    """``eval/metrics.json`` as the terminal shows it."""

    retrievers: dict[str, dict[str, Number | None]]
    intervals: dict[str, dict[str, Annotated[list[Number | None], Field(min_length=2, max_length=2)]]]
    n_users: Count


class Shown(Shape):
    """An item of an example."""

    title: str
    hit: bool


class Example(Shape):
    """An entry of ``eval/examples.json``."""

    user_id: str
    history: list[str]
    target: str
    recommendations: dict[str, list[Shown]]


class EncoderSettings(Shape):
    """``features/encoders/<modality>.json``: what encoders of any kind have, each some of it."""

    kind: str
    fields: list[str] = []
    words: list[str] = []
    item_ids: list[str] = []
    model: str = ""
    column: str = ""


class TokenizerModality(Shape):
    """A modality of a tokenizer."""

    name: Name
    width: Size
    complete: bool
    isotropy: Literal["none", "centre", "whiten", "all-but-the-top"]
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TokenizerShape(Shape):
    """The shape of an RQ-VAE."""

    latent_dim: Size
    hidden_dim: Size
    ema: bool


class TokenizerRules(Shape):
    """What Semantic IDs depend on besides."""

    model_config = ConfigDict(extra="forbid")

    seed: Count
    collision: Literal["share", "suffix", "reassign"]
    capacity: Size
    table_sizes: Annotated[list[Size], Field(min_length=1, max_length=64)]


class TokenizerSettings(Shape):
    """``tokenize/tokenizer.json``."""

    method: Literal["rqvae", "rqkmeans", "random"]
    sizes: Annotated[list[Size], Field(min_length=1, max_length=64)]
    modalities: list[TokenizerModality]
    shape: TokenizerShape | None
    rules: TokenizerRules


class Found(Shape):
    """Items of a kind."""

    items: Count


class Sharing(Shape):
    """Items that share codes only now."""

    new_items: Count
    old_items: Count


class Collisions(Shape):
    """Collisions of new items."""

    rule: str
    of_content: Sharing
    told_apart: Count
    of_semantic_ids: Sharing


class Assigned(Shape):
    """``assigned/report.json``."""

    file: str
    new_items: Count
    without_place: Found
    already_in_catalogue: Found
    lacking: dict[str, Count]
    without_content: Count
    collisions: Collisions


class ModelExtras(Shape):
    """``cpt/model/plum.json``: what a model knows beside its weights."""

    version: Count
    semantic_ids: str
    bins: dict[str, list[Number]] = {}


class CorpusKind(Shape):
    """One kind of documents."""

    kind: str
    documents: Count
    tokens: Count
    held_out_documents: Count
    held_out_tokens: Count


class Corpus(Shape):
    """``cpt/corpus/corpus.json``."""

    kinds: dict[str, CorpusKind]
