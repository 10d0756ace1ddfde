"""Rates, schedule and precision that follow from the model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.lm.defaults import HIGHEST_RATE, PLUM_RATES, Defaults, defaults_of, far_off, pretrained_rate


@pytest.mark.parametrize(("size", "rate"), [(110e6, 1e-4), (370e6, 7e-5), (900e6, 5e-5), (3e9, 2e-5)])
def test_the_rates_of_the_paper(size, rate):
    assert pretrained_rate(round(size)) == rate


@pytest.mark.parametrize(
    ("size", "rate"),
    [
        (135_000_000, 9.4e-5),  # 1e-4 * (135 / 110) ** (ln .7 / ln(370 / 110)) = 9.41e-5
        (10_000_000, 3.2e-4),  # 1e-4 * (10 / 110) ** (ln .2 / ln(3000 / 110)) = 3.21e-4
        (7_000_000_000, 1.3e-5),  # 2e-5 * (7 / 3) ** the same = 1.32e-5
        (1, 1e-3),  # as a small model from scratch
    ],
)
def test_rates_between_and_beyond_them_by_hand(size, rate):
    assert pretrained_rate(size) == rate


@given(st.integers(1, 10**13), st.integers(1, 10**13))
def test_larger_models_never_have_larger_rates(one, other):
    small, large = sorted([one, other])
    assert 0 < pretrained_rate(large) <= pretrained_rate(small) <= 1e-3


@pytest.mark.parametrize("half", [False, True])
def test_a_model_from_scratch_is_trained_as_ever(half):
    assert defaults_of("cpt", 10**6, False, half_products=half) == Defaults(2e-3, "cosine", "auto")
    assert defaults_of("finetune", 10**9, False, half_products=half) == Defaults(1e-3, "cosine", "auto")


def test_a_pre_trained_model_is_warmed_up_and_decayed_then_fine_tuned_at_a_constant_rate():
    assert defaults_of("cpt", 110_000_000, True) == Defaults(1e-4, "cosine", "auto")
    assert defaults_of("finetune", 110_000_000, True, half_products=True) == Defaults(1e-4, "constant", "bfloat16")


def test_adapters_take_ten_times_the_rate():
    for size, rate in PLUM_RATES.items():
        assert defaults_of("cpt", round(size), True, lora=True).learning_rate == pytest.approx(10 * rate)
    assert defaults_of("finetune", 1000, True, lora=True).learning_rate == HIGHEST_RATE


@pytest.mark.parametrize("given", [1e-5, 9.9e-4, 1e-3, 1e-4])
def test_rates_up_to_ten_times_off_are_fine(given):
    assert far_off(given, 1e-4) is None


def test_rates_further_off_are_told_with_both():
    assert far_off(2e-3, 1e-4) == "learning rate 0.002 is 20 times the default for this model, 0.0001"
    assert far_off(1e-6, 1e-4) == "learning rate 1e-06 is 1/100 of the default for this model, 0.0001"
