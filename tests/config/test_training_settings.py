"""Settings of the training engine: parts of a schedule, and what a run of an earlier version would not name."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_run
from pydantic import ValidationError

from plum.config.dense import WITHOUT_EFFECT
from plum.config.language_model import ADDED, CptConfig, FinetuneConfig
from plum.config.run import RunConfig
from plum.stages import inputs, training


def test_parts_of_a_schedule_fit_into_the_training():
    CptConfig(schedule="infinite", warmup_share=0.2, cooldown_share=0.4, decay_share=0.4)
    CptConfig(schedule="cosine", warmup_share=0.2, cooldown_share=0.9, decay_share=0.9)
    with pytest.raises(ValidationError, match="the parts of schedule infinite are more than the whole training"):
        CptConfig(schedule="infinite", warmup_share=0.3, cooldown_share=0.4, decay_share=0.4)
    with pytest.raises(ValidationError, match="schedule wsd are more"):
        CptConfig(schedule="wsd", warmup_share=0.5, decay_share=0.6)


def test_a_decay_by_a_factor_does_not_reach_zero():
    CptConfig(schedule="wsd", final_rate=0)
    with pytest.raises(ValidationError, match="final_rate must be above 0"):
        CptConfig(schedule="infinite", final_rate=0)


@pytest.mark.parametrize(
    "given", [{"optimizer": "sgd"}, {"report_to": ["comet"]}, {"max_steps": 0}, {"parallel": "tp"}]
)
def test_unknown_choices_are_refused(given):
    with pytest.raises(ValidationError):
        CptConfig(**given)


def test_defaults_are_not_recorded_so_that_runs_stay_up_to_date():
    values = tiny_run.pipeline(Path("runs/x"))
    plain = inputs.recorded(RunConfig.model_validate(values), "cpt")
    assert not set(plain) & {*ADDED, *WITHOUT_EFFECT}
    values["cpt"] |= {"max_steps": 7, "report_to": ["tensorboard"], "weights": "bfloat16"}
    values["cpt"] |= {"micro_batch_size": 2, "gradient_checkpointing": True, "parallel": "fsdp", "compile": True}
    assert inputs.recorded(RunConfig.model_validate(values), "cpt") == plain | {"max_steps": 7, "weights": "bfloat16"}


def test_a_recipe_has_what_the_configuration_says():
    settings = FinetuneConfig(
        learning_rate=1e-3,
        schedule="wsd",
        decay_share=0.3,
        final_rate=0.0,
        max_steps=70,
        validate_steps=20,
        micro_batch_size=4,
    )
    recipe = training.recipe(settings, 25, patience=3, validate_every=2)
    assert (recipe.total_steps, recipe.total_epochs, recipe.micro_batch) == (70, 3, 4)
    assert (recipe.schedule, recipe.decay_share, recipe.final_rate) == ("wsd", 0.3, 0.0)
    assert [step for step in range(1, 71) if recipe.is_validated(step)] == [20, 40, 60, 70]
