"""The table item <-> Semantic ID."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from sid_catalogues import catalogues

from plum.errors import PlumError
from plum.sid.table import SidTable, bucket_rank, default_sizes


@given(catalogues())
def test_bucket_rank_is_most_popular_first_then_catalogue_order(catalogue):
    codes, popularity = catalogue
    expected = np.zeros(len(codes), dtype=np.int64)
    for sid in {tuple(c) for c in codes.tolist()}:
        members = [row for row, c in enumerate(codes.tolist()) if tuple(c) == sid]
        for place, row in enumerate(sorted(members, key=lambda row: (-popularity[row], row))):
            expected[row] = place
    assert np.array_equal(bucket_rank(codes, popularity), expected)


def test_an_empty_catalogue_has_no_ranks():
    assert bucket_rank(np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize("codes", [[[0, 1], [0, 2]], [[-1, 0]], [[3, 0]]])
def test_a_code_outside_its_codebook_is_named(codes):
    with pytest.raises(PlumError, match=r"outside its codebook\n.*row \d has"):
        SidTable(np.array(codes), (3, 2))


@pytest.mark.parametrize("codes", [np.zeros((2, 3), dtype=int), np.zeros(2, dtype=int)])
def test_codes_of_another_width_are_refused(codes):
    with pytest.raises(PlumError, match="don't belong together"):
        SidTable(codes, (3, 2))


def test_default_sizes():
    assert default_sizes(600) == [64, 32, 16]
    assert default_sizes(1682) == [256, 128, 64]
    assert default_sizes(9742) == [1024, 512, 256]
    assert default_sizes(1) == [16, 8, 4]
    assert default_sizes(10**9) == [2048, 1024, 512]
