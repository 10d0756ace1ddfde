"""Configuration: all mistakes at once, the nearest key named, settings, and every shipped pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from plum.config.file import load_config, validate
from plum.config.run import RunConfig
from plum.errors import PlumError

PIPELINES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.yaml"))
SOURCE = {"source": {"kind": "synthetic"}}


def refused(values, where="x.yaml"):
    with pytest.raises(PlumError) as caught:
        validate({"workdir": "w", "data": SOURCE, **values}, where)
    return str(caught.value)


def accepted(**values):
    return validate({"workdir": "w", "data": SOURCE, **values}, "x.yaml")


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_every_shipped_pipeline_loads_and_survives_being_written_out(path):
    config = load_config(path)
    assert config.workdir.parts[0] == "runs"
    dumped = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
    assert validate(dumped, "again") == config


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_every_shipped_pipeline_says_what_it_is(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for label in ("# What:", "# Data:", "# Command:", "# Hardware:"):
        assert any(line.startswith(label) for line in header), label


def test_there_are_pipelines():
    assert PIPELINES


def test_all_mistakes_come_at_once_with_the_value_given():
    message = refused({"seeed": 1, "cpt": {"epochs": 0}, "finetune": {"learning_rate": "fast"}, "eval": {"beams": 5}})
    assert message.startswith("x.yaml: 4 mistakes in the configuration")
    assert "seeed: unknown key; did you mean seed?" in message
    assert "cpt.epochs: Input should be greater than or equal to 1 (given: 0)" in message
    assert "finetune.learning_rate: " in message
    assert "given: 'fast'" in message
    assert "eval: beams 5 is smaller than the largest cutoff 50" in message


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"finetune": {"epoch": 1}}, "finetune.epoch: unknown key; did you mean epochs?"),
        ({"eval": {"dense": {"layer": 1}}}, "eval.dense.layer: unknown key; did you mean layers?"),
        ({"eval": {"lem": {"layer": 1}}}, "eval.lem.layer: unknown key; did you mean layers?"),
        ({"cpt": {"scratch": {"head": 1}}}, "cpt.scratch.head: unknown key; did you mean heads?"),
        ({"data": {**SOURCE, "splits": {}}}, "data.splits: unknown key; did you mean split?"),
        ({"data": {**SOURCE, "split": {"protocl": 1}}}, "data.split.protocl: unknown key; did you mean protocol?"),
        (
            {"data": {"source": {"kind": "movielens", "release": "ml-1m", "relase": 1}}},
            "data.source.relase: unknown key; did you mean release?",
        ),
        (
            {"data": {"source": {"kind": "logs", "interactions": "x", "colums": {}}}},
            "data.source.colums: unknown key; did you mean columns?",
        ),
        (
            {"features": {"modalities": {"text": {"dimension": 3}}}},
            "features.modalities.text.dimension: unknown key; did you mean dimensions?",
        ),
        # modalities named like a source or like a key
        (
            {"features": {"modalities": {"logs": {"encodr": "tfidf"}}}},
            "features.modalities.logs.encodr: unknown key; did you mean encoder?",
        ),
        (
            {"features": {"modalities": {"source": {"feilds": []}}}},
            "features.modalities.source.feilds: unknown key; did you mean fields?",
        ),
        ({"zzz": 1}, "zzz: unknown key; known here: cpt, data, "),
        ({"data": {}}, "data.source: missing"),
        ({"data": {"source": {"kind": "movielens"}}}, "data.source.release: missing"),
        ({"data": {"source": {}}}, "data.source.kind: missing; known here: amazon-reviews, amazon-sequences, logs, "),
        ({"data": {"source": {"kind": "movilens"}}}, "no source 'movilens'; did you mean movielens?"),
        ({"data": {"source": {"kind": 3}}}, "data.source.kind: there is no source '3'; known here: "),
        (
            {"data": {"source": {"kind": "movielens", "release": "ml-2"}}},
            "data.source.release: Input should be 'ml-100k'",
        ),
    ],
)
def test_a_mistake_is_named_where_the_user_wrote_it(values, expected):
    assert expected in refused(values)


@pytest.mark.parametrize(
    ("beams", "expected"),
    [
        ("abc", ["eval.beams: Input should be a valid integer, unable to parse string as an integer, or a valid list"]),
        (0, ["eval.beams: Input should be greater than or equal to 1, or a valid list (given: 0)"]),
        ([50, 0], ["eval.beams.1: Input should be greater than or equal to 1 (given: 0)"]),
        ([0, "x"], ["eval.beams.0: Input should be greater", "eval.beams.1: Input should be a valid integer"]),
    ],
)
def test_a_value_of_several_forms_is_one_mistake_in_users_words(beams, expected):
    message = refused({"eval": {"beams": beams}, "seed": -1})
    assert f"{len(expected) + 1} mistakes" in message
    assert all(text in message for text in [*expected, "seed: Input should be"])
    assert "constrained" not in message


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tokenize": {"codebook_sizes": []}}, "tokenize.codebook_sizes"),
        ({"tokenize": {"codebook_sizes": [16, 1]}}, "tokenize.codebook_sizes.1"),
        ({"tokenize": {"learning_rate": float("inf")}}, "tokenize.learning_rate"),
        ({"tokenize": {"learning_rate": float("nan")}}, "tokenize.learning_rate"),
        ({"eval": {"cutoffs": []}}, "eval.cutoffs"),
        ({"eval": {"cutoffs": [5]}}, "cutoffs must include 10"),
        ({"eval": {"dense": {"hidden_size": 64, "heads": 3}}}, "hidden_size 64 is not a multiple of heads 3"),
        ({"cpt": {"scratch": {"hidden_size": 6, "heads": 2}}}, "hidden_size 6 is not a multiple of twice the heads"),
        ({"features": {"modalities": {}}}, "features.modalities"),
        ({"features": {"modalities": {"Text": {}}}}, "features.modalities.Text"),
        ({"features": {"modalities": {"t": {"fields": []}}}}, "features.modalities.t.fields"),
        ({"features": {"modalities": {"t": {"encoder": "file"}}}}, "encoder file needs `path`"),
        ({"features": {"modalities": {"t": {"encoder": "sentence-transformers"}}}}, "needs `model`"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"device": "tpu"}, "device"),
        ({1: 2}, "1"),
        ({"cpt": None}, "cpt"),
    ],
)
def test_values_that_would_fail_later_are_refused_now(values, expected):
    assert expected in refused(values)


def test_defaults_make_a_whole_configuration_that_does_not_change():
    config = accepted()
    assert isinstance(config, RunConfig)
    assert config.seed == 0
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1


def test_settings_are_yaml_at_any_depth(file):
    path = file("data: {source: {kind: synthetic}}\nfinetune:\ncpt: {epochs: 2}\n")
    config = load_config(
        path,
        [
            "finetune.epochs=3",  # of a section that the file leaves empty
            "cpt.epochs=4",
            "eval.dense.learning_rate=1e-2",
            "tokenize.codebook_sizes=[8, 4]",
            "data.source.n_items=50",
            "features.modalities.text.fields=[title]",
            "title=a=b",
            "eval.filter_seen=false",
        ],
    )
    assert (config.finetune.epochs, config.cpt.epochs, config.eval.dense.learning_rate) == (3, 4, 0.01)
    assert config.tokenize.codebook_sizes == [8, 4]
    assert config.data.source.n_items == 50
    assert list(config.features.modalities) == ["text"]
    assert config.title == "a=b"
    assert config.eval.filter_seen is False


@pytest.mark.parametrize("setting", ["finetune.epochs", "=3", "seed.x=1", "a=[", ".=1", "data..x=1"])
def test_a_malformed_setting_is_a_message(file, setting):
    with pytest.raises(PlumError):
        load_config(file("seed: 1\ndata: {source: {kind: synthetic}}\n"), [setting])


def test_command_line_options_win_and_zero_is_a_seed(file):
    path = file("seed: 7\ndevice: cpu\ndata: {source: {kind: synthetic}}\n")
    assert load_config(path, ["seed=5"], seed=0, device=None).seed == 0
    assert load_config(path, ["seed=0"]).seed == 0
    assert load_config(path, device=None).device == "cpu"
    assert load_config(path).workdir == Path("runs/mine")
    assert load_config(path, workdir=Path("~/here")).workdir == Path.home() / "here"


def test_settings_alone_are_enough():
    config = load_config(None, ["data.source.kind=movielens", "data.source.release=ml-100k"])
    assert config.workdir == Path("runs/default")
    with pytest.raises(PlumError, match=r"(?s)the settings: 1 mistake in the configuration.*data: missing"):
        load_config(None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no configuration\n  found: nothing"),
        ("- a\n", "holds no configuration\n  found: a list"),
        ("a: [", "can't be read as YAML"),
        ("seed: 1\nseed: 2\n", "key 'seed' is given twice"),
        ("cpt:\n  epochs: 1\n  epochs: 2\n", "key 'epochs' is given twice"),
        ("? [a]\n: 1\n", "can't be read as YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_a_message(file, text, expected):
    with pytest.raises(PlumError, match="(?s)" + expected.replace("(", "\\(")):
        load_config(file(text))


def test_a_missing_file_lists_the_pipelines_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/one.yaml").write_text("")
    with pytest.raises(PlumError, match=r"(?s)no configuration at two\.yaml.*pipelines/one\.yaml"):
        load_config(Path("two.yaml"))
    with pytest.raises(PlumError, match="can't be read"):
        load_config(tmp_path)
