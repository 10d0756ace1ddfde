"""A run's own configuration file: whole, cut short, edited, or of someone else."""

from __future__ import annotations

import pytest
import tiny_run
import yaml

from plum.config.file import load_config
from plum.errors import PlumError
from plum.run import artifacts
from plum.run.configuration import BEFORE_0_8, is_edited


@pytest.fixture
def written(tmp_path):
    config = load_config(tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run")))
    artifacts.write_config(tmp_path / "run", config.model_dump(mode="json") | {"title": "naïve – 北"})
    return artifacts.config_path(tmp_path / "run")


def test_every_cut_is_refused(written):
    content, whole = written.read_bytes(), load_config(written)
    assert whole.title == "naïve – 北"
    for length in (*range(0, len(content), 11), *range(len(content) - 100, len(content) - 1)):
        written.write_bytes(content[:length])
        with pytest.raises(PlumError):
            load_config(written)
    written.write_bytes(content[:-1])  # all but the end of the last line
    assert load_config(written) == whole


def test_zeros_in_place_of_the_end_are_refused(written):
    content = written.read_bytes()
    for length in range(0, len(content) - 1, 97):
        written.write_bytes(content[:length] + bytes(len(content) - length))
        with pytest.raises(PlumError):
            load_config(written)


def test_the_remedy_of_a_cut_works(written):
    content = written.read_bytes()
    for length in (0, 5, 200, len(content) - 20):
        written.write_bytes(content[:length])
        artifacts.write_config(written.parent, yaml.safe_load(content))
        assert written.read_bytes() == content
    written.write_bytes(b"\n".join(content.split(b"\n")[:30]))
    with pytest.raises(PlumError, match=r"(?s)config.yaml was cut short.*--config.*remove the first line too"):
        load_config(written)
    written.write_bytes(b"\n".join(content.split(b"\n")[1:-2]))
    assert load_config(written).title == "naïve – 北"


def test_an_edited_copy_is_a_pipeline(written, tmp_path):
    text = written.read_text()
    assert not is_edited(text)
    for edited in (text.replace("seed: 0", "seed: 7", 1), text.replace("seed: 0", "seed: 7", 1) + "# mine\n"):
        (tmp_path / "mine.yaml").write_text(edited)
        assert load_config(tmp_path / "mine.yaml").seed == 7
        assert is_edited(edited)


def test_files_of_earlier_versions_are_read_and_replaced(written):
    values = yaml.safe_load(written.read_text())
    written.write_text(f"{BEFORE_0_8}\n{yaml.safe_dump(values)}")
    assert load_config(written).title == values["title"]
    artifacts.write_config(written.parent, values | {"seed": 3})
    assert load_config(written).seed == 3
