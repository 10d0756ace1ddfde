"""Documents as text, to look at before the training."""

from __future__ import annotations

import itertools

from plum.config.run import RunConfig
from plum.runtime import seed_everything
from plum.stages.cpt import corpus

LOOKED_AT = 1000
"""Documents of a kind among which those of each fact are looked for."""


def examples(config: RunConfig, n: int) -> dict[str, list[str]]:
    """The first ``n`` documents of each kind, and of each fact about items, as the tokenizer spells them."""
    seed_everything(config.seed)
    _, tokenizer, writer = corpus.prepare(config)
    found: dict[str, list[str]] = {}
    for name, documents in writer.examples():
        for document in itertools.islice(documents, LOOKED_AT):
            texts = found.setdefault(f"{name}, {document.fact}" if document.fact else name, [])
            if len(texts) < n:
                texts.append(str(tokenizer.decode(document.tokens.tolist(), skip_special_tokens=False)))
    return found
