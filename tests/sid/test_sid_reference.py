"""What an RQ-VAE is compared with, and when it is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from plum.errors import PlumError
from plum.sid.reference import errors_of, reconstruction_ratio, refuse_unlearnt


def test_the_ratio_by_hand():
    assert reconstruction_ratio([0.1, 0.3], [0.4, 0.1]) == pytest.approx(0.8)
    assert reconstruction_ratio([0.5], [0.25]) == pytest.approx(2)
    assert reconstruction_ratio([0.5], [0.0]) is None
    assert reconstruction_ratio([0.1, 0.3], [0.4, 0.1], [2, 1]) == pytest.approx(0.5 / 0.9)


def test_errors_by_hand():
    squares = np.array([[1.0, 3.0, 5.0], [5.0, 7.0, 9.0]])
    assert errors_of(squares, [2, 1], None).tolist() == [4, 7]
    assert errors_of(squares, [2, 1], np.array([[True, True], [False, True]])).tolist() == [2, 7]


def test_a_tokenizer_that_has_not_learnt_is_refused_or_warned_of(caplog):
    with pytest.raises(
        PlumError, match=r"1\.60 times that of residual k-means(.|\n)*tokenize.max_steps(.|\n)*\(1\.5\)"
    ):
        refuse_unlearnt(1.6, 1.5)
    with caplog.at_level(logging.WARNING, logger="plum"):
        for ratio, most in ((None, 1.5), (0.9, 1.5), (1.0, None)):
            refuse_unlearnt(ratio, most)
        assert not caplog.records
        refuse_unlearnt(1.2, 1.5)
        refuse_unlearnt(9.0, None)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "9.00 times" in caplog.text
