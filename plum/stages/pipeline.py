"""All stages in order, each skipped if its configuration and inputs have not changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from plum.config import RunConfig


def run_tokenize(config: RunConfig, force: bool = False) -> Path:
    """Item content -> vectors -> Semantic IDs: what ``plum tokenize`` does."""
    from plum.stages import features, tokenize

    features.run(config, force)
    return tokenize.run(config, force)


def run_eval(config: RunConfig, force: bool = False) -> Path:
    """Train the baselines that are wanted, then compare all retrievers: what ``plum eval`` does."""
    from plum import artifacts
    from plum.stages import dense, eval

    if artifacts.DENSE in config.eval.baselines:
        dense.run(config, force)
    if artifacts.LEM in config.eval.baselines:
        dense.run_lem(config, force)
    return eval.run(config, force)


def run_all(config: RunConfig, force: bool = False) -> Path:
    """Run every stage; returns the folder of the last one."""
    from plum.stages import cpt, finetune, prepare

    stages: list[Callable[[RunConfig, bool], Path]] = [
        prepare.run,
        run_tokenize,
        cpt.run,
        finetune.run,
        run_eval,
    ]
    return [stage(config, force) for stage in stages][-1]
