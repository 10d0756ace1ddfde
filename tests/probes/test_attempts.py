import logging

import pytest
import torch

from plum.errors import PlumError
from plum.probes.attempts import Attempts


def fail(error):
    raise error


def test_failures_are_warned_of_and_remembered_and_others_go_on(caplog):
    attempts = Attempts("cpt")
    with caplog.at_level(logging.WARNING, "plum"):
        assert attempts.make("loss", lambda: fail(torch.OutOfMemoryError("no memory\nat all"))) is None
        assert attempts.make("titles", lambda: fail(PlumError("a text is broken", "this", "do that"))) is None
        assert attempts.make("drift", lambda: 3) == 3
        assert attempts.make("topics", lambda: fail(MemoryError())) is None
    assert attempts.missing["loss"] == "OutOfMemoryError: no memory"
    assert "a text is broken" in attempts.missing["titles"]
    assert attempts.missing["topics"] == "MemoryError"
    assert set(attempts.missing) == {"loss", "titles", "topics"}
    assert "cpt: loss could not be measured and is left out" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NameError("x"), AttributeError("y")])
def test_stops_and_mistakes_pass(error):
    with pytest.raises(type(error)):
        Attempts("cpt").make("loss", lambda: fail(error))
