"""Seconds that a step of each training takes on this machine, by a few steps of the real thing."""

from __future__ import annotations

import functools
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.config.dense import DenseConfig, combinations, with_settings
from plum.config.run import RunConfig
from plum.data.histories import Histories
from plum.lm import documents, examples, vocab
from plum.lm.distill import SoftLabels, distillation_loss
from plum.lm.examples import Batch
from plum.lm.loss import Levels, next_token_loss
from plum.lm.train import train
from plum.retrievers.dense import Dense, DenseBatch, ItemTransformer, dense_batches, dense_loss, target_counts
from plum.retrievers.generative import Generative
from plum.retrievers.softmax import Negatives, n_negatives
from plum.retrievers.teacher import Teacher
from plum.runtime import Precision, autocast, has_half_products, pick_device
from plum.sid.codec import Codec
from plum.sid.collisions import add_suffix
from plum.sid.table import SidTable, default_sizes
from plum.stages import trained, training
from plum.training.loop import Recipe, fit

MOST_STEPS, WARM, FEWEST = 48, 1, 3
"""Steps of a timing: at most, at the start that don't count, and at least that do."""
USERS = 64
"""Users that are decoded for a timing."""
MOST_USERS = 20_000
"""Users, at most, of whose histories batches are made."""


@dataclass(frozen=True)
class Speed:
    """Seconds of one unit of work of each stage.

    Attributes:
        cpt_step, finetune_step: of the language model, with its teacher if it has one.
        decode_validation, decode_eval: per user, with the beams of validation and of stage eval.
        dense_steps: of each trial of the dense baseline.
        dense_user: its answer to one user.
        parameters: of the language model and of the largest dense baseline.
    """

    cpt_step: float
    finetune_step: float
    decode_validation: float
    decode_eval: float
    dense_steps: tuple[float, ...]
    dense_user: float
    parameters: tuple[int, int]


class _Enough(Exception):
    """A timing has seen as many steps as it needs."""


@contextmanager
def quiet() -> Iterator[None]:
    """No messages of the parts while they are timed."""
    package = logging.getLogger("plum")
    before = package.level
    package.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package.setLevel(before)


def time_steps(
    run: Callable[[Recipe, Callable[[int], Iterable[Any]], Path], Any], batches: Any, budget: float
) -> float:
    """Mean seconds of a training step.

    Args:
        run: trains by a recipe on the batches of an epoch, with a folder for its checkpoint.
        batches: the batches of an epoch.
        budget: seconds after which it ends, when a few steps are done.
    """
    asked: list[float] = []

    def timed(_: int) -> Iterator[Any]:
        epoch = 0
        while len(asked) < MOST_STEPS:
            for batch in batches(epoch):
                asked.append(time.perf_counter())
                if len(asked) >= WARM + FEWEST and asked[-1] - asked[0] > budget:
                    raise _Enough
                yield batch
                if len(asked) == MOST_STEPS:
                    break
            epoch += 1
        asked.append(time.perf_counter())

    recipe = Recipe(epochs=1, steps_per_epoch=MOST_STEPS, learning_rate=1e-3, checkpoint_steps=10**9)
    with tempfile.TemporaryDirectory(prefix="plum-init-") as folder, suppress(_Enough):
        run(recipe, timed, Path(folder) / "checkpoint")
    return (asked[-1] - asked[WARM]) / (len(asked) - 1 - WARM)


@dataclass(frozen=True)
class Bench:
    """The models of a recipe with random weights, and made-up Semantic IDs of the catalogue.

    Attributes:
        config: the recipe.
        histories: of the training part, of some users.
        questions: histories of users to answer to.
        table: made-up Semantic IDs.
        tokenizer: that knows their tokens and hardly any text.
    """

    config: RunConfig
    histories: Sequence[np.ndarray]
    questions: Sequence[np.ndarray]
    table: SidTable
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, config: RunConfig, histories: Histories, n_items: int) -> Bench:
        """A bench for a recipe and a split."""
        rng = np.random.default_rng(0)
        sizes = tuple(config.tokenize.codebook_sizes or default_sizes(n_items))
        codes = np.stack([rng.integers(0, size, n_items) for size in sizes], axis=1)
        suffix = config.tokenize.collision == "suffix"
        table = add_suffix(codes, sizes, np.zeros(n_items)) if suffix else SidTable(codes, sizes)
        tokenizer = vocab.train_tokenizer([documents.HISTORY_PREFIX], 300)
        vocab.add_sid_tokens(tokenizer, table.sizes)
        chosen = rng.permutation(len(histories.train))[:MOST_USERS]
        _, asked, _ = histories.questions("test")
        places = np.unique(np.linspace(0, len(asked) - 1, USERS).round().astype(int))
        return cls(config, [histories.train[i] for i in chosen], [asked[i] for i in places], table, tokenizer)

    @property
    def device(self) -> torch.device:
        """Where the run will train."""
        return pick_device(self.config.device)

    @property
    def codec(self) -> Codec:
        """Of the made-up Semantic IDs."""
        return vocab.codec_of(self.tokenizer, self.table.sizes)

    def language_model(self) -> PreTrainedModel:
        """A new one of the recipe's shape, with as large a vocabulary as it will have."""
        shape = self.config.cpt.scratch
        model = vocab.scratch_model(
            vocab.ScratchShape(shape.hidden_size, shape.layers, shape.heads, shape.intermediate_size),
            self.tokenizer,
            max(self.config.cpt.context_length, 2048),
        )
        model.resize_token_embeddings(len(self.tokenizer) + max(0, shape.text_vocabulary - 300), mean_resizing=False)
        training.move(model, self.config.device)
        return model

    def cpt_step(self, budget: float, precision: Precision | None = None) -> float:
        """Seconds of a step of pre-training."""
        settings, rng = self.config.cpt, np.random.default_rng(0)

        def batches(_: int) -> Iterator[Batch]:
            shape = (settings.batch_size, settings.context_length)
            # Documents of about 32 tokens share a row.
            places = torch.from_numpy(np.arange(settings.context_length) % 32).expand(shape)
            for _number in range(MOST_STEPS):
                tokens = torch.from_numpy(rng.integers(0, len(self.tokenizer), shape))
                yield Batch(tokens, tokens, positions=places)

        model = self.language_model()
        run = functools.partial(
            _train,
            model,
            "timing cpt",
            next_token_loss,
            None,
            settings.dropout,
            precision or settings.precision or "auto",
        )
        return time_steps(run, batches, budget)

    def finetune_step(self, model: PreTrainedModel, budget: float) -> float:
        """Seconds of a step of fine-tuning, the teacher's answer included if there is one."""
        settings = self.config.finetune
        cut = examples.windows(self.histories, settings.max_history + 1)
        prefix = documents.history_prefix(self.tokenizer)
        tokens, pad = self.codec.encode(self.table.codes), self.tokenizer.pad_token_id
        batches = functools.partial(
            examples.batches, cut, tokens, prefix, settings.batch_size, settings.history_dropout, pad, 0
        )
        loss: Callable[[PreTrainedModel, Any], Tensor] = next_token_loss
        prepare = None
        if self.config.taught_by_dense:
            loss, prepare = self._taught()
        precision = settings.precision or "auto"
        run = functools.partial(_train, model, "timing finetune", loss, prepare, settings.dropout, precision)
        return time_steps(run, batches, budget)

    def _taught(self) -> tuple[Callable[[PreTrainedModel, Any], Tensor], Callable[[Batch], Any] | None]:
        """Loss and preparation with teachers that know nothing, and answer as fast as others."""
        trials = combinations(self.config.eval.dense.search) if self.config.taught_by_trials else [{}]
        teacher = Teacher([self.dense_model(values).to(self.device) for values in trials], self.table)
        levels = Levels.of(self.codec.token_ids, self.device)
        weight = self.config.finetune.teacher_weight

        def ask(batch: Batch) -> tuple[Batch, SoftLabels]:
            if batch.history is None:
                raise ValueError("a teacher needs the items of a batch")
            return batch, teacher.soft_labels(*batch.history)

        def loss(pupil: PreTrainedModel, taught: tuple[Batch, SoftLabels]) -> Tensor:
            return distillation_loss(pupil, *taught, levels, weight)

        if self.device.type == "cpu":
            return loss, ask
        return lambda pupil, batch: loss(pupil, ask(batch)), None

    def decode_user(self, model: PreTrainedModel, beams: int | Sequence[int], k: int) -> float:
        """Seconds in which plum answers one user."""
        retriever = Generative(
            model.eval(),
            self.table,
            self.codec,
            documents.history_prefix(self.tokenizer),
            self.config.finetune.max_history,
            np.zeros(len(self.table.codes)),
            beams,
        )
        with torch.no_grad():
            retriever.recommend(self.questions[:4], k, self.questions[:4])
            start = time.perf_counter()
            retriever.recommend(self.questions, k, self.questions)
        return (time.perf_counter() - start) / len(self.questions)

    def dense_model(self, values: dict[str, Any]) -> ItemTransformer:
        """A new dense baseline with the settings of a trial."""
        return trained.untrained_dense(with_settings(self.config.eval.dense, values), len(self.table.codes))

    def dense_step(self, values: dict[str, Any], budget: float) -> tuple[float, float]:
        """Seconds of a step of a trial of the dense baseline, and of its answer to one user."""
        settings: DenseConfig = with_settings(self.config.eval.dense, values)
        n_items, device = len(self.table.codes), self.device
        model = self.dense_model(values).to(device)
        cut = [window for window in examples.windows(self.histories, settings.max_history + 1) if len(window.items) > 1]
        drawn = n_negatives(settings.negatives, n_items)
        negatives = Negatives(target_counts(cut, n_items), drawn, settings.negative_power) if drawn else None

        def loss(batch: DenseBatch) -> dict[str, Tensor]:
            with autocast(device, settings.precision):
                return {"loss": dense_loss(model, batch, negatives)}

        def run(recipe: Recipe, batches: Callable[[int], Iterable[DenseBatch]], folder: Path) -> None:
            fit(model, recipe, batches, loss, checkpoint=folder, name="timing dense")

        batches = functools.partial(dense_batches, cut, settings.max_history, settings.batch_size, 0)
        step = time_steps(run, batches, budget)
        asked = [*self.questions] * 8
        retriever = Dense(model)
        retriever.recommend(self.questions, 10, self.questions)
        start = time.perf_counter()
        retriever.recommend(asked, 10, asked)
        return step, (time.perf_counter() - start) / len(asked)


def _train(
    model: PreTrainedModel,
    name: str,
    loss: Callable[[PreTrainedModel, Any], Tensor],
    prepare: Callable[[Batch], Any] | None,
    dropout: float,
    precision: Precision,
    recipe: Recipe,
    batches: Callable[[int], Iterable[Batch]],
    folder: Path,
) -> None:
    train(
        model,
        recipe,
        batches,
        checkpoint=folder,
        name=name,
        batch_loss=loss,
        prepare=prepare,
        dropout=dropout,
        precision=precision,
    )


def half_gain(config: RunConfig, histories: Histories, n_items: int, budget: float = 0.7) -> float:
    """How many times as fast the language model's step is in bfloat16 as in float32; 0 where no one need try."""
    if not has_half_products():
        return 0.0
    with quiet():
        bench = Bench.of(config, histories, n_items)
        return bench.cpt_step(budget, "float32") / bench.cpt_step(budget, "bfloat16")


def time_all(config: RunConfig, histories: Histories, n_items: int, budget: float = 1.5) -> Speed:
    """Time every training of a recipe.

    Args:
        config: the recipe.
        histories: the split.
        n_items: N.
        budget: seconds for each timing; together they take about six times as long.
    """
    with quiet():
        bench = Bench.of(config, histories, n_items)
        model = bench.language_model()
        trials = combinations(config.eval.dense.search)
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // min(config.eval.dense.trials_at_once, len(trials))))
        try:
            dense = [bench.dense_step(values, budget) for values in trials]
        finally:
            torch.set_num_threads(threads)
        beams, k = config.eval.beams, max(config.eval.cutoffs)
        return Speed(
            cpt_step=bench.cpt_step(budget),
            finetune_step=bench.finetune_step(model, budget),
            decode_validation=bench.decode_user(model, config.finetune.validation_beams, 10),
            decode_eval=bench.decode_user(model, beams, k),
            dense_steps=tuple(step for step, _ in dense),
            dense_user=max(user for _, user in dense),
            parameters=(
                model.num_parameters(),
                max(sum(p.numel() for p in bench.dense_model(values).parameters()) for values in trials),
            ),
        )
