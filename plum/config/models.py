"""Configuration of trained models: the language model and the dense baselines."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from plum.config.base import (
    Batch,
    Count,
    Layers,
    Length,
    Many,
    Rate,
    Section,
    Share,
    UserPath,
    Weight,
    Width,
    names_a_path,
    without_booleans,
)
from plum.config.corpus import CorpusConfig, with_short_form
from plum.config.lora import LoraConfig

SCRATCH = "scratch"
"""The base that is no model: a new one with random weights."""


class OptimizerConfig(Section):
    """What every trained model and the tokenizer share."""

    batch_size: Batch
    """Examples per training step."""
    learning_rate: Rate
    """Peak learning rate of AdamW."""
    weight_decay: Weight = 0.01
    """AdamW's weight decay, on matrices only: not on biases and norms."""
    warmup_share: Share = 0.05
    """Share of all steps in which the learning rate rises linearly to its peak."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: constant, or a cosine down to a tenth of the peak (dense and lem: to
    ``final_rate``)."""
    max_grad_norm: Annotated[float, Field(ge=1e-6, le=1e9)] = 1.0
    """Gradients with a larger norm are scaled down to it."""
    checkpoint_steps: Count = 200
    """Steps between checkpoints. A stage that was killed resumes from the last one."""


class TrainingConfig(OptimizerConfig):
    """What every trained model shares."""

    epochs: Count
    """Passes over the training data."""


class RetrieverTrainingConfig(TrainingConfig):
    """What the language model and the dense baselines share."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of matrix products in training. auto: bfloat16 on CUDA, else float32. Try bfloat16 on CPUs that
    have instructions for it."""


class ScratchModelConfig(Section):
    """Shape of the small Llama-type model that ``base: scratch`` trains from random weights."""

    hidden_size: Width = 128
    """Width of the model; a multiple of twice ``heads``."""
    layers: Layers = 4
    """Number of transformer blocks."""
    heads: Layers = 4
    """Attention heads per block."""
    intermediate_size: Width = 384
    """Width of the feed-forward layers."""
    text_vocabulary: Annotated[int, Field(ge=300, le=2**20)] = 2000
    """Size of the byte-level BPE vocabulary, without the tokens of Semantic IDs."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchModelConfig:
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of dimensions
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of twice the heads, {2 * self.heads}")
        return self


class LanguageModelConfig(RetrieverTrainingConfig):
    """What pre-training and fine-tuning of the language model share."""

    learning_rate: Rate | None = None  # type: ignore[assignment]
    """Peak learning rate of AdamW. By default it follows the model: 2e-3 in cpt and 1e-3 in finetune for ``cpt.base:
    scratch``; for a pre-trained one PLUM's rates (section 3), from 1e-4 at 110M parameters to 2e-5 at 3B, or ten times
    that with ``lora``. A rate more than ten times higher or lower is warned of."""
    schedule: Literal["constant", "cosine", "wsd", "infinite"] | None = None  # type: ignore[assignment]
    """Learning rate after the warm-up. constant: the peak. cosine: down to ``final_rate``. wsd: the peak, then a decay
    over ``decay_share`` at the end (Hägele et al. 2024). infinite: down to ``plateau``, constant, then a decay at the
    end (Ibrahim et al. 2024); a later training can go on from the plateau's weights. For a pre-trained base, the
    warm-up is the re-warming of Ibrahim et al. By default a cosine, but constant in finetune for a pre-trained base, as
    in PLUM."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None  # type: ignore[assignment]
    """Number format of matrix products in training. auto: bfloat16 on CUDA, else float32. By default auto, and for a
    pre-trained base bfloat16 also on CPUs that have instructions for it."""
    lora: LoraConfig | None = None
    """Train small adapters instead of all weights (LoRA); null trains all."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout rate on the input embeddings and on every attention and feed-forward branch, in addition to the model's
    own."""
    max_steps: Count | None = None
    """Training steps in all, in place of ``epochs``; the last pass may be a part of one."""
    validate_steps: Count | None = None
    """Training steps between validations, in place of whole epochs."""
    micro_batch_size: Batch | None = None
    """Rows of a batch that each process holds in memory at a time; their gradients are added up. By default all of its
    rows. Where memory runs out, a training halves it by itself."""
    final_rate: Share = 0.1
    """Learning rate at the end of cosine, wsd and infinite, as a share of its peak."""
    decay_share: Annotated[float, Field(ge=0.001, le=1)] = 0.2
    """wsd, infinite: share of all steps in the decay at the end."""
    cooldown_share: Annotated[float, Field(ge=0.001, le=1)] = 0.2
    """infinite: share of all steps from the peak down to the plateau."""
    plateau: Annotated[float, Field(ge=0.001, le=1)] = 0.55
    """infinite: learning rate of the plateau, as a share of the peak."""
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"
    """adamw-8bit keeps AdamW's moments in 8 bits, a quarter of their memory; needs the extra ``eight-bit``."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights, gradients and moments in training. bfloat16 halves their memory, but loses changes of a
    weight below a 256th of it: try it where float32 does not fit."""
    gradient_checkpointing: bool = False
    """Keep activations at the blocks' borders only and compute the others again: less memory, a third more work."""
    compile: bool = False
    """Compile the model with ``torch.compile``. The first steps take minutes; needs a C++ compiler on CPUs."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """How the processes of ``torchrun`` or ``accelerate launch`` share a training. ddp: each holds the whole model.
    fsdp: each holds a shard of weights, gradients and moments (FSDP2). auto: fsdp after ``accelerate launch
    --use_fsdp``, else ddp."""
    report_to: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(default=[])
    """Trackers that get the training curve besides ``train_log.jsonl``, in ``tracking/`` of the run; they need the
    extra ``track``."""

    @model_validator(mode="after")
    def _settings_fit(self) -> LanguageModelConfig:
        if self.lora and self.parallel == "fsdp":
            raise ValueError("lora is not supported with parallel: fsdp; set parallel to ddp")
        if self.schedule == "infinite" and not self.final_rate:
            raise ValueError("schedule infinite decays by a factor, so final_rate must be above 0")
        shares = {"wsd": self.decay_share, "infinite": self.decay_share + self.cooldown_share}
        if self.warmup_share + shares.get(str(self.schedule), 0.0) > 1 + 1e-9:
            raise ValueError(f"the parts of schedule {self.schedule} are more than the whole training")
        return self


ADDED = (
    *("max_steps", "validate_steps", "final_rate", "decay_share", "cooldown_share", "plateau"),
    *("optimizer", "weights"),
)
"""Settings of the language model that came later and change nothing by default."""


class MeasureConfig(Section):
    """What continued pre-training is measured on, before, during and after it (docs/run-files.md).

    A measurement costs a pass over the documents of ``users`` users and ``items`` items, a beam search for each of
    them, and a title and topics written token by token for each item.
    """

    every_steps: Count | None = None
    """Steps between measurements during the training. By default, a quarter of its steps."""
    users: Annotated[int, Field(ge=0, le=10**6)] = 100
    """Held-out users (``corpus.held_out``) whose documents are measured, and validation users whose next item is
    decoded, at most."""
    items: Annotated[int, Field(ge=0, le=10**6)] = 100
    """Held-out items whose documents are measured, and whose titles, topics and Semantic IDs are asked for, at most."""
    text: UserPath | None = None
    """A plain text file in UTF-8: what the model knows of general text is measured on it, before and after."""
    characters: Count = 20_000
    """Of this text, for the bits per character."""
    gaps: Annotated[int, Field(ge=0, le=10**5)] = 100
    """Last words of its sentences that the model is to guess."""


class CptConfig(LanguageModelConfig):
    """Stage cpt: continued pre-training (PLUM section 2.2)."""

    enabled: bool = True
    """Train. If false, the base stays as it is but for the embeddings of the new tokens: the control without continued
    pre-training."""
    epochs: Count = 10
    """Passes over the users' histories, or what ``corpus.unit`` makes of them."""
    batch_size: Batch = 32
    """Blocks of ``context_length`` tokens per training step."""
    base: Annotated[str, BeforeValidator(names_a_path), AfterValidator(os.path.expanduser)] = SCRATCH
    """``scratch`` for a small model with random weights; or a decoder-only model: a local folder, a hub id, a ``.gguf``
    file, or ``package:NAME`` for one that an installed Python package holds; see docs/bases.md."""
    scratch: ScratchModelConfig = ScratchModelConfig()
    """Shape of the model if ``base`` is ``scratch``."""
    context_length: Annotated[int, Field(ge=16, le=2**20)] = 256
    """Tokens per block of training text. Blocks hold whole documents; no document sees another one of its block."""
    max_history: Length = 50
    """Items per document of a user's history; longer histories are cut into several."""
    corpus: CorpusConfig = CorpusConfig()
    """What is read. ``behaviour_share: 0.7`` in this section is short for weights of 0.7 and 0.3 for behaviour and
    metadata."""
    measure: MeasureConfig = MeasureConfig()
    """What is measured of the model, beside its training loss."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return with_short_form(given)


class FinetuneConfig(LanguageModelConfig):
    """Stage finetune: generative retrieval, history -> the next item's SID (PLUM section 2.3)."""

    epochs: Count = 30
    """Passes over the training histories, at most; see ``patience``."""
    batch_size: Batch = 16
    """Histories (or parts of long ones) per training step."""
    max_history: Length = 50
    """Most recent items of a history that the model sees (PLUM: about the last 100 watches)."""
    history_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Probability of dropping each item of a training history, drawn again every epoch. Raise it if the validation
    loss rises during training."""
    loss_over: Literal["vocabulary", "level"] = "vocabulary"
    """Tokens over which the model's probabilities sum to one in the loss: all of the vocabulary, or the codes of the
    label's level only, which costs less. In decoding, ``eval.scores_over`` says it."""
    teacher_weight: Share = 0.0
    """Knowledge distillation: the teacher's share of each training label. The teacher is the dense baseline, which
    gives probabilities of the next codes; the rest of the label is the observed next item. Above 0, the baseline is
    trained before this stage."""
    teacher: Literal["chosen", "trials"] = "chosen"
    """The teacher: the model chosen by the baseline's search, or the mean score of the models of all its trials
    (``trials``, which needs ``eval.dense.keep_trials``)."""
    patience: Count = 5
    """Stop after this many validations without a better Recall@10."""
    validation_users: Count = 2000
    """Each validation decodes at most this many users, drawn by the seed."""
    validation_beams: Length = 20
    """Beam width in validation. A smaller one is faster than ``eval.beams``, and slightly less exact."""
    validate_every: Count = 1
    """Epochs between validations. Raise it if decoding takes a large part of each epoch's time."""


WITHOUT_EFFECT = (
    *("trials_at_once", "keep_trials", "report_to"),
    *("micro_batch_size", "gradient_checkpointing", "compile", "parallel"),
)
"""Settings that change the speed or memory of a stage, or what it keeps or tells, but its result by rounding at most
(and by other draws of dropout). A training that ran out of memory goes on with others of them."""


class SearchedConfig(RetrieverTrainingConfig):
    """A trained model whose settings may be chosen on the validation set."""

    search: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    """Fields of this section -> values to try, such as ``{dropout: [0.3, 0.5]}``. Every combination is trained with
    the same seed; the best validation Recall@10 wins, the earlier one on a tie."""
    final_rate: Share = 0.0
    """Learning rate at the end of the cosine, as a share of its peak."""
    trials_at_once: Layers = 1
    """Trials trained in parallel, each in its own process with an equal share of the cores. Each needs its own
    memory."""

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
        """The values, converted to the field's type (``1e-3`` is text in YAML); invalid ones add to the mistakes."""
        known = [field for field in cls.model_fields if field not in ("search", *WITHOUT_EFFECT)]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
            mistakes.append(f"{name}: unknown key; {hint}")
            return values
        field = cls.model_fields[name]
        form: Any = Annotated[(field.annotation, name, *field.metadata)]  # Annotated needs some metadata: the name
        kind: TypeAdapter[Any] = TypeAdapter(form, config=ConfigDict(allow_inf_nan=False))
        checked = []
        for value in values:
            try:
                checked.append(kind.validate_python(without_booleans(value, form)))
            except ValidationError as error:
                mistakes.append(f"{name}: {error.errors()[0]['msg']} (given: {value!r})")
        if any(value in checked[:place] for place, value in enumerate(checked)):
            mistakes.append(f"{name}: a value is given twice")
        return checked


Searched = TypeVar("Searched", bound=SearchedConfig)


def with_settings(section: Searched, values: Mapping[str, Any]) -> Searched:
    """A section with some fields replaced and an empty search.

    Raises:
        pydantic.ValidationError: if the values don't fit.
    """
    return type(section).model_validate(section.model_dump() | dict(values) | {"search": {}})


class DenseConfig(SearchedConfig):
    """The dense baseline: a SASRec-type transformer with softmax cross-entropy."""

    epochs: Count = 100
    """Passes over the training histories, at most; see ``patience``."""
    batch_size: Batch = 64
    """Histories (or parts of long ones) per training step."""
    learning_rate: Rate = 1e-3
    """Peak learning rate of AdamW."""
    hidden_size: Width = 64
    """Width of the transformer; a multiple of ``heads``."""
    layers: Layers = 2
    """Number of transformer blocks."""
    heads: Layers = 2
    """Attention heads per block."""
    block: Literal["pre-norm", "post-norm", "ligr"] = "pre-norm"
    """Kind of the blocks. pre-norm: each branch's input is normalised. post-norm: each sum is, and the blocks' input,
    as in RecBole's SASRec. ligr: pre-norm, a gate on each branch, SwiGLU feed-forward layers (eSASRec)."""
    feed_forward: Annotated[float, Field(ge=0.01, le=100)] = 4.0
    """Width of the feed-forward layers as a multiple of ``hidden_size``."""
    scaled_embeddings: bool = True
    """Multiply the item vectors of the input by the square root of ``hidden_size``."""
    initial_weights: Literal["torch", "normal"] = "normal"
    """Initial matrices of the blocks. torch: as torch draws them. normal: like the embeddings, from a normal
    distribution of standard deviation .02, with biases 0."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    """Dropout rate of embeddings and blocks. Raise it on small data."""
    embedding_size: Width | None = None
    """Width of the item-ID embeddings, by default ``hidden_size``. Another width is projected to ``hidden_size``."""
    tied: bool = True
    """Use one embedding table for inputs and outputs; else two."""
    negatives: Many | None = None
    """Items sampled per batch to estimate the softmax (sampled softmax with log-Q correction). By default the full
    softmax for up to 100,000 items, and 8,192 negatives for larger catalogues."""
    negative_power: Share = 0.75
    """Exponent of an item's count as a training target in the distribution of negatives: 1 draws by popularity, 0
    uniformly."""
    max_history: Length = 50
    """Most recent items of a history that the model sees."""
    keep_trials: bool = False
    """Keep the weights of all trials of a search in ``trials/``, not only the chosen ones. The mean of dense's is then
    a retriever, ``dense-mean``."""
    patience: Count = 10
    """Stop after this many validations without a better Recall@10."""
    validate_every: Count = 1
    """Epochs between validations. Raise it if they take a large part of each epoch's time."""

    @model_validator(mode="after")
    def _heads_divide(self) -> DenseConfig:
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}")
        return self

    @property
    def n_kept(self) -> int:
        """Number of trials whose weights are kept beside the chosen ones."""
        n_trials = len(combinations(self.search))
        return n_trials if self.keep_trials and n_trials > 1 else 0


class LemConfig(DenseConfig):
    """The large embedding model (LEM, PLUM table 2): a small transformer, nearly all parameters in item-ID embeddings.

    It has the settings of the dense baseline, with two other defaults.
    """

    embedding_size: Width | None = 256
    """Width of the item-ID embeddings, projected to ``hidden_size``; null for ``hidden_size``."""
    tied: bool = False
    """Use one embedding table for inputs and outputs; else two."""


def combinations(search: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of one value per field; the last field changes fastest. Without fields, one empty combination.

    Example:
        >>> combinations({"dropout": [0.3, 0.5], "layers": [2]})
        [{'dropout': 0.3, 'layers': 2}, {'dropout': 0.5, 'layers': 2}]
    """
    return [dict(zip(search, values, strict=True)) for values in itertools.product(*search.values())]
