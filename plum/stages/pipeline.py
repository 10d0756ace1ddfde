"""All stages in order, each skipped if its configuration and inputs have not changed."""

from __future__ import annotations

from pathlib import Path

from plum.config import RunConfig


def run_tokenize(config: RunConfig, force: bool = False) -> Path:
    """Item content -> vectors -> Semantic IDs: what ``plum tokenize`` does."""
    from plum.stages import features, tokenize

    _run_what_is_built_on(config)
    features.run(config, force)
    return tokenize.run(config, force)


def run_finetune(config: RunConfig, force: bool = False) -> Path:
    """History -> the next item's Semantic ID: what ``plum finetune`` does."""
    from plum.stages import finetune

    _run_what_is_built_on(config)
    return finetune.run(config, force)


def run_eval(config: RunConfig, force: bool = False) -> Path:
    """Train the baselines that are wanted, then compare all retrievers: what ``plum eval`` does."""
    from plum import artifacts
    from plum.stages import dense, eval

    if artifacts.DENSE in config.eval.baselines:
        # What others are built on stays as it is: made anew, it would leave them outdated.
        dense.run(config, force and not config.builds_on_dense)
    if artifacts.LEM in config.eval.baselines:
        dense.run_lem(config, force)
    return eval.run(config, force)


def run_all(config: RunConfig, force: bool = False) -> Path:
    """Run every stage; returns the folder of the last one."""
    from plum.stages import cpt, finetune, prepare

    prepare.run(config, force)
    _run_what_is_built_on(config, force)
    run_tokenize(config, force)
    cpt.run(config, force)
    finetune.run(config, force)
    return run_eval(config, force)


def _run_what_is_built_on(config: RunConfig, force: bool = False) -> None:
    """Train the dense baseline, if Semantic IDs or the language model learn from it; skip if up to date."""
    from plum.stages import dense

    if config.builds_on_dense:
        dense.run(config, force)
