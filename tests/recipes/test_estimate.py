"""The estimate counts a run's work and grows with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_up_logs as made
import pytest

from plum.config.run import RunConfig
from plum.recipes import make
from plum.recipes.estimate import STAGES, Other, Work, memory, minutes, work_of
from plum.recipes.finding import find
from plum.recipes.recipe import Machine, choose
from plum.recipes.timing import Speed

SPEED = Speed(0.2, 0.1, 0.005, 0.01, (0.1, 0.15), 0.001, (400_000, 120_000))
WORK = Work(400, 140, 700, 2_500, (500, 500), 30_000, 6_500, 2_000, 90_000)
OTHER = Other(2.0, 1.0, 13.0)


def pipeline(tmp_path: Path, **more: int) -> tuple[RunConfig, make.Read]:
    log = made.write(tmp_path / "log.csv", made.log(**more))
    data = make.read(find(log))
    choices = make.configuration(data, choose(data.measured.sizes, Machine()), "log", tmp_path / "run")
    return make.validated(choices), data


def test_every_stage_has_minutes_and_more_work_takes_more() -> None:
    before = minutes(WORK, SPEED, OTHER)
    assert tuple(before) == STAGES
    assert all(value > 0 for value in before.values())
    for name, stage in [("cpt_steps", "cpt"), ("finetune_steps", "finetune"), ("dense_answered", "dense")]:
        more = minutes(replace(WORK, **{name: 10 * getattr(WORK, name)}), SPEED, OTHER)
        assert more[stage] > before[stage]
    assert before["cpt"] == pytest.approx((400 + 140 / 3) * 0.2 / 60)


def test_trials_side_by_side_take_less_time_and_more_memory() -> None:
    assert minutes(WORK, SPEED, OTHER, at_once=2)["dense"] < minutes(WORK, SPEED, OTHER)["dense"]
    alone, beside = (memory(WORK, SPEED, 800.0, 5.0, 50, at_once) for at_once in (1, 2))
    assert sum(beside.values()) > sum(alone.values()) > 800
    assert all(value > 0 for value in alone.values())


def test_work_grows_with_the_log(tmp_path: Path) -> None:
    config, small = pipeline(tmp_path, users=20)
    _, large = pipeline(tmp_path, users=80)
    few, many = (work_of(config, data.measured.histories, made.ITEMS, False) for data in (small, large))
    assert many.finetune_steps > few.finetune_steps
    assert many.dense_steps[0] > few.dense_steps[0]
    assert many.eval_decoded > few.eval_decoded
    assert many.cpt_steps >= few.cpt_steps


def test_the_steps_are_those_that_the_stages_take(finished_run: Path) -> None:
    from plum.config.file import load_config
    from plum.run import artifacts
    from plum.stages import inputs

    config, data = load_config(finished_run / "config.yaml"), inputs.read_prepared(finished_run)
    counted = work_of(config, data.histories, len(data.items), True)
    assert counted.finetune_steps == artifacts.read_json(finished_run / artifacts.FINETUNE_METRICS)["steps"]
    assert counted.dense_steps == (artifacts.read_json(finished_run / "dense" / "metrics.json")["steps"],)
    taken = artifacts.read_json(finished_run / artifacts.CPT_METRICS)["steps"]
    assert counted.cpt_steps == pytest.approx(taken, rel=0.25)
    assert work_of(config, data.histories, len(data.items), False).cpt_steps < counted.cpt_steps


def test_minutes_in_words() -> None:
    assert [make.told_minutes(value) for value in (0.001, 0.5, 12.3, 210)] == ["1 s", "30 s", "12 min", "3.5 h"]
