"""All retrievers that a run compares, the untrained ones tuned on its validation part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from plum.config.run import RETRIEVERS, RunConfig
from plum.errors import PlumError
from plum.evaluation.rankings import Recommendations
from plum.retrievers.choose import MEASURE, choose
from plum.retrievers.content import TextKNN, choose_decay
from plum.retrievers.dense import MeanDense
from plum.retrievers.generative import Generative
from plum.retrievers.hybrid import choose_weights, fuse
from plum.retrievers.optimum import BayesOptimal
from plum.retrievers.protocol import Retriever
from plum.retrievers.simple import ItemKNN, Popularity, RecencyPopularity, choose_half_life
from plum.run import artifacts, saved, shapes
from plum.run.manifest import has_file, read_manifest
from plum.stages import inputs, trained

ABOUT = {
    "popularity": "The items with most training interactions.",
    "recencypop": "The items with most training interactions, weighted by age: a weight halves with every half-life.",
    "textknn": "The items whose content is most similar to that of the history; it needs no training interactions.",
    "itemknn": "The items that share most users with those of the history (shrunk cosine similarity of co-occurrence).",
    "lem": "Large embedding model: a small transformer over item-ID embeddings that hold nearly all parameters.",
    "dense": "SASRec-type transformer over item embeddings, trained with softmax cross-entropy over the catalogue.",
    MeanDense.name: "All trials of dense's search as one retriever, by an item's mean score.",
    "plum": "Language model that generates Semantic IDs, decoded by beam search over those of the catalogue.",
    "hybrid": "The lists of plum and dense, fused by weighted reciprocal rank.",
    "optimum": "The best that any retriever could do, known because the data are synthetic.",
}
"""What each retriever is, for readers of a report."""

NEIGHBOURS = (10, 100)
SHRINKAGES = (0.0, 10.0)
"""Of ItemKNN, tried on the validation part."""


@dataclass(frozen=True)
class Field:
    """All retrievers of a run.

    Attributes:
        retrievers: by name, weakest kind first.
        tuning: how each one's settings were chosen on the validation part: ``{"searched": {field: [value]}, "trials":
            [{"settings", "valid_recall@10"}], "chosen": {field: value}}``.
        left_out: the retrievers that this run cannot have, with the reason.
    """

    retrievers: dict[str, Retriever]
    tuning: dict[str, dict[str, Any]]
    left_out: dict[str, str]


def all_retrievers(config: RunConfig, data: inputs.Prepared) -> Field:
    """Make every retriever that is wanted but the hybrid, whose parts are decoded first.

    What has settings is tuned on validation. The bound of synthetic data is no retriever, and is always there.
    """
    wanted = config.eval.wants
    possible = [name for name in RETRIEVERS if name != MeanDense.name or inputs.has_mean_of_trials(config)]
    field = Field({}, {}, {name: "not asked for (eval.retrievers)" for name in possible if not wanted(name)})
    if wanted(Popularity.name):
        field.retrievers[Popularity.name] = Popularity(data.popularity)
    _add_untrained(field, config, data)
    if wanted(artifacts.LEM) and config.eval.lem is None:
        field.left_out[artifacts.LEM] = "not asked for (eval.lem)"
    for kind in reversed(config.eval.baselines):
        field.retrievers[kind] = trained.dense_retriever(config, kind, len(data.items))
        field.tuning[kind] = _searched(config, kind)
    if MeanDense.name in possible and wanted(MeanDense.name):
        mean = trained.mean_of_trials(config, len(data.items))
        field.retrievers[MeanDense.name] = mean
        field.tuning[MeanDense.name] = _of_mean(mean, config, data)
    field.retrievers[Generative.name] = trained.plum_retriever(config, data)
    field.tuning[Generative.name] = _by_hand(config)
    if has_file(config.workdir, artifacts.TRUTH):
        field.retrievers[BayesOptimal.name] = _optimum(config, len(data.items))
    return field


def _optimum(config: RunConfig, n_items: int) -> BayesOptimal:
    """The bound of synthetic data, from their planted truth.

    Raises:
        PlumError: if the truth is damaged or of another catalogue.
    """
    path = config.workdir / artifacts.TRUTH
    fix = artifacts.made_again_by(path)
    arrays = saved.read_arrays(path, "the truth of synthetic data", fix)
    try:
        optimum = BayesOptimal(arrays)
    except (ValueError, IndexError, TypeError) as error:
        raise PlumError(f"{path} can't be read as the truth of synthetic data", str(error), fix) from None
    if optimum.n_items != n_items:
        raise PlumError(f"{path} is of another catalogue", f"{optimum.n_items:,} items, {n_items:,} here", fix)
    return optimum


def _add_untrained(field: Field, config: RunConfig, data: inputs.Prepared) -> None:
    """Recency-popularity, TextKNN and ItemKNN, where they are wanted and the data have what they need."""
    n_items = len(data.items)
    items = np.concatenate(data.histories.train)
    _, histories, targets = data.histories.questions("valid")
    seen = histories if config.eval.filter_seen else None

    def add(found: tuple[Retriever, list[dict[str, Any]]]) -> None:
        retriever, trials = found
        field.retrievers[retriever.name] = retriever
        field.tuning[retriever.name] = _told(trials)

    if config.eval.wants(RecencyPopularity.name):
        times = inputs.train_times(config.workdir)
        if times is None:
            field.left_out[RecencyPopularity.name] = "the source gives the order of interactions, not their times"
        else:
            add(choose_half_life(items, times, n_items, histories, targets, seen))
    if config.eval.wants(TextKNN.name):
        vectors = inputs.content_vectors(config.workdir)
        if vectors is None:
            field.left_out[TextKNN.name] = "the items have no content, only vectors of training histories"
        else:
            add(choose_decay(vectors, histories, targets, seen))
    if config.eval.wants(ItemKNN.name):
        users = np.repeat(np.arange(len(data.histories.train)), [len(h) for h in data.histories.train])
        options = [
            ({"neighbours": n, "shrinkage": s}, partial(ItemKNN, users, items, n_items, n, s))
            for n in NEIGHBOURS
            for s in SHRINKAGES
        ]
        add(choose(options, histories, targets, seen))


def fuse_on_validation(
    config: RunConfig,
    data: inputs.Prepared,
    parts: Sequence[Retriever],
    views: Sequence[Sequence[Recommendations]],
    depth: int,
    k: int,
) -> tuple[list[Recommendations], dict[str, Any]]:
    """The hybrid of two retrievers, from lists that they made; weight and constant are chosen on validation users.

    Args:
        config: of the run.
        data: its data.
        parts: the two retrievers.
        views: for every rule on seen items, the two retrievers' lists.
        depth: places of a list that count, where it is as long.
        k: K.

    Returns:
        The fused lists of every view, and how the settings were chosen.
    """
    _, histories, targets = inputs.validation_sample(data, config.finetune.validation_users, config.seed)
    seen = histories if config.eval.filter_seen else None
    asked = [_first(part.recommend(histories, min(depth, k), seen), depth) for part in parts]
    (weight, constant), trials = choose_weights(asked, targets)
    cut = [[_first(found, depth) for found in view] for view in views]
    lists = [fuse(view, [weight, 1.0 - weight], constant, len(data.items), k) for view in cut]
    note = (
        f"weight is that of {parts[0].name}; 1 - weight that of {parts[1].name}. Chosen on {len(targets):,} validation "
        "users, by whom the parts' own weights were chosen too: each part looks better there than it is"
    )
    return lists, _told(trials) | {"note": note}


def _first(found: Recommendations, depth: int) -> Recommendations:
    return Recommendations(found.items[:, :depth], found.scores[:, :depth])


def _of_mean(mean: MeanDense, config: RunConfig, data: inputs.Prepared) -> dict[str, Any]:
    """What the mean of dense's trials finds for the validation users, by whom nothing of it is chosen."""
    _, histories, targets = data.histories.questions("valid")
    recall = inputs.validation_metrics(mean, histories, targets, config.eval.filter_seen)["recall@10"]
    note = "nothing is searched: every trial of dense's search counts alike, the weak ones too"
    return {"searched": {}, "trials": [{"settings": {}, MEASURE: recall}], "chosen": {}, "note": note}


def _by_hand(config: RunConfig) -> dict[str, Any]:
    """The generative model's own settings, which no stage searches."""
    made = read_manifest(config.workdir / artifacts.FINETUNE).config  # whatever the settings are now
    found = artifacts.read_json(config.workdir / artifacts.FINETUNE_METRICS, shapes.Validated)
    kept = ("learning_rate", "weight_decay", "dropout", "history_dropout", "batch_size", "epochs")
    told = ", ".join(f"{name} {made[name]}" for name in (*kept, "teacher_weight", "teacher") if name in made)
    note = f"set by hand before the run, not searched: {told}"
    if (teacher := found.get("teacher_valid_recall@10")) is not None:
        note += f" (on the same validation users the teacher has {teacher:.4f})"
    note += ". What was tried for a data set is told in docs/evaluation.md"
    return {"searched": {}, "trials": [{"settings": {}, MEASURE: found[MEASURE]}], "chosen": {}, "note": note}


def _searched(config: RunConfig, kind: str) -> dict[str, Any]:
    """How the settings of a trained baseline were chosen, as its stage recorded it."""
    settings = trained.dense_settings(config, kind)
    trials = artifacts.read_json(config.workdir / kind / artifacts.TRIALS, list[shapes.Trial])
    chosen = artifacts.read_json(config.workdir / kind / "metrics.json", shapes.Chosen)["chosen"]
    kept = ("hidden_size", "layers", "dropout", "learning_rate", "weight_decay", "batch_size", "embedding_size")
    fixed = {name: getattr(settings, name) for name in kept if name not in settings.search}
    note = "not searched: " + ", ".join(f"{name} {value}" for name, value in fixed.items() if value is not None)
    return {"searched": settings.search, "trials": trials, "chosen": chosen, "note": note}


def _told(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Trials of a small grid as the report has them; of equal ones the first was chosen."""
    names = list(trials[0]["settings"])
    searched = {name: list(dict.fromkeys(trial["settings"][name] for trial in trials)) for name in names}
    best = max(trials, key=lambda trial: trial[MEASURE])
    return {"searched": searched, "trials": trials, "chosen": best["settings"]}
