"""Health of Semantic IDs by hand, and the refusal of collapsed codebooks."""

from __future__ import annotations

import numpy as np
import pytest

from plum.errors import PlumError
from plum.sid.quality import level_health, refuse_collapse, uniqueness


def test_level_health_by_hand():
    codes = np.array([[0, 0], [0, 1], [1, 2], [1, 2]])
    first, second = level_health(codes, [4, 3])
    assert first == {"size": 4, "usage": 0.5, "perplexity": pytest.approx(2.0)}
    assert second["usage"] == 1.0
    assert second["perplexity"] == pytest.approx(np.exp(0.5 * np.log(2) + 0.5 * np.log(4)))


def test_uniqueness_by_hand():
    found = uniqueness(np.array([[0, 1], [0, 1], [2, 2], [0, 2], [0, 1]]))
    assert found == {"uniqueness": 0.4, "collision_rate": 0.6, "max_items_per_sid": 3}


def test_collapse_names_the_level_and_the_remedy():
    levels = [{"size": 8, "usage": 1.0, "perplexity": 8.0}, {"size": 8, "usage": 0.125, "perplexity": 1.0}]
    with pytest.raises(PlumError, match=r"level 1: 12\.5% of 8 codes, perplexity 1\.0") as caught:
        refuse_collapse(levels, n_items=100, min_usage=0.25)
    assert "level 0" not in str(caught.value)
    assert "tokenize.codebook_sizes" in str(caught.value)


def test_a_small_catalogue_can_use_no_more_codes_than_items():
    refuse_collapse([{"size": 1000, "usage": 0.005, "perplexity": 5.0}], n_items=10, min_usage=0.5)
    with pytest.raises(PlumError):
        refuse_collapse([{"size": 1000, "usage": 0.004, "perplexity": 4.0}], n_items=10, min_usage=0.5)


@pytest.mark.parametrize("size", [7, 49, 98, 103])
def test_usage_right_on_the_threshold_passes_whatever_the_rounding(size):
    refuse_collapse([{"size": size, "usage": 1 / size, "perplexity": 1.0}], n_items=1, min_usage=1.0)
