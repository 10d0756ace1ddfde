"""Arguments that no file of a run could hold are refused before anything is read."""

from __future__ import annotations

import pytest

from plum.cli.app import app
from plum.errors import PlumError


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--config", "\udcff.yaml"],
        ["run", "--set", "data.source.interactions=\udcff"],
        ["recommend", "--workdir", "x", "--user", "\udce9"],
        ["init", "log\udcff.csv"],
    ],
)
def test_arguments_that_are_not_utf_8(args: list[str]) -> None:
    with pytest.raises(PlumError, match=r"argument \d is not UTF-8"):
        app(args, standalone_mode=False)
