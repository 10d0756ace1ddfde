"""Configuration of the dense baselines, and of searches over their settings."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
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
    Share,
    Width,
    without_booleans,
)
from plum.config.training import RetrieverTrainingConfig

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
