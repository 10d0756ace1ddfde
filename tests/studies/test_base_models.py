"""A base from text: resumed as if never stopped, measured beside references, and taken by ``cpt.base``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from plum.errors import PlumError
from plum.lm import bases, pretrain
from plum.lm.examples import Batch
from plum.lm.vocab import ScratchShape
from plum.run.lock import locked
from plum.studies import base_models as study

WORDS = ["the", "cat", "sat", "on", "mats", "while", "dogs", "barked", "loudly", "and", "birds", "sang"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("texts") / "made up.txt"
    lines = [" ".join(rng.choice(WORDS, 30)) + " quietly .\n" for _ in range(300)]
    path.write_text("".join(lines))
    return path


def settings(steps: int = 12, minutes: float | None = None) -> study.Settings:
    how = pretrain.Optimisation(steps, context_length=16, batch_size=2, learning_rate=1e-2, seed=3)
    return study.Settings(ScratchShape(16, 1, 2, 32), 300, how, minutes, "cpu")


@pytest.fixture(scope="module")
def made(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study.make([text], tmp_path_factory.mktemp("models") / "small", settings())


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def test_the_folder_is_a_base_with_its_card_and_figures(made: Path, text: Path) -> None:
    assert bases.problem_of(str(made)) is None
    model, tokenizer = bases.base_model(str(made))
    assert len(tokenizer) == 300
    figures = json.loads((made / "metrics.json").read_text())
    assert figures["parameters"] == model.num_parameters()
    assert (figures["steps"], figures["tokens"]) == (12, 12 * 2 * 16)
    held = (made / study.HELD_OUT).read_text()
    assert text.read_text().rstrip().endswith(held)
    assert figures["characters"] + len(held) == len(text.read_text().rstrip())
    card = (made / "README.md").read_text()
    for said in ("made up.txt", "12 of 2 x 16", f"{figures['held_out']['bits_per_character']:.3f}", "held_out.txt"):
        assert said in card


def test_a_stopped_training_goes_on_and_ends_the_same(
    made: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, batches = pretrain.Optimisation.recipe, pretrain.Optimisation.batches
    often = property(lambda how: replace(recipe.__get__(how), checkpoint_steps=3))
    monkeypatch.setattr(pretrain.Optimisation, "recipe", often)

    def stopped(how: pretrain.Optimisation, stream: np.ndarray) -> Iterator[Batch]:
        yield from islice(batches(how, stream), 7)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Optimisation, "batches", stopped)
        with pytest.raises(KeyboardInterrupt):
            study.make([text], tmp_path / "small", settings())
    assert not (tmp_path / "small").exists()
    assert (tmp_path / ".small.making/.base.partial/checkpoint/training/step-6").is_dir()
    study.make([text], tmp_path / "small", settings())
    assert all((weights(made)[name] == value).all() for name, value in weights(tmp_path / "small").items())
    assert (made / "metrics.json").read_text() == (tmp_path / "small" / "metrics.json").read_text()


def test_minutes_give_steps_that_a_resumed_training_keeps(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[float] = []

    def steps_in(seconds: float, *_: object) -> int:
        planned.append(seconds)
        return 11 + len(planned)

    true = study.pretrain

    def stopped(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "steps_in", steps_in)
    monkeypatch.setattr(study, "pretrain", stopped)
    with pytest.raises(KeyboardInterrupt):
        study.make([text], tmp_path / "small", settings(steps=0, minutes=2))
    monkeypatch.setattr(study, "pretrain", true)
    study.make([text], tmp_path / "small", settings(steps=0, minutes=2))
    assert planned == [120]
    assert json.loads((tmp_path / "small" / "metrics.json").read_text())["steps"] == 12


def test_a_step_is_timed_on_a_copy(text: Path) -> None:
    from plum.lm import vocab
    from plum.lm.texts import text_tokenizer, token_stream

    documents = [text.read_text()]
    tokenizer = text_tokenizer(documents, 300)
    model = vocab.scratch_model(settings().shape, tokenizer, 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stream = token_stream(tokenizer, documents)
    assert pretrain.steps_in(30, model, stream, settings().how) > pretrain.steps_in(0, model, stream, settings().how)
    assert all((value == before[name]).all() for name, value in model.state_dict().items())


def test_without_steps_the_text_is_read_once(text: Path, tmp_path: Path) -> None:
    how = replace(settings().how, steps=0, context_length=64, batch_size=32)
    study.make([text], tmp_path / "small", replace(settings(), how=how))
    figures = json.loads((tmp_path / "small" / "metrics.json").read_text())
    assert 1 <= figures["passes"] < 1.2


def test_the_same_again_is_up_to_date_and_another_is_refused(made: Path, text: Path) -> None:
    before = (made / "manifest.json").stat().st_mtime_ns
    assert study.make([text], made, settings()) == made
    assert (made / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(PlumError, match="made of other texts or settings"):
        study.make([text], made, settings(steps=13))


def test_nothing_but_the_base_is_left_and_two_may_be_made_at_once(text: Path, tmp_path: Path) -> None:
    with locked(tmp_path / ".other.making"):  # by another command
        study.make([text], tmp_path / "small", settings(steps=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.making", "small"]


def test_a_base_that_was_changed_is_not_taken_for_the_one_that_was_made(text: Path, tmp_path: Path) -> None:
    out = study.make([text], tmp_path / "small", settings(steps=1))
    (out / "model.safetensors").write_bytes(b"")
    with pytest.raises(PlumError, match="made of other texts or settings"):
        study.make([text], out, settings(steps=1))


def test_a_stop_just_before_the_end_costs_nothing(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study, "write_errors", stopped)
        with pytest.raises(KeyboardInterrupt):
            study.make([text], tmp_path / "small", settings(steps=1))
    monkeypatch.setattr(study, "pretrain", stopped)
    study.make([text], tmp_path / "small", settings(steps=1))
    assert bases.problem_of(str(tmp_path / "small")) is None


def test_a_folder_of_another_origin_stays(text: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(PlumError, match="no base that plum made"):
        study.make([text], tmp_path / "mine", settings())
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_texts_that_can_not_be_used_are_refused(text: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text(text.read_text()[:2000])
    out = tmp_path / "small"
    with pytest.raises(PlumError, match="too little text for the vocabulary"):
        study.make([short], out, replace(settings(), vocabulary=4000))
    how = replace(settings().how, context_length=4000)
    with pytest.raises(PlumError, match="too little text to train on"):
        study.make([short], out, replace(settings(), how=how))
    with pytest.raises(PlumError, match="given twice"):
        study.make([short, short], out, settings())
    with pytest.raises(PlumError, match="no text is given"):
        study.make([], out, settings())
    short.write_text("Short.")
    with pytest.raises(PlumError, match="there is too little text"):
        study.make([short], out, settings())
    assert not out.exists()


def test_many_passes_are_warned_of(text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    short = tmp_path / "short.txt"
    short.write_text(text.read_text()[:700])
    study.make([short], tmp_path / "small", replace(settings(steps=100), vocabulary=270))
    assert "passes over the text; beyond 4" in caplog.text


def test_a_base_is_measured_on_the_second_half_of_a_text(made: Path, text: Path) -> None:
    found = study.measure(str(made), text, study.Sample(characters=500, gaps=20, seed=1), "cpu")
    assert (found["characters"], found["gaps"], found["usual_word"]) == (500, 20, "quietly")
    assert found["usual_word_accuracy"] == 1
    assert found["cloze_accuracy"] == 0  # twelve steps teach no word
    assert 0.6 < found["ngram_bits_per_character"] < found["bits_per_character"] < 8
    assert study.measure(str(made), text, study.Sample(500, 20, 1), "cpu") == found
    own = study.measure(str(made), None, study.Sample(), "cpu")
    assert own["text"] == str(made / study.HELD_OUT)


def test_a_base_without_a_text_of_its_own_needs_one(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=r"no held_out.txt in it(.|\n)*--text FILE"):
        study.measure(str(tmp_path), None, study.Sample(), "cpu")
