"""The settings of a user's own files: delimiters by name, places as column names, paths of no one's home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plum.config.data import LogsSource
from plum.config.file import load_config
from plum.errors import PlumError


def source(*settings: str) -> LogsSource:
    given = [f"data.source.{setting}" for setting in ("kind=logs", "interactions=log.csv", *settings)]
    loaded = load_config(None, given).data.source
    assert isinstance(loaded, LogsSource)
    return loaded


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("delimiter=tab", "\t"),
        ('delimiter="\\t"', "\t"),
        ("delimiter=bar", "|"),
        ("delimiter=;", ";"),
        ("delimiter=double-colon", "::"),
        ('delimiter="::"', "::"),
        ("delimiter=space", " "),
        ("escape=backslash", "\\"),
        ("escape=\\", "\\"),
        ("quoting=none", "none"),
        ("header=false", False),
        ("columns.user_id=1", {"user_id": "1"}),
    ],
)
def test_layouts_are_set_as_people_write_them(setting: str, value: Any) -> None:
    assert getattr(source(setting), setting.partition("=")[0].partition(".")[0]) == value


@pytest.mark.parametrize(
    "setting", ["delimiter=''", "delimiter='\"'", 'delimiter="\\n"', "escape=ab", "quoting=all", "escape=a"]
)
def test_layouts_that_can_not_be_are_refused(setting: str) -> None:
    with pytest.raises(PlumError, match=setting.partition("=")[0]):
        source(setting)


@pytest.mark.parametrize("key", ["items", "users", "interactions"])
def test_the_home_of_no_user_is_told(key: str) -> None:
    with pytest.raises(PlumError, match="there is no user with the home folder ~nosuchuser"):
        source(f"{key}=~nosuchuser/log.csv")
    with pytest.raises(PlumError, match="zero byte"):
        source(f'{key}="a\\0b"')
    with pytest.raises(PlumError, match="UTF-8"):
        load_config(None, [], data={"source": {"kind": "logs", "interactions": "log\udcff.csv"}})
    assert getattr(source(f"{key}=~/x"), key) == Path.home() / "x"


def test_other_paths_of_no_user() -> None:
    for setting in ("workdir=~nosuchuser/x", "features.modalities.x={encoder: file, path: ~nosuchuser/x.npy}"):
        with pytest.raises(PlumError, match="nosuchuser"):
            load_config(None, ["data.source.kind=synthetic", setting])
