"""``plum base``: make a small English base model, and measure how well a base knows English."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from plum.cli.command import App
from plum.cli.options import console, print_json, say
from plum.errors import PlumError
from plum.foreign import cell

if TYPE_CHECKING:
    from plum.lm.vocab import ScratchShape

base_app = App(
    help="Make or measure base models for `cpt.base`.\n\n"
    "Example: `plum base pretrain english.txt --out models/english --minutes 30`"
)
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@base_app.command("pretrain")
def pretrain(
    texts: Annotated[
        list[Path] | None, typer.Argument(metavar="TEXT...", help="Plain text files in UTF-8.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder to write.")] = None,
    size: Annotated[Literal["5m", "10m", "30m"], typer.Option(help="Shape of the model, by its parameters.")] = "5m",
    hidden_size: Annotated[int | None, typer.Option(min=8, max=8192, help="Width. Default: by --size.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, max=256, help="Transformer blocks. Default: by --size.")] = None,
    heads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Attention heads. Default: of 64 dimensions.")
    ] = None,
    vocabulary: Annotated[int, typer.Option(min=260, max=2**18, help="Tokens of the tokenizer.")] = 8192,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps. Default: one pass over the text.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="As many steps as take so long.")] = None,
    context_length: Annotated[int, typer.Option(min=16, max=2**16, help="Tokens of a block.")] = 512,
    batch_size: Annotated[int, typer.Option(min=1, max=2**16, help="Blocks of a step.")] = 8,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-7, max=1.0, help="Peak rate. Default: by width.")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="Of matrix products; auto: bfloat16 on CUDA.")
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of weights and order.")] = 0,
    device: _Device = "auto",
) -> None:
    """Train a small English model (Llama, byte-level BPE) from plain text, for machines without a language model.

    Lines `<|document|>` separate the documents of a file. The last hundredth of each file is held out and measured.
    DIR is a Hugging Face folder for `cpt.base`, with a card in README.md. If the command is stopped, the same command
    goes on from its last checkpoint.

    Example: `plum base pretrain news.txt essays.txt --out models/english --size 10m --minutes 60`

    Example: `plum base pretrain english.txt --out models/english --steps 5000 --batch-size 16`
    """
    if not texts:
        raise PlumError("no text is given", None, "give one or more plain text files, and --out DIR")
    if out is None:
        raise PlumError("no --out is given", None, "give --out DIR, the folder to write")
    if steps is not None and minutes is not None:
        raise PlumError("both --steps and --minutes are given", None, "give one of them")
    from plum.lm.pretrain import Optimisation, default_rate
    from plum.runtime import setup_logging
    from plum.studies import base_models as study

    setup_logging()
    shape = _shape(size, hidden_size, layers, heads)
    rate = learning_rate or default_rate(shape.hidden_size)
    how = Optimisation(steps or 0, context_length, batch_size, rate, precision, seed)
    settings = study.Settings(shape, vocabulary, how, minutes, device)
    made = study.make(texts, Path(os.path.abspath(out)), settings)  # noqa: PTH100  (`.` and `..` have no name)
    say(made)


@base_app.command("measure")
def measure(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="What `cpt.base` takes: a folder, hub id, .gguf file ...")
    ],
    text: Annotated[
        Path | None, typer.Option(help="Plain text to measure with. Default: what `plum base pretrain` held out.")
    ] = None,
    characters: Annotated[int, typer.Option(min=1, help="Characters for bits per character.")] = 100_000,
    gaps: Annotated[int, typer.Option(min=0, help="Words to be guessed.")] = 300,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the words that are drawn.")] = 0,
    device: _Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how well a base model knows a text: bits per character, and last words of sentences guessed.

    The second half of the text is measured. Beside it stand n-grams of bytes counted on the first half, and the most
    frequent last word.

    Example: `plum base measure models/english --text wiki.test.tokens`

    Example: `plum base measure SmolLM2-135M.gguf --text wiki.test.tokens --characters 20000 --json`
    """
    from plum.runtime import setup_logging
    from plum.studies import base_models as study

    setup_logging()
    sample = study.Sample(characters, gaps, seed)
    found = study.measure(os.path.expanduser(base), text, sample, device)  # noqa: PTH111  (Path's own may raise)
    if json:
        print_json(found)
        return
    _show(found)


def _shape(size: str, hidden_size: int | None, layers: int | None, heads: int | None) -> ScratchShape:
    """The shape by its name, with what is given otherwise."""
    from plum.lm.pretrain import SIZES
    from plum.lm.vocab import ScratchShape

    named = SIZES[size]
    width = hidden_size or named.hidden_size
    heads = heads or (named.heads if hidden_size is None else max(1, width // 64))
    if width % (2 * heads):  # rotary positions turn pairs of dimensions
        found = f"--hidden-size {width}, --heads {heads}"
        raise PlumError("the width is no multiple of twice the heads", found, f"give --hidden-size {2 * heads * 32}")
    inner = named.intermediate_size if width == named.hidden_size else 8 * round(width / 3)
    return ScratchShape(width, layers or named.layers, heads, inner)


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    title = cell(f"{found['base']} ({found['parameters']:,} parameters) on {found['text']}")
    table = Table("", "the model", "reference", title=title, title_justify="left")
    grams = f"{found['ngram_longest_context'] + 1}-grams of {found['ngram_counted_characters']:,} other characters"
    table.add_row(
        f"bits per character ({found['characters']:,} characters)",
        f"{found['bits_per_character']:.3f}",
        f"{found['ngram_bits_per_character']:.3f}  {grams}",
    )
    if found["gaps"]:
        usual = cell(f"{found['usual_word_accuracy']:.3f}  always {found['usual_word']!r}")
        table.add_row(f"cloze ({found['gaps']:,} last words)", f"{found['cloze_accuracy']:.3f}", usual)
    console().print(table)
    if found["unknown_tokens"]:
        console().print(f"{found['unknown_tokens']:,} of {found['tokens']:,} tokens are unknown to the tokenizer.")
