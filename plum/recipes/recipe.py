"""Settings that fit the size of a data set, each with its reason.

Two shapes are measured: few users with long histories (MovieLens 100K and latest-small: hundreds of users, a hundred
interactions each) and many users with short ones (Amazon Beauty and Sports: tens of thousands of users, nine each). The
settings of ``pipelines/`` for these are the points in between which the rules below choose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from plum.recipes.sizes import LEAVE_ONE_OUT, Sizes
from plum.rules.language import spell_value
from plum.sid.table import default_sizes

SHORT_HISTORY = 20
"""Median interactions of a user below which histories count as short."""
HELD_OUT = 2
"""Interactions of a user that are no history under leave-one-out."""
TWO_LEVELS = (5_000, 50_000)
"""Items for which two levels of RQ-KMeans are measured, or nearly so."""
DENSE_TEACHES = 50_000
"""Items up to which plum is built on the dense baseline: the teacher scores all of them for every target."""
LARGE_TRAIN = 120_000
"""Training interactions from which the language model has four layers."""
LARGE_BATCHES = 10_000
"""Windows of an epoch from which a batch holds 64."""
SEEN_TESTS, TIED_TESTS, SHORT_USERS, GIANT_USER = 0.1, 0.2, 0.3, 0.1
"""Shares from which something is said or done about it."""


class Choice(NamedTuple):
    """One line of the configuration.

    Attributes:
        key: with dots between levels.
        value: as YAML holds it.
        why: a short reason.
    """

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Machine:
    """What of the machine decides a recipe.

    Attributes:
        cores: that plum may use.
        device: cpu, cuda or mps.
        half_gain: how many times as fast bfloat16 is as float32 in a training step; 0 if unknown.
    """

    cores: int = 1
    device: str = "cpu"
    half_gain: float = 0.0

    @property
    def half(self) -> bool:
        """Whether training in bfloat16 pays on this processor."""
        return self.device == "cpu" and self.half_gain >= 1.1


@dataclass(frozen=True)
class Recipe:
    """The chosen settings, in the order of the file.

    Attributes:
        choices: all but where the data lie.
        summary: the recipe in three lines.
    """

    choices: tuple[Choice, ...]
    summary: tuple[str, str, str]


def choose(sizes: Sizes, machine: Machine) -> Recipe:
    """The recipe for a data set on a machine."""
    shape = _Shape.of(sizes)
    choices = [
        *_split(sizes),
        *_features(sizes, shape),
        *_tokenize(sizes, shape),
        *_cpt(sizes, shape, machine),
        *_finetune(sizes, shape, machine),
        *_eval(sizes, shape, machine),
    ]
    chosen = {choice.key: choice.value for choice in choices}
    content = ", ".join(chosen_modalities(choices))
    sid = "x".join(map(str, chosen["tokenize.codebook_sizes"]))
    taught = "learns from the dense baseline" if shape.on_dense else "learns from the log alone"
    return Recipe(
        tuple(choices),
        (
            f"Semantic IDs: {sid} codes by {chosen['tokenize.method']} of {content}",
            f"language model: {shape.layers} layers of 128, histories of {shape.max_history} items, "
            f"{chosen['finetune.epochs']} epochs; it {taught}",
            f"evaluation: {chosen['data.split.protocol']}, {sizes.questions:,} test users, against dense, itemknn, "
            "popularity and others",
        ),
    )


def chosen_modalities(choices: Sequence[Choice]) -> list[str]:
    """Names of the modalities that Semantic IDs are made of."""
    return [choice.key.split(".")[-1] for choice in choices if choice.key.startswith("features.modalities.")]


@dataclass(frozen=True)
class _Shape:
    """What several stages go by."""

    short: bool
    two_levels: bool
    on_dense: bool
    layers: int
    max_history: int
    batch: int
    levels: int

    @classmethod
    def of(cls, sizes: Sizes) -> _Shape:
        short = sizes.lengths[0] < SHORT_HISTORY
        two_levels = short and TWO_LEVELS[0] <= sizes.learnt <= TWO_LEVELS[1]
        longest = max(1.0, sizes.lengths[1] - HELD_OUT)
        max_history = min(50, max(10, 10 * math.ceil(longest / 10)))
        windows = sizes.users + sizes.train / max(1, max_history // 2)
        return cls(
            short=short,
            two_levels=two_levels,
            on_dense=sizes.items <= DENSE_TEACHES,
            layers=2 if sizes.train < LARGE_TRAIN else 4,
            max_history=max_history,
            batch=16 if windows < LARGE_BATCHES else 64,
            levels=2 if two_levels else 4,  # three, and the code that tells equal ones apart
        )


def _split(sizes: Sizes) -> list[Choice]:
    why = (
        f"the last item of each user is the test: {sizes.questions:,} test users ({sizes.temporal_users:,} under "
        "`temporal`)"
        if sizes.protocol == LEAVE_ONE_OUT
        else "no user has the 3 interactions that leave-one-out needs"
    )
    choices = [Choice("data.split.protocol", sizes.protocol, why)]
    if sizes.ties > 0.01:
        tied = f"{sizes.ties:.0%} of the interactions share a second with another of their user"
        choices.append(Choice("data.split.ties", "shuffle", f"{tied}; `keep` takes the file's order"))
    return choices


def _features(sizes: Sizes, shape: _Shape) -> list[Choice]:
    choices = []
    if sizes.text:
        value = {"encoder": "tfidf", "fields": list(sizes.text), "dimensions": 64}
        why = f"{sizes.words:.0f} words an item; `sentence-transformers` reads meaning, if you have a model"
        choices.append(Choice("features.modalities.text", value, why))
    if sizes.topics > 0:
        value = {"encoder": "topics", "fields": ["topics"], "dimensions": 32 if shape.two_levels else 64}
        choices.append(Choice("features.modalities.topics", value, f"{sizes.topics:.0%} of the items have topics"))
    if shape.on_dense:
        why = "item vectors of the dense baseline; measured to help on Amazon Beauty"
        choices.append(Choice("features.modalities.learnt", {"encoder": "dense"}, why))
    elif not choices or sizes.words < 5:
        why = "there is little text, and with so many items a dense teacher would take most of the time"
        choices.append(Choice("features.modalities.cooccurrence", {"encoder": "cooccurrence", "dimensions": 64}, why))
    return choices


def _tokenize(sizes: Sizes, shape: _Shape) -> list[Choice]:
    if shape.two_levels:
        first = 2 ** round(math.log2(sizes.learnt / 4))
        return [
            Choice("tokenize.method", "rqkmeans", "as good as the RQ-VAE for many users with short histories, faster"),
            Choice("tokenize.codebook_sizes", [first, 32], f"{sizes.learnt / first:.0f} items to a first code"),
            Choice("tokenize.collision", "reassign", "two codes an item; colliding items are reassigned"),
        ]
    codebooks = default_sizes(sizes.learnt)
    return [
        Choice("tokenize.method", "rqvae", "ahead of RQ-KMeans on MovieLens"),
        Choice(
            "tokenize.codebook_sizes", codebooks, f"{sizes.learnt / codebooks[0]:.0f} items to a first code; halving"
        ),
    ]


def _cpt(sizes: Sizes, shape: _Shape, machine: Machine) -> list[Choice]:
    tokens = shape.max_history * shape.levels + 8
    context = next((length for length in (128, 256) if tokens <= length), 512)
    text = 2000 if sizes.items < 5_000 else 4000
    text = text if sizes.text else 600 if sizes.topics else 300
    scratch = {
        "hidden_size": 128,
        "layers": shape.layers,
        "heads": 4,
        "intermediate_size": 512 if shape.layers == 4 else 256,
        "text_vocabulary": text,
    }
    choices = [
        Choice("cpt.epochs", 3 if sizes.train < 1_000_000 else 1, "passes over the histories"),
        Choice("cpt.batch_size", 16, f"blocks of {context} tokens"),
        Choice("cpt.learning_rate", 0.002 if shape.short else 0.0015, "as measured on data of this shape"),
        Choice("cpt.context_length", context, f"{shape.max_history} items of {shape.levels} codes fit"),
        Choice("cpt.max_history", shape.max_history, f"95% of the users have {sizes.lengths[1]:,.0f} items or fewer"),
        Choice("cpt.scratch", scratch, "a small model from random weights; `cpt.base` takes a Hugging Face model"),
    ]
    if not sizes.text and sizes.topics:
        weights = {"behaviour": {"weight": 0.7}, "metadata": {"weight": 0.3}}
        choices.append(Choice("cpt.corpus", weights, "items have topics and no text to read"))
    if shape.layers == 4:
        choices.append(Choice("cpt.dropout", 0.1, "four layers"))
    return [*choices, *_precision("cpt", machine)]


def _precision(stage: str, machine: Machine) -> list[Choice]:
    if machine.half:
        return [Choice(f"{stage}.precision", "bfloat16", f"a step is {machine.half_gain:.1f} times as fast here")]
    return []


def _finetune(sizes: Sizes, shape: _Shape, machine: Machine) -> list[Choice]:
    most, seen = (32, 5.4e6) if shape.short else (10, 1e6)
    epochs = min(most, max(4, round(seen / max(1, sizes.train))))
    choices = [
        Choice("finetune.epochs", epochs, f"{sizes.train:,} training interactions; it stops early if nothing improves"),
        Choice("finetune.batch_size", shape.batch, "histories of a step"),
        Choice("finetune.learning_rate", 0.001 if shape.batch == 16 else 0.002, "fits the batch"),
        Choice("finetune.max_history", shape.max_history, f"95% of the users have {sizes.lengths[1]:,.0f} or fewer"),
        Choice("finetune.history_dropout", 0.2, "without it validation loss rises again on MovieLens 100K"),
    ]
    if shape.layers == 4:
        choices.append(Choice("finetune.dropout", 0.2, "four layers"))
        choices.append(Choice("finetune.weight_decay", 0.05, "four layers"))
    if shape.on_dense:
        choices.append(Choice("finetune.teacher_weight", 0.5, "half of each label is the teacher's prediction"))
        choices.append(Choice("finetune.teacher", "trials", "the mean of both trials finds more than the better one"))
    if epochs > 16:
        choices.append(Choice("finetune.validate_every", 4, "decoding takes a good part of a short epoch"))
    users = min(4000 if epochs > 16 else 2000, max(1, sizes.questions))
    choices.append(Choice("finetune.validation_users", users, "users decoded at each validation"))
    return [*choices, *_precision("finetune", machine)]


def _eval(sizes: Sizes, shape: _Shape, machine: Machine) -> list[Choice]:
    choices = []
    if sizes.seen_tests >= SEEN_TESTS:
        why = f"for {sizes.seen_tests:.0%} of the test users the test item is already in their history"
        choices.append(Choice("eval.filter_seen", False, why))
    wide = shape.short and shape.layers == 4  # as Amazon Beauty, where the recipe was measured
    most = 21 if wide else 60
    epochs = most if sizes.train <= 200_000 else max(10, round(most * 200_000 / sizes.train))
    choices += [
        Choice("eval.dense.epochs", epochs, "the learning rate ends at zero with the last one"),
        Choice("eval.dense.batch_size", 64 if shape.batch == 16 else 256, "histories of a step"),
        Choice("eval.dense.learning_rate", 0.001, "the best of those tried on Amazon Beauty and MovieLens"),
        Choice("eval.dense.max_history", shape.max_history, "as much as plum reads"),
    ]
    if wide:
        choices.append(Choice("eval.dense.hidden_size", 128, "as measured on Amazon Beauty"))
        choices.append(Choice("eval.dense.feed_forward", 2, "as measured on Amazon Beauty"))
    if shape.short:
        choices.append(Choice("eval.dense.dropout", 0.5, "short histories overfit quickly"))
    if shape.on_dense:
        tried = {"block": ["pre-norm", "ligr"]} if wide else {"dropout": [0.3, 0.5]}
        if "dropout" in tried:
            choices = [choice for choice in choices if choice.key != "eval.dense.dropout"]
        choices.append(Choice("eval.dense.search", tried, "two trials; validation chooses one, both are teachers"))
        choices.append(Choice("eval.dense.keep_trials", True, "the teachers"))
        if machine.device == "cpu" and machine.cores > 1:
            choices.append(Choice("eval.dense.trials_at_once", 2, f"{machine.cores} cores"))
    choices.append(Choice("eval.dense.patience", 8, "validations without a better Recall@10"))
    return [*choices, *_precision("eval.dense", machine)]


def warnings(sizes: Sizes) -> list[str]:
    """What of the data changes how figures are to be read."""
    told = []
    if sizes.bad_rows:
        told.append(f"{sizes.bad_rows:,} of {sizes.rows:,} rows are left out: `plum data describe` lists why.")
    if sizes.tied_tests >= TIED_TESTS:
        told.append(
            f"For {sizes.tied_tests:.0%} of the test users a tie in time decides which item is the test, and a shuffle "
            "breaks it. If the file is in order, set data.split.ties=keep."
        )
    if sizes.short_users >= SHORT_USERS * sizes.users:
        told.append(f"{sizes.short_users:,} of {sizes.users:,} users have fewer than 3 interactions and only train.")
    if sizes.largest_user[0] >= GIANT_USER and sizes.users > 20:
        rule = f"user_id != {spell_value(sizes.largest_user[1])}"
        told.append(
            f"One user, {sizes.largest_user[1]!r}, has {sizes.largest_user[0]:.0%} of the log: if that stands for "
            f"users who are not known, leave it out with data.source.where: {rule}."
        )
    if sizes.odd_times:
        told.append(f"{sizes.odd_times:.1%} of the times are before 1990 or in the future: are they right?")
    if sizes.items > DENSE_TEACHES or sizes.train > 5_000_000:
        told.append("No data of this size were measured: the recipe is a starting point.")
    return told
