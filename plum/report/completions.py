"""The page of few-shot prompts over Semantic IDs and what a model made of them: Markdown, whatever the texts hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plum.foreign import one_line
from plum.report.wording import DASH, escape_markdown

_ABOUT = (
    "Each prompt shows some items of the training and ends with one whose documents were held out of it. The model "
    "writes the rest of the last line, always its likeliest token. Below stand the true text, and that of the item "
    "that shares the most first codes with this one."
)


def completions_page(shots: Sequence[Mapping[str, Any]]) -> str:
    """The page, in Markdown.

    Args:
        shots: ``lines`` of a prompt, ``completion``, ``truth`` and ``copied`` each. Any of the texts may come from the
            data or the model: prompts are code blocks of one line each, the others are escaped.
    """
    parts = [
        "# What the model writes after a Semantic ID",
        _ABOUT if shots else "No held-out item has a text to ask for.",
    ]
    for number, shot in enumerate(shots, 1):
        prompt = "\n".join("    " + one_line(str(line)) for line in shot["lines"])
        told = {"model": shot["completion"], "truth": shot["truth"], "nearest item": shot["copied"]}
        answers = "\n".join(f"- {name}: {escape_markdown(text) or DASH}" for name, text in told.items())
        parts += [f"## Prompt {number}", prompt, answers]
    return "\n\n".join(parts) + "\n"
