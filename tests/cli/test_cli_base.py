"""`plum base` as a user meets it: a base from text, a kill that costs little, figures, and mistakes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_run

Cli = Callable[..., tuple[int, str, str]]
SMALL = ("--hidden-size", "16", "--layers", "1", "--heads", "2", "--vocabulary", "290", "--context-length", "16")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "english.txt"
    words = ["the", "cat", "sat", "on", "mats", "while", "dogs", "barked"]
    path.write_text("".join(" ".join(rng.choice(words, 40)) + " quietly .\n" for _ in range(200)))
    return path


def test_a_base_is_made_measured_and_not_made_again(cli: Cli, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "small"
    arguments = ("base", "pretrain", text, "--out", out, *SMALL, "--steps", "5", "--device", "cpu")
    assert cli(*arguments)[:2] == (0, f"{out}\n")
    before = (out / "manifest.json").stat().st_mtime_ns
    assert cli(*arguments)[0] == 0
    assert (out / "manifest.json").stat().st_mtime_ns == before
    code, shown, _ = cli("base", "measure", out, "--characters", "200", "--gaps", "2", "--json")
    figures = json.loads(shown)
    assert code == 0
    assert figures["characters"] <= 200
    assert {"bits_per_character", "ngram_bits_per_character", "cloze_accuracy", "usual_word_accuracy"} <= set(figures)
    code, shown, _ = cli("base", "measure", out, "--text", text, "--characters", "200", "--gaps", "5")
    assert code == 0
    assert "bits per character (200 characters)" in shown
    assert "always 'quietly'" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], ["no text is given"]),
        (["TEXT"], ["no --out is given"]),
        (["gone.txt", "--out", "OUT"], ["gone.txt can't be read", "No such file"]),
        (["TEXT", "--out", "OUT", "--steps", "3", "--minutes", "1"], ["both --steps and --minutes"]),
        (["TEXT", "--out", "OUT", "--hidden-size", "30", "--heads", "4"], ["no multiple of twice the heads"]),
        (["TEXT", "--out", "OUT", "--vocabulary", "9000"], ["too little text for the vocabulary"]),
        (["TEXT", "--out", "TEXT"], ["no base that plum made", "it is a file"]),
        (["TEXT", "--out", "."], ["no base that plum made"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes_are_told(
    cli: Cli, text: Path, tmp_path: Path, arguments: list[str], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"TEXT": str(text), "OUT": str(tmp_path / "out")}
    code, out, err = cli("base", "pretrain", *(names.get(word, word) for word in arguments))
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for words in told:
        assert words in err
    assert not (tmp_path / "out").exists()


def test_measuring_says_what_is_missing(cli: Cli, text: Path, tmp_path: Path) -> None:
    code, _, err = cli("base", "measure", tmp_path)
    assert code == 2
    assert "no held_out.txt in it" in err
    code, _, err = cli("base", "measure", tmp_path, "--text", text)
    assert code == 2
    assert "config.json is missing" in err
    code, _, err = cli("base", "measure", "gone.gguf", "--text", text)
    assert code == 2
    assert "no such file" in err


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint(text: Path, tmp_path: Path) -> None:
    arguments = ("base", "pretrain", str(text), *SMALL, "--steps", "250", "--device", "cpu")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert tiny_run.plum(*arguments, "--out", whole).returncode == 0
    child = subprocess.Popen(tiny_run.command(*arguments, "--out", killed), stderr=subprocess.PIPE)
    state = tmp_path / ".killed.making" / ".base.partial" / "checkpoint" / "training" / "state.json"
    until = time.monotonic() + 120
    while not state.exists() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert not killed.exists(), "it ended before it was killed"
    done = tiny_run.plum(*arguments, "--out", killed)
    assert done.returncode == 0
    assert "resuming from the checkpoint" in done.stderr
    for name in ("model.safetensors", "metrics.json", "train_log.jsonl", "tokenizer.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
