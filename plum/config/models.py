"""Configuration of trained models: the language model and the dense baselines."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from plum.config.base import Count, Section, Share

SCRATCH = "scratch"
"""The base that is no model: a new one with random weights."""


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


class RetrieverTrainingConfig(TrainingConfig):
    """What the language model and the baselines share, and the tokenizer does not."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products in training: auto is bfloat16 on CUDA, else float32. Some CPUs gain from bfloat16 too."""


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


class LanguageModelConfig(RetrieverTrainingConfig):
    """What both trainings of the language model share."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Of the input embeddings and of every attention and feed-forward branch, beside the model's own, if it has any."""


class CptConfig(LanguageModelConfig):
    """Continued pre-training (PLUM section 2.2)."""

    epochs: Count = 10
    """Passes over the behaviour corpus."""
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    base: Annotated[str, AfterValidator(os.path.expanduser)] = SCRATCH
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
    teacher_weight: Share = 0.0
    """Share of a label that is the dense baseline's probabilities of the next codes, the rest being the codes that came
    (knowledge distillation). Above 0, the baseline is trained before."""
    teacher: Literal["chosen", "trials"] = "chosen"
    """Who that is: the model that the baseline's search chose, or all of its trials by their mean score of an item.
    ``trials`` needs ``eval.dense.keep_trials``."""
    patience: Count = 5
    """Stop after this many validations without a better Recall@10."""
    validation_users: Count = 2000
    """At most this many users, drawn by the seed, are decoded at each validation."""
    validation_beams: Count = 20
    validate_every: Count = 1
    """Epochs between validations; decoding takes a good part of a short epoch's time."""


WITHOUT_EFFECT = ("trials_at_once", "keep_trials")
"""Settings of a search that decide how fast its result comes and what is kept beside it."""


class SearchedConfig(RetrieverTrainingConfig):
    """A trained model whose settings may be chosen on the validation part."""

    search: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    """Fields of this section -> values to try. Every combination is trained with the same seed; the best validation
    Recall@10 wins, ties go to the earlier."""
    trials_at_once: Count = 1
    """Trials trained side by side, each in a process of its own with its share of the cores and its own memory."""

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
        known = [field for field in cls.model_fields if field not in ("search", *WITHOUT_EFFECT)]
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
    keep_trials: bool = False
    """Keep the weights of all trials of a search, not the chosen ones alone (``trials/``)."""
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


def combinations(search: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every choice of one value a field; the last field changes fastest. One empty choice where there is no field.

    Example:
        >>> combinations({"dropout": [0.3, 0.5], "layers": [2]})
        [{'dropout': 0.3, 'layers': 2}, {'dropout': 0.5, 'layers': 2}]
    """
    return [dict(zip(search, values, strict=True)) for values in itertools.product(*search.values())]
