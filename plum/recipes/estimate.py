"""Minutes of each stage and memory of a run: measured seconds of a unit of work times the units that there will be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from plum.config.dense import combinations, with_settings
from plum.config.run import RunConfig
from plum.data.histories import Histories
from plum.lm import examples
from plum.recipes.timing import Speed
from plum.sid.table import default_sizes

WITHIN = 2.0
"""Factor by which minutes may be off: other programs, other batches, an earlier stop."""
REPORT_SECONDS = 20.0
"""Of stage eval beside decoding, on two cores: plots of the report, intervals and tests."""
INVALID_USERS = 2_000
"""Users of whom stage eval draws what the model says without the constraint."""
SIDE_BY_SIDE = 1.3
"""How much longer two trials take side by side than one alone: they share memory (docs/lab-notes.md)."""
FORWARD = 1 / 3
"""Share of a training step that a pass without gradients takes."""
BYTES_PER_PARAMETER = 16
"""Weight, gradient and AdamW's two moments, in single precision."""
RETRIEVERS = 10
LISTED_BYTES = 120
"""Of one recommended item: its lists under both rules on seen items, and its row of recommendations.parquet."""
PROCESS_MIB = 450.0
"""Of another Python process with torch."""
MIB = 2**20
STAGES = ("data", "features", "tokenize", "cpt", "finetune", "dense", "eval")


@dataclass(frozen=True)
class Work:
    """How much each stage has to do, if no training stops early.

    Attributes:
        cpt_steps: of all epochs.
        cpt_epoch_steps: of one.
        finetune_steps: of all epochs.
        finetune_decoded: users decoded at all validations together.
        dense_steps: of each trial.
        dense_answered: users answered to at all validations of one trial.
        eval_decoded: users decoded for the comparison, for each rule on seen items and the weights of blends.
        test_users: users asked.
        pairs: entries of ItemKNN's matrix, at most.
    """

    cpt_steps: int
    cpt_epoch_steps: int
    finetune_steps: int
    finetune_decoded: int
    dense_steps: tuple[int, ...]
    dense_answered: int
    eval_decoded: int
    test_users: int
    pairs: int


def work_of(config: RunConfig, histories: Histories, n_items: int, has_text: bool) -> Work:
    """Count the work of a configuration on a split.

    Args:
        config: of the run.
        histories: the split.
        n_items: N.
        has_text: whether items have text or topics, which pre-training reads beside the histories.
    """
    levels = len(config.tokenize.codebook_sizes or default_sizes(n_items))
    levels += config.tokenize.collision == "suffix"
    n_valid = len(histories.questions("valid")[0])
    n_test = len(histories.questions("test")[0])
    per_epoch = _cpt_epoch(config, histories, levels, has_text)
    finetune = config.finetune
    cut = examples.windows(histories.train, finetune.max_history + 1)
    asked = min(n_valid, finetune.validation_users)
    dense = []
    for values in combinations(config.eval.dense.search):
        settings = with_settings(config.eval.dense, values)
        n = sum(len(window.items) > 1 for window in examples.windows(histories.train, settings.max_history + 1))
        dense.append(settings.epochs * -(-n // settings.batch_size))
    lengths = np.array([len(history) for history in histories.train], dtype=np.int64)
    return Work(
        cpt_steps=config.cpt.epochs * per_epoch,
        cpt_epoch_steps=per_epoch,
        finetune_steps=finetune.epochs * examples.n_batches(cut, finetune.batch_size),
        finetune_decoded=asked * -(-finetune.epochs // finetune.validate_every),
        dense_steps=tuple(dense),
        dense_answered=n_valid * config.eval.dense.epochs,
        eval_decoded=2 * n_test + asked + min(INVALID_USERS, n_test),
        test_users=n_test,
        pairs=int(min((lengths**2).sum(), n_items**2)),
    )


def _cpt_epoch(config: RunConfig, histories: Histories, levels: int, has_text: bool) -> int:
    """Steps of one pass over the histories, about as ``plum.corpus.mixture.Mixture`` has them."""
    settings = config.cpt
    lengths = [len(history) for history in histories.train]
    windows = sum(-(-length // settings.max_history) for length in lengths)
    tokens = sum(lengths) * levels + windows * 5  # the start, the prefix, and the end
    weights = {name: section.weight for name, section in settings.corpus.documents.items()}
    if not has_text:
        weights.pop("metadata", None)
    share = weights.get("behaviour", 0) / (sum(weights.values()) or 1) or 1.0
    return max(1, math.ceil(tokens / share / settings.context_length / settings.batch_size))


@dataclass(frozen=True)
class Other:
    """Seconds that are measured as a whole: reading and splitting the log, features, and Semantic IDs."""

    data: float
    features: float
    tokenize: float


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        minutes: of each stage.
        memory_mib: at the peak.
        memory: what it is made of, in MiB.
        busy: how busy other programs kept the machine meanwhile, in words; blank if they did not.
        within: the factor by which minutes may be off.
    """

    minutes: dict[str, float]
    memory_mib: float
    memory: dict[str, float]
    busy: str = ""
    within: float = WITHIN

    @property
    def total(self) -> float:
        """Minutes of all stages."""
        return sum(self.minutes.values())

    def as_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {
            "minutes": {stage: round(value, 2) for stage, value in self.minutes.items()},
            "total_minutes": round(self.total, 1),
            "within_factor": self.within,
            "busy": self.busy,
            "memory_mib": round(self.memory_mib),
            "memory": {name: round(value) for name, value in self.memory.items()},
        }


def minutes(work: Work, speed: Speed, other: Other, at_once: int = 1) -> dict[str, float]:
    """Minutes of each stage.

    Args:
        work: units.
        speed: seconds of a unit.
        other: seconds of what is no training of a retriever.
        at_once: trials of dense trained side by side.
    """
    trials = [
        steps * step + work.dense_answered * speed.dense_user
        for steps, step in zip(work.dense_steps, speed.dense_steps, strict=True)
    ]
    seconds = {
        "data": other.data,
        "features": other.features,
        "tokenize": other.tokenize,
        "cpt": (work.cpt_steps + FORWARD * work.cpt_epoch_steps) * speed.cpt_step,
        "finetune": work.finetune_steps * speed.finetune_step + work.finetune_decoded * speed.decode_validation,
        "dense": sum(trials) if at_once < 2 else SIDE_BY_SIDE * max(max(trials), sum(trials) / at_once),
        "eval": REPORT_SECONDS + work.eval_decoded * speed.decode_eval,
    }
    return {stage: seconds[stage] / 60 for stage in STAGES}


def memory(work: Work, speed: Speed, held: float, log_mib: float, k: int, at_once: int = 1) -> dict[str, float]:
    """MiB of what a run holds at its peak, by part.

    Args:
        work: units.
        speed: whose models' parameters count.
        held: MiB of this process, which had the log in memory and trained each model for some steps.
        log_mib: MiB of the log's table.
        k: items of a list.
        at_once: trials of dense trained side by side.
    """
    model, dense = speed.parameters
    others = 0.0 if at_once < 2 else at_once * (PROCESS_MIB + 2 * log_mib + BYTES_PER_PARAMETER * dense / MIB)
    lists = RETRIEVERS * work.test_users * k * LISTED_BYTES / MIB
    return {
        "libraries, activations and tables": held - log_mib - BYTES_PER_PARAMETER * model / MIB,
        "log": log_mib,
        "model and optimizer": BYTES_PER_PARAMETER * model / MIB,
        "lists and neighbours, or trials side by side": max(others, lists + 16 * work.pairs / MIB),
    }
