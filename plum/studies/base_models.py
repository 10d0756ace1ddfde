"""Base models: a small English one from plain text files, and how well any base knows English."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plum.errors import PlumError
from plum.lm import bases, folders, vocab
from plum.lm.english import COUNTED, cloze, draw_gaps, halves, text_bits
from plum.lm.ngrams import LONGEST, ByteNgrams
from plum.lm.pretrain import Optimisation, pretrain, steps_in
from plum.lm.texts import hold_out, read_documents, text_tokenizer, token_stream
from plum.run import artifacts
from plum.run.lock import locked
from plum.run.manifest import read_manifest
from plum.run.place import Place
from plum.run.stage import StageRun
from plum.run.verified import changed_outputs
from plum.run.writing import remove, sync_folder, write_errors, write_text
from plum.runtime import n_processes, seed_everything
from plum.stages.training import move
from plum.studies.base_card import card
from plum.training.loop import write_log

logger = logging.getLogger(__name__)

STAGE = "base"
"""What a base is called while it is made, in a hidden folder beside ``--out``."""
HELD_OUT = "held_out.txt"
"""In the folder of a base that plum made: the text that it has not seen."""
HELD_OUT_SHARE, MOST_HELD_OUT = 0.01, 400_000
MANY_PASSES = 4
"""Passes over a text from which on more of them teach little (Muennighoff et al. 2023, section 1)."""


@dataclass(frozen=True)
class Sample:
    """What is measured of a text.

    Attributes:
        characters: for bits per character, from the start.
        gaps: words to be guessed, drawn by ``seed``.
        seed: of the draw.
    """

    characters: int = 100_000
    gaps: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Settings:
    """How a base is made.

    Attributes:
        shape: of the model.
        vocabulary: tokens of its tokenizer.
        how: the training; with 0 steps, ``minutes`` set them or, without, one pass over the text.
        minutes: of training.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    shape: vocab.ScratchShape
    vocabulary: int
    how: Optimisation
    minutes: float | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] | str = "auto"


def make(texts: Sequence[Path], out: Path, settings: Settings) -> Path:
    """Pre-train a small model on text files and write it, its measurements and its card; resume if interrupted.

    Args:
        texts: plain text files; see ``plum.lm.texts.read_documents``.
        out: the folder to write, which ``cpt.base`` takes.
        settings: how.

    Returns:
        ``out``.

    Raises:
        PlumError: if the folder is there and of another origin, or the texts can't be used.
    """
    if n_processes() > 1:
        found = f"{n_processes()} processes"
        raise PlumError("a base is made by one process", found, "run `plum base pretrain` without torchrun")
    documents, held = _read(texts)
    work = out.with_name(f".{out.name}.making")
    with locked(work):
        stage = StageRun(work, STAGE, asdict(settings), settings.how.seed, [], texts)
        if _is_made(out, stage):
            logger.info("%s: up to date", out)
        else:
            if not stage.is_complete():
                _train(texts, documents, held, settings, stage)
            with write_errors(out, elsewhere="--out"):
                stage.folder.replace(out)
                sync_folder(out.parent)
        remove(work)
    return out


def _is_made(out: Path, stage: StageRun) -> bool:
    """Whether a base is there, of the same texts and settings.

    Raises:
        PlumError: if something else is there.
    """
    if foreign := Place(out.parent, out.name).foreign():
        raise PlumError(f"{out} is there, and no base that plum made", foreign.found, "give another --out")
    if not (out / artifacts.MANIFEST).exists():
        return False
    there = read_manifest(out)
    if there.fingerprint() != stage.manifest.fingerprint() or changed_outputs(out, there):
        raise PlumError(
            f"{out} is there, made of other texts or settings, or changed since",
            None,
            "give another --out, or remove it",
        )
    return True


def _train(texts: Sequence[Path], documents: Sequence[str], held: str, settings: Settings, stage: StageRun) -> None:
    """Write the stage's folder: model, tokenizer, log, figures and card."""
    seed_everything(settings.how.seed)
    tokenizer = text_tokenizer(documents, settings.vocabulary)
    stream = token_stream(tokenizer, documents)
    model = vocab.scratch_model(settings.shape, tokenizer, max(settings.how.context_length, 2048))
    move(model, settings.device)
    with stage.writing() as folder:
        how = _planned(stage.checkpoint / "plan.json", settings, model, stream)
        passes = how.steps * how.batch_size * how.context_length / len(stream)
        _tell(model, stream, how, passes)
        seed_everything(how.seed)
        state = pretrain(model, stream, how, stage.checkpoint / "training")
        write_log(folder / "train_log.jsonl", state)
        folders.save_model_folder(model, tokenizer, folder, "--out")
        write_text(folder / HELD_OUT, held, "--out")
        facts = {
            "parameters": model.num_parameters(),
            "steps": how.steps,
            "tokens": how.steps * how.batch_size * how.context_length,
            "passes": round(passes, 3),
            "characters": sum(map(len, documents)),
            "held_out": _measured(model, tokenizer, held, "\n".join(documents)[-COUNTED:], Sample(seed=how.seed)),
        }
        artifacts.write_json(folder / "metrics.json", facts, "--out")
        write_text(folder / "README.md", card(texts, asdict(settings), facts), "--out")


def measure(base: str, text: Path | None, sample: Sample, device: str = "auto") -> dict[str, Any]:
    """How well a base knows a text, beside references that are counted.

    The text's second half is measured; n-grams are counted on its first half.

    Args:
        base: a folder, hub id, GGUF file or package; see ``plum.lm.bases``.
        text: a plain text file; None for the text that a base of :func:`make` has not seen.
        sample: how much of it.
        device: for the model.
    """
    path = text or Path(base) / HELD_OUT
    if text is None and not path.is_file():
        raise PlumError(f"no text to measure {base} with", f"no {HELD_OUT} in it", "give --text FILE, some English")
    whole = "\n".join(read_documents(path))
    counted, asked = halves(whole)
    model, tokenizer = bases.base_model(base)
    move(model, device)
    measured = _measured(model, tokenizer, asked, counted, sample)
    return {"base": base, "text": str(path), "parameters": model.num_parameters(), **measured}


def _measured(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, counted: str, sample: Sample
) -> dict[str, Any]:
    """Figures of a model on a text, and of n-grams that are counted on another."""
    bits = text_bits(model, tokenizer, text, limit=sample.characters)
    guessed = cloze(model, tokenizer, draw_gaps(text, sample.gaps, sample.seed))
    return {
        "bits_per_character": bits.bits_per_character,
        "ngram_bits_per_character": ByteNgrams(counted).bits_per_character(text[: bits.characters]),
        "ngram_longest_context": LONGEST,
        "ngram_counted_characters": len(counted),
        "characters": bits.characters,
        "tokens": bits.tokens,
        "unknown_tokens": bits.unknown,
        "cloze_accuracy": guessed.accuracy,
        "usual_word_accuracy": guessed.usual_accuracy,
        "usual_word": guessed.usual,
        "gaps": guessed.gaps,
        "seed": sample.seed,
    }


def _read(texts: Sequence[Path]) -> tuple[list[str], str]:
    """The documents to learn from, and the text that is held out."""
    if not texts:
        raise PlumError("no text is given", None, "give one or more plain text files")
    if len(set(texts)) < len(texts):
        raise PlumError("a text file is given twice", ", ".join(map(str, texts)), "give each once")
    read = [read_documents(path) for path in texts]
    share = min(HELD_OUT_SHARE, MOST_HELD_OUT / max(1, sum(len(text) for file in read for text in file)))
    parts = [hold_out(file, share) for file in read]
    documents, held = [text for kept, _ in parts for text in kept], [text for _, end in parts for text in end]
    if not documents or not any(text.strip() for text in held):
        found = f"{sum(map(len, documents + held)):,} characters, of which the last hundredth is to be held out"
        raise PlumError("there is too little text", found, "give more text")
    return documents, "\n".join(held)


def _planned(path: Path, settings: Settings, model: PreTrainedModel, stream: np.ndarray) -> Optimisation:
    """The training with its number of steps, which an interrupted one has left in ``path`` if a time sets it."""
    how = settings.how
    needed = how.context_length + 1
    if len(stream) < needed:
        found = f"{len(stream):,} tokens, a block has {how.context_length:,}"
        raise PlumError("there is too little text to train on", found, "give more text, or a smaller --context-length")
    if how.steps:
        return how
    if settings.minutes is None:
        return replace(how, steps=-(-len(stream) // (how.batch_size * how.context_length)))
    if path.exists():
        return replace(how, steps=int(artifacts.read_json(path, dict[str, int])["steps"]))
    how = replace(how, steps=steps_in(60 * settings.minutes, model, stream, how))
    artifacts.write_json(path, {"steps": how.steps})
    return how


def _tell(model: PreTrainedModel, stream: np.ndarray, how: Optimisation, passes: float) -> None:
    logger.info(
        "pretrain: %s parameters, %s tokens, %s steps: %.2f passes over the text",
        f"{model.num_parameters():,}",
        f"{len(stream):,}",
        f"{how.steps:,}",
        passes,
    )
    if passes > MANY_PASSES:
        logger.warning("pretrain: %.0f passes over the text; beyond %d, more text helps more", passes, MANY_PASSES)
