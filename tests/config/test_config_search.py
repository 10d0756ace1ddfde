"""Search spaces in the configuration: values as the fields take them, every mistake told when the file is read."""

from __future__ import annotations

import pytest

from plum.config.dense import DenseConfig, LemConfig, with_settings
from plum.config.file import load_config, validate
from plum.errors import PlumError


def config_of(**sections):
    return validate({"workdir": "w", "data": {"source": {"kind": "synthetic"}}, **sections}, "x.yaml")


def refused(**sections):
    with pytest.raises(PlumError) as caught:
        config_of(**sections)
    return str(caught.value)


def test_values_are_taken_as_the_field_takes_them():
    search = {"learning_rate": ["1e-3", 1], "layers": [1, "2"], "schedule": ["cosine"], "embedding_size": [None, 32]}
    found = config_of(eval={"dense": {"search": search}}).eval.dense.search
    assert found == {"learning_rate": [0.001, 1.0], "layers": [1, 2], "schedule": ["cosine"]} | {
        "embedding_size": [None, 32]
    }
    assert [type(value) for value in found["learning_rate"]] == [float, float]


def test_a_search_can_be_set_on_the_command_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("data: {source: {kind: synthetic}}\n")
    config = load_config(path, ["eval.lem.search.dropout=[0.1, 0.3]", "eval.dense.search={layers: [1, 2]}"])
    assert config.eval.lem.search == {"dropout": [0.1, 0.3]}
    assert config.eval.dense.search == {"layers": [1, 2]}


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"drpout": [0.1]}, ["drpout: unknown key; did you mean dropout?"]),
        ({"zzz": [1]}, ["zzz: unknown key; known here: batch_size, "]),
        ({"search": [{}]}, ["search: unknown key"]),
        ({"trials_at_once": [1, 2]}, ["trials_at_once: unknown key"]),
        ({"dropout": [0.1, 1.5]}, ["dropout: Input should be less than 1 (given: 1.5)"]),
        ({"learning_rate": [float("inf")]}, ["learning_rate: Input should be a finite number"]),
        ({"layers": [1, 2, 1]}, ["layers: a value is given twice"]),
        ({"layers": []}, ["eval.dense.search.layers: List should have at least 1 item"]),
        ({"layers": 2}, ["eval.dense.search.layers: Input should be a valid list"]),
        ({"heads": [1, 3, 5]}, ["not a multiple of heads 3; search: ", "not a multiple of heads 5"]),
        ({"hidden_size": [64, 66], "heads": [2, 3]}, ["hidden_size 64 is not a multiple of heads 3"]),
        ({"lyers": [1], "epochs": [0]}, ["lyers: unknown key; did you mean layers?", "epochs: Input should be"]),
    ],
)
def test_a_mistake_in_a_search_is_told_before_anything_is_trained(search, expected):
    message = refused(eval={"dense": {"search": search}})
    assert "1 mistake in the configuration" in message
    assert all(text in message for text in expected)


def test_mistakes_in_searches_come_with_all_others():
    message = refused(
        seeed=1, eval={"dense": {"search": {"drpout": [1]}, "epochs": 0}, "lem": {"search": {"heads": [3]}}}
    )
    assert "4 mistakes" in message
    for text in ("seeed: ", "eval.dense.search: drpout", "eval.dense.epochs: ", "eval.lem: search: hidden_size 64"):
        assert text in message


def test_the_large_embedding_model_is_there_if_asked_for():
    assert config_of().eval.lem is None
    assert config_of(eval={"lem": {}}).eval.lem == LemConfig()
    assert (LemConfig().embedding_size, LemConfig().tied) == (256, False)
    assert (DenseConfig().embedding_size, DenseConfig().tied) == (None, True)
    assert config_of(eval={"lem": None}).eval.lem is None


def test_chosen_settings_replace_a_sections_own_and_end_its_search():
    section = LemConfig(epochs=3, search={"dropout": [0.1, 0.2], "heads": [1, 2]})
    chosen = with_settings(section, {"dropout": 0.2, "heads": 1})
    assert chosen == LemConfig(epochs=3, dropout=0.2, heads=1)
    assert isinstance(chosen, LemConfig)
    with pytest.raises(ValueError, match="not a multiple of heads"):
        with_settings(section, {"heads": 3})
