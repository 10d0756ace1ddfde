import numpy as np
import pytest

from plum.corpus.held_out import held_out


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (10, 0), (100, 5), (200, 10), (900, 10), (22_363, 224)])
def test_a_hundredth_but_at_least_some(n, expected):
    assert held_out(n, 0.01, 0, 0).sum() == expected


def test_it_is_drawn_by_the_seed():
    draws = [held_out(500, 0.1, seed, number) for seed, number in ((0, 0), (0, 0), (1, 0), (0, 1))]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], draws[3])
    assert not held_out(500, 0.0, 0, 0).any()
