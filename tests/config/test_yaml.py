"""YAML of any kind becomes a configuration or one clear error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plum.config.file import load_config
from plum.config.run import RunConfig
from plum.config.yaml import MAX_BYTES, parse_yaml
from plum.errors import PlumError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD = {
    "seed: !!int ''": "'' is no usable int",
    "seed: !!float x": "'x' is no usable float",
    "seed: !!timestamp x": "'x' is no usable timestamp",
    "seed: !!bool x": "'x' is no usable bool",
    "seed: !!binary x": "base64",
    "seed: !!timestamp 2024-02-30": "is no usable timestamp",
    "seed: " + "9" * 5000: "no usable int",
    "seed: 0x" + "f" * 5000: "no usable int",
    "title: " + "[" * 500 + "]" * 500: "more than 50 levels",
    "[" * 100_000: "more than 50 levels",
    "{" * 3000: "more than 50 levels",
    "".join(f"{' ' * depth}a:\n" for depth in range(400)): "more than 50 levels",
    LAUGHS: "aliases that stand for more than",
    "a: &a [*a]": "inside its own anchor",
    "&a {title: *a}": "inside its own anchor",
    "title: *nothing": "undefined alias",
    "seed: 1\nseed: 2": "'seed' is given twice",
    "data: {source: {kind: synthetic, kind: logs}}": "'kind' is given twice",
    "data:\n\tsource: x": "cannot start any token",
    "title: 'a\x00'": "unacceptable character",
    'title: "\\ud83d"': "no usable str",
    "title: !!python/object/apply:os.system [echo]": "constructor",
    "title: =": "constructor",
    "? [a]\n: 1": "unhashable",
    "<<: 3": "merging",
    "a: 1\n---\nb: 2": "single document",
    "%YAML 9.9\n---\na: 1": "version",
}


@pytest.mark.parametrize(("text", "told"), BAD.items(), ids=range(len(BAD)))
def test_what_is_no_usable_yaml_is_one_clear_error(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(PlumError, match="can't be read as YAML") as error:
        load_config(path)
    assert told in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("value", [text.partition(": ")[2] for text in BAD if re.match(r"(seed|title): ", text)])
def test_values_of_set_are_read_alike(value: str) -> None:
    with pytest.raises(PlumError) as error:
        load_config(None, ["data.source.kind=synthetic", f"title={value}"])
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("title: café".encode("latin-1"), "is not in UTF-8"),
        ("title: x".encode("utf-16"), "is not in UTF-8"),
        (b"", "holds no configuration"),
        (b"just text", "holds no configuration"),
        (b"- 1", "a list"),
        (b"title: " + b"x" * MAX_BYTES, "too large"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "bad.yaml").write_bytes(content)
    with pytest.raises(PlumError, match=told):
        load_config(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-3", -3),
        ("12:30", "12:30"),
        ("2024-02-30", "2024-02-30"),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
        ("1.0.0", "1.0.0"),
        ("true", True),
        ("~", None),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("\ufeffa: &x 1\nb: *x", {"a": 1, "b": 1}),
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}),
        ("", None),
    ],
)
def test_values_are_those_of_yaml_1_2_without_dates(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


LEAVES = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text("ab:#'\"- \né")
)


def nested(part: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(part, max_size=3) | st.dictionaries(st.text("abc:", min_size=1), part, max_size=3)


@given(st.recursive(LEAVES, nested, max_leaves=8))
def test_what_was_dumped_is_read_as_it_was(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


SECTIONS = [
    "data",
    "data.source",
    "data.split",
    "features",
    "features.modalities",
    "tokenize",
    "cpt",
    "cpt.scratch",
    "finetune",
    "eval",
    "eval.dense",
    "eval.dense.search",
    "eval.lem",
]
KEYS = st.sampled_from(
    [*RunConfig.model_fields, *SECTIONS, *["kind", "epochs", "beams", "cutoffs", "<<", "1", "~", "a.b"], ""]
)
SIGNS = [*"[]{}'\"#=|>", *["<<:", "true", "null", "synthetic", "2024-02-30", "1e400", "-.inf", ".nan", "9" * 30]]
TAGS = [": ", "- ", "? ", "\n", "  ", "\t", "&a ", "*a", "!!int ", "!!set ", "!!omap ", "!!binary ", "\u2028", "\ufeff"]
LINES = ["---\n", "...\n", "%YAML 1.1\n", "data: {source: {kind: synthetic}}\n"]
PIECES = st.sampled_from([*SIGNS, *TAGS, *LINES])
YAML_TEXT = st.lists(PIECES | KEYS | st.text(max_size=3), max_size=25).map("".join)
SETTING = st.tuples(st.sampled_from(SECTIONS) | KEYS, KEYS, YAML_TEXT).map(lambda part: "{}.{}={}".format(*part))


def only_a_configuration_or_an_error(path: Path | None, *given_settings: str) -> None:
    try:
        load_config(path, given_settings)
    except PlumError:
        return


@pytest.mark.slow
@settings(max_examples=700, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(YAML_TEXT | st.binary(max_size=60))
@example(b"data: {source: {kind: synthetic}}\ncpt: &a {scratch: *a}")
def test_any_yaml_is_a_configuration_or_one_error(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    only_a_configuration_or_an_error(path)


@pytest.mark.slow
@settings(max_examples=700)
@given(st.lists(SETTING | YAML_TEXT, max_size=3))
def test_any_setting_is_a_configuration_or_one_error(given_settings: list[str]) -> None:
    only_a_configuration_or_an_error(None, "data.source.kind=synthetic", *given_settings)
