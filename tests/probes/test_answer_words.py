import pytest
from hypothesis import given
from hypothesis import strategies as st

from plum.probes.words import best_constant, token_f1, words_of


@pytest.mark.parametrize(
    ("found", "truth", "f1"),
    [
        ("Heat (1995)", "heat 1995", 1.0),
        ("the heat", "Heat (1995)", 0.5),
        ("a a b", "a b b", 2 / 3),  # shared: a once, b once
        ("heat heat heat", "heat", 0.5),
        ("", "heat", 0.0),
        ("heat", "...", 0.0),
        ("", "...", 1.0),
        ("naïve café", "NAÏVE CAFÉ", 1.0),
    ],
)
def test_f1_by_hand(found, truth, f1):
    assert token_f1(found, truth) == pytest.approx(f1)


@given(st.text(max_size=30), st.text(max_size=30))
def test_f1_is_symmetric_and_1_exactly_for_the_same_words(first, second):
    assert token_f1(first, second) == token_f1(second, first)
    assert 0 <= token_f1(first, second) <= 1
    assert (token_f1(first, second) == 1) == (sorted(words_of(first)) == sorted(words_of(second)))


def test_the_best_constant_is_nearest_to_all_others():
    assert best_constant(["Drama", "Comedy", "Drama, Comedy", "War"], 100, 0) == "Drama, Comedy"
    assert best_constant(["War", "Drama", "Drama"], 100, 0) == "Drama"
    assert best_constant(["one"], 100, 0) == "one"


def test_the_sample_of_the_best_constant_is_drawn_by_the_seed():
    texts = [f"word{i}" for i in range(50)]
    assert best_constant(texts, 5, 3) == best_constant(texts, 5, 3)
