"""Settings that no machine, or not this one, can work with are refused before the first stage."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny_run
from pydantic.fields import FieldInfo

from plum.config.base import Section
from plum.config.file import load_config
from plum.config.run import RunConfig
from plum.errors import PlumError
from plum.stages import capacity, prepare
from plum.stages.checks import check_named

GIB = 2**30
EXTREMES = ["true", "false", ".nan", ".inf", "-.inf", "-1", "1" + "0" * 400, "1e300", "-1e-300"]
EXTREMES += ["null", '""', "[]", "{}"]
LARGE = [10**9, 2**16, 2**40, 2**63, 1e-300, -0.0, 0]


def numbers(section: type[Section], path: str = "") -> Iterator[str]:
    """The keys of all numbers below a section."""
    for name, field in section.model_fields.items():
        for kind in kinds_of(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from numbers(kind, f"{path}{name}.")
            elif kind in (int, float):
                yield path + name


def kinds_of(annotation: Any) -> set[Any]:
    if isinstance(annotation, FieldInfo):
        return kinds_of(annotation.annotation)
    inside = [kind for part in get_args(annotation) for kind in kinds_of(part)]
    return set(inside) or {annotation}


OTHERS_NEEDED = ("data.source", "features.modalities", "cpt.corpus.replay")
"""Sections that are incomplete with one key alone."""
KEYS = sorted({key for key in numbers(RunConfig) if not key.startswith(OTHERS_NEEDED)})


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("extremes")
    return tiny_run.write(home / "tiny.yaml", tiny_run.pipeline(home / "run"))


def loaded(pipeline: Path, key: str, value: object) -> RunConfig | None:
    """The configuration, with one key set; None if it is refused in a message that names the key."""
    try:
        return load_config(pipeline, [f"{key}={value}"])
    except PlumError as error:
        message = str(error)
    assert key.rpartition(".")[2] in message
    assert len(message) < 600
    return None


@pytest.mark.parametrize("key", KEYS)
def test_every_number_is_bounded(pipeline: Path, key: str) -> None:
    for value in itertools.chain(EXTREMES, LARGE):
        found: Any = loaded(pipeline, key, value)
        for part in key.split("."):
            found = getattr(found, part, None)
        # A number that may be left out, or a switch beside it; otherwise it lies within what a machine can have.
        for number in found if isinstance(found, list) else [found]:
            assert number is None or (not isinstance(number, bool) and abs(number) <= 2**31)


@pytest.mark.parametrize("value", ["true", "[true]", "false"])
def test_true_is_no_number(pipeline: Path, value: str) -> None:
    assert [key for key in KEYS if loaded(pipeline, key, value)] == []


@pytest.mark.parametrize("value", ['""', '"  "', '"a\\0b"', "~nosuchuser/x"])
def test_a_path_must_name_something(pipeline: Path, value: str) -> None:
    models = () if value.startswith("~") else ("cpt.base",)  # which may also be a name on the hub
    for key in ("workdir", "tokenize.warm_start", *models):
        assert loaded(pipeline, key, value) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["cpt.batch_size=65536"], "lower cpt.batch_size to 8,322 or less"),
        (["cpt.scratch.layers=1000", "cpt.scratch.hidden_size=4096"], "choose a smaller model"),
        (["tokenize.hidden_dim=65536", "tokenize.latent_dim=65536"], "tokenize.hidden_dim and latent_dim"),
        (["tokenize.codebook_sizes=[1048576, 16]", "tokenize.latent_dim=512"], "tokenize.codebook_sizes"),
        (["eval.dense.hidden_size=65536"], "eval.dense: layers and hidden_size"),
        (["eval.dense.max_history=65536", "eval.dense.hidden_size=8192"], "eval.dense: max_history and hidden_size"),
        (["eval.lem={embedding_size: 65536, hidden_size: 8192}"], "eval.lem: embedding_size and hidden_size"),
        (["finetune.max_history=60000"], "120,000 tokens, the model reads 2,048; lower it to 672"),
    ],
)
def test_what_the_machine_can_not_hold_is_told_first(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], told: str
) -> None:
    monkeypatch.setattr(capacity, "machine_bytes", lambda: 4 * GIB)
    config = load_config(pipeline, settings)
    with pytest.raises(PlumError, match="no stage has started") as error:
        check_named(config, ["data", "features", "tokenize", "cpt", "finetune", "dense", "lem", "eval"])
    assert told in str(error.value)


def test_made_up_data_that_the_machine_can_not_hold_is_refused(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "machine_bytes", lambda: 4 * GIB)
    with pytest.raises(PlumError, match="lower it to 524,288 or less"):
        prepare.load(load_config(pipeline, ["data.source.n_users=10000000"]).data)


def test_usual_settings_fit(pipeline: Path) -> None:
    assert capacity.machine_bytes() > GIB
    for path in (pipeline, Path("pipelines/synthetic.yaml")):
        check_named(load_config(path), ["data", "features", "tokenize", "cpt", "finetune", "dense", "lem", "eval"])


@pytest.mark.slow
def test_accepted_extremes_are_worked_with(tmp_path: Path) -> None:
    settings = [
        *["eval.beams=65536", "finetune.validation_beams=65536", "eval.resamples=1", "eval.examples=1000"],
        *["eval.dense.negatives=1048576", "eval.dense.max_history=65536", "eval.cold_below=1000000000"],
        *["cpt.max_history=65536", "cpt.scratch.text_vocabulary=1048576", "finetune.batch_size=65536"],
        *["tokenize.batch_size=65536", "tokenize.cooccurrence_window=1000000000", "tokenize.session_minutes=1e-300"],
    ]
    source = tiny_run.SYNTHETIC | {"n_users": 60, "n_items": 40}
    config = tiny_run.write(tmp_path / "tiny.yaml", tiny_run.pipeline(tmp_path / "run", source))
    done = tiny_run.plum("run", "--config", config, *[part for setting in settings for part in ("--set", setting)])
    assert done.returncode == 0, done.stderr
