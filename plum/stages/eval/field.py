"""All retrievers that a run compares, the untrained ones tuned on its validation part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from plum.config.blends import BLEND, HYBRID, RETRIEVERS
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.retrievers.choose import MEASURE, best_of
from plum.retrievers.dense import MeanDense
from plum.retrievers.generative import Generative
from plum.retrievers.optimum import BayesOptimal
from plum.retrievers.protocol import Retriever
from plum.run import artifacts, saved, shapes
from plum.run.manifest import has_file, read_manifest
from plum.stages import inputs, trained
from plum.stages.eval import untrained

ABOUT = {
    "popularity": "The items with most training interactions.",
    "recencypop": "The items with most training interactions, weighted by age: a weight halves with every half-life.",
    "textknn": "The items whose words or content are most similar to those of the history, the newest weighing most.",
    "itemknn": "The items that go with those of the history in other histories, by order and distance if that helps.",
    "counting": "All retrievers without a trained model, blended: weights learnt on validation users.",
    "lem": "Large embedding model: a small transformer over item-ID embeddings that hold nearly all parameters.",
    "dense": "SASRec-type transformer over item embeddings, trained with softmax cross-entropy over the catalogue.",
    MeanDense.name: "All trials of dense's search as one retriever, by an item's mean score.",
    "plum": "Language model that generates Semantic IDs, decoded by beam search over those of the catalogue.",
    "hybrid": "The lists of plum and dense, fused by weighted reciprocal rank.",
    "blend": "All retrievers of the run, plum among them, blended: weights learnt on validation users.",
    "optimum": "The best that any retriever could do, known because the data are synthetic.",
}
"""What each retriever is, for readers of a report."""


def in_order(names: Iterable[str]) -> list[str]:
    """Retrievers in the order in which reports show them; blends that the configuration adds stand before ``blend``."""
    known = list(ABOUT)
    return sorted(names, key=lambda name: known.index(name if name in known else BLEND) - 0.5 * (name not in known))


@dataclass(frozen=True)
class Field:
    """All retrievers of a run.

    Attributes:
        retrievers: by name, weakest kind first.
        tuning: how each one's settings were chosen on the validation part: ``{"searched": {field: [value]}, "trials":
            [{"settings", "valid_recall@10"}], "chosen": {field: value}}``.
        left_out: the retrievers that this run cannot have, with the reason.
        tuned: those of them that count more for the test (``eval.counts``), as they were on the validation part.
    """

    retrievers: dict[str, Retriever]
    tuning: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    tuned: dict[str, Retriever] = field(default_factory=dict)

    def on_validation(self, name: str) -> Retriever:
        """A retriever to ask for validation users; the one for the test may have counted their targets."""
        return self.tuned.get(name, self.retrievers[name])


def all_retrievers(config: RunConfig, data: inputs.Prepared) -> Field:
    """Make every retriever that is wanted but those that combine others.

    What has settings is tuned on validation. The bound of synthetic data is no retriever, and is always there.
    """
    wanted = config.eval.wants
    possible = [name for name in RETRIEVERS if name != MeanDense.name or inputs.has_mean_of_trials(config)]
    left_out = {name: "not asked for (eval.retrievers)" for name in possible if not wanted(name) and name != HYBRID}
    made = Field({}, {}, left_out)
    for name, found in untrained.all_untrained(config, data).items():
        if isinstance(found, str):
            made.left_out[name] = found
            continue
        made.retrievers[name] = found.retriever
        if found.trials:
            made.tuning[name] = _told(found.trials)
        if found.tuned is not found.retriever:
            made.tuned[name] = found.tuned
            if found.trials:
                made.tuning[name]["note"] = "for the test users it counts the validation part too (eval.counts)"
    if wanted(artifacts.LEM) and config.eval.lem is None:
        made.left_out[artifacts.LEM] = "not asked for (eval.lem)"
    for kind in reversed(config.eval.baselines):
        made.retrievers[kind] = trained.dense_retriever(config, kind, data.items)
        made.tuning[kind] = _searched(config, kind)
    if MeanDense.name in possible and wanted(MeanDense.name):
        mean = trained.mean_of_trials(config, data.items)
        made.retrievers[MeanDense.name] = mean
        made.tuning[MeanDense.name] = _of_mean(mean, config, data)
    made.retrievers[Generative.name] = trained.plum_retriever(config, data)
    made.tuning[Generative.name] = _by_hand(config)
    if has_file(config.workdir, artifacts.TRUTH):
        made.retrievers[BayesOptimal.name] = _optimum(config, len(data.items))
    return made


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
    made = made | found.get("training", {})  # what the configuration left open
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
    kept = (
        "block",
        "hidden_size",
        "layers",
        "dropout",
        "learning_rate",
        "weight_decay",
        "batch_size",
        "embedding_size",
    )
    fixed = {name: getattr(settings, name) for name in kept if name not in settings.search}
    note = "not searched: " + ", ".join(f"{name} {value}" for name, value in fixed.items() if value is not None)
    return {"searched": settings.search, "trials": trials, "chosen": chosen, "note": note}


def _told(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Trials of a small grid as the report has them; of equal ones the first was chosen."""
    names = list(trials[0]["settings"])
    searched = {name: list(dict.fromkeys(trial["settings"][name] for trial in trials)) for name in names}
    return {"searched": searched, "trials": trials, "chosen": best_of(trials)}
