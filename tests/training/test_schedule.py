"""Learning rates against values by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.training.loop import Recipe
from plum.training.schedule import Schedule


def shares(schedule, steps):
    return [schedule.share(step, steps) for step in range(steps)]


def test_wsd_stays_at_the_peak_and_decays_by_the_square_root():
    found = shares(Schedule("wsd", warmup_share=0.2, final_rate=0.0, decay_share=0.4), 10)
    decay = [1, 1 - math.sqrt(1 / 4), 1 - math.sqrt(2 / 4), 1 - math.sqrt(3 / 4)]
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, *decay])


def test_wsd_ends_at_the_final_rate():
    schedule = Schedule("wsd", 0.0, final_rate=0.1, decay_share=0.25)
    assert schedule.share(9, 12) == pytest.approx(1)
    assert schedule.share(10, 12) == pytest.approx(0.1 + 0.9 * (1 - math.sqrt(1 / 3)))
    assert schedule.share(12, 12) == pytest.approx(0.1)


def test_infinite_cools_down_to_a_plateau_and_is_annealed_by_a_factor():
    schedule = Schedule("infinite", 0.1, final_rate=0.125, decay_share=0.2, cooldown_share=0.4, plateau=0.5)
    found = shares(schedule, 20)
    assert found[:2] == pytest.approx([0.5, 1])  # two steps of warm-up
    assert found[2] == pytest.approx(1)  # the cool-down starts at the peak
    assert found[6] == pytest.approx(0.75)  # half-way down: the mean of peak and plateau
    assert found[10:17] == pytest.approx([0.5] * 7)  # the plateau, and the first step of the decay
    assert found[18] == pytest.approx(0.5 * 0.25**0.5)  # half of the decay: the square root of its factor
    assert schedule.share(20, 20) == pytest.approx(0.125)


def test_the_plateau_of_a_longer_training_is_that_of_a_shorter_one():
    """What makes it infinite: the weights before the decay are of use for any further training."""
    schedule = Schedule("infinite", 0.0, cooldown_share=0.1)
    assert schedule.share(300, 1000) == schedule.share(3000, 10_000) == schedule.plateau


@given(
    kind=st.sampled_from(["constant", "cosine", "wsd", "infinite"]),
    warmup=st.floats(0, 0.5),
    final=st.floats(0.01, 1),
    decay=st.floats(0.01, 0.25),
    cooldown=st.floats(0.01, 0.25),
    plateau=st.floats(0.01, 1),
    steps=st.integers(1, 300),
)
def test_rates_rise_to_the_peak_and_never_rise_again(kind, warmup, final, decay, cooldown, plateau, steps):
    schedule = Schedule(kind, warmup, min(final, plateau), decay, cooldown, plateau)
    found = shares(schedule, steps)
    rise = max(1, round(warmup * steps))
    assert found[:rise] == sorted(found[:rise])
    assert found[rise - 1 :] == pytest.approx(sorted(found[rise - 1 :], reverse=True))
    assert all(0 < share <= 1 + 1e-9 for share in found)


def test_a_recipe_multiplies_its_peak():
    recipe = Recipe(1, 10, 0.004, warmup_share=0.2, schedule="wsd", final_rate=0.0, decay_share=0.4)
    assert [recipe.rate(step) for step in (0, 1, 7)] == pytest.approx([0.002, 0.004, 0.002])


@pytest.mark.parametrize(
    ("recipe", "total", "epochs"),
    [
        (Recipe(3, 5, 0.1), 15, 3),
        (Recipe(3, 5, 0.1, max_steps=7), 7, 2),
        (Recipe(1, 5, 0.1, max_steps=12), 12, 3),
        (Recipe(3, 0, 0.1, max_steps=7), 0, 0),
    ],
)
def test_most_steps_take_the_place_of_epochs(recipe, total, epochs):
    assert recipe.total_steps == total
    assert not total or recipe.total_epochs == epochs
