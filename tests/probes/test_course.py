import json
import logging

import numpy as np
import pytest
import torch
from worlds import World

from plum.errors import PlumError
from plum.probes.course import OF_DRIFT, Course


class Counting:
    """A task that gives 1, 2, 3 ... and fails when told to."""

    def __init__(self, failing=()):
        self.references = {"always": {"value": 9.0}}
        self.times, self._failing = 0, failing

    def measure(self, model):
        self.times += 1
        if self.times in self._failing:
            raise torch.OutOfMemoryError("no memory")
        return {"value": float(self.times), "levels": [0.5, float("nan")]}


LOGGED = {"value": ("group.count", "value", None), "second": ("group.count", "levels", 1), "drift": OF_DRIFT}


def course_of(world, task):
    return Course(world.model, np.concatenate(world.codec.token_ids), {"group.count": lambda: task}, LOGGED, "cpt")


def test_a_course_tells_what_was_before_and_after_beside_references(tmp_path):
    world = World()
    course = course_of(world, Counting())
    assert course.start(tmp_path / "start.safetensors") == {"value": 1.0, "drift": 0.0}
    with torch.no_grad():
        for parameter in world.model.parameters():
            parameter.mul_(2)  # as far from the start as it is from zero
    found = course.step()
    assert found["value"] == 2.0
    assert found["drift"] == pytest.approx(1.0)
    report = json.loads(json.dumps(course.report()))
    rows = report["group"]["count"]
    assert list(rows) == ["before", "after", "always"]
    assert (rows["before"]["value"], rows["after"]["value"], rows["always"]["value"]) == (1.0, 2.0, 9.0)
    assert report["drift"]["code embeddings"]["relative_l2"] == pytest.approx(1.0)
    assert report["missing"] == {}


def test_a_failed_measurement_is_missing_and_the_others_are_there(tmp_path, caplog):
    world = World()
    course = course_of(world, Counting(failing=(2,)))
    course.start(tmp_path / "start.safetensors")
    with caplog.at_level(logging.WARNING, "plum"):
        assert course.step() == {"drift": 0.0}
    assert "group.count could not be measured" in caplog.text
    report = course.report()
    assert "after" not in report["group"]["count"]
    assert report["missing"] == {"group.count": "OutOfMemoryError: no memory"}
    assert course.attempt("samples", lambda: 1 / 0) is None
    assert set(course.report()["missing"]) == {"group.count", "samples"}


def test_a_task_that_cannot_be_made_is_missing(tmp_path):
    def make():
        raise PlumError("no trie", "none", "make one")

    world = World()
    course = Course(world.model, np.concatenate(world.codec.token_ids), {"group.count": make}, LOGGED, "cpt")
    assert course.start(tmp_path / "start.safetensors") == {"drift": 0.0}
    assert "no trie" in course.report()["missing"]["group.count"]


def test_without_room_for_the_first_weights_only_the_drift_is_missing(tmp_path):
    course = course_of(World(), Counting())
    (tmp_path / "no folder").write_text("")
    assert course.start(tmp_path / "no folder" / "start.safetensors") == {"value": 1.0}
    assert set(course.report()["missing"]) == {"drift"}


def test_weights_that_got_other_names_have_no_drift(tmp_path):
    world = World()
    course = course_of(world, Counting())
    course.start(tmp_path / "start.safetensors")
    world.model.added = torch.nn.Linear(2, 2)
    assert course.step() == {"value": 2.0}
    assert "added" in course.report()["missing"]["drift"]


def test_measuring_draws_no_random_numbers(tmp_path):
    course = course_of(World(), Counting())
    before = torch.get_rng_state()
    course.start(tmp_path / "start.safetensors")
    course.step()
    assert torch.equal(before, torch.get_rng_state())
