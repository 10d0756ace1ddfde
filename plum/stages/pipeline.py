"""All stages in order, each skipped if its configuration and inputs have not changed."""

from __future__ import annotations

from pathlib import Path

from plum.config.run import RunConfig


def run_tokenize(config: RunConfig, force: bool = False) -> Path:
    """Item content -> vectors -> Semantic IDs: what ``plum tokenize`` does.

    Where the Semantic IDs are made of the dense baseline's item vectors, that is trained before.
    """
    from plum.stages import dense, features, tokenize

    if config.codes_of_dense:
        dense.run(config)
    features.run(config, force)
    return tokenize.run(config, force)


def run_finetune(config: RunConfig, force: bool = False) -> Path:
    """History -> the next item's Semantic ID, after its teacher if it has one: what ``plum finetune`` does."""
    from plum.run import artifacts
    from plum.stages import dense, finetune

    if config.taught_by_dense:
        dense.run(config, kept_for=(artifacts.FEATURES,))
    return finetune.run(config, force)


def run_eval(config: RunConfig, force: bool = False) -> Path:
    """Train the baselines that are wanted, then compare all retrievers: what ``plum eval`` does."""
    from plum.run import artifacts
    from plum.stages import dense, eval

    if artifacts.DENSE in config.eval.baselines:
        dense.run(config, force, kept_for=(artifacts.FEATURES, artifacts.FINETUNE))
    if artifacts.LEM in config.eval.baselines:
        dense.run_lem(config, force)
    return eval.run(config, force)


def run_all(config: RunConfig, force: bool = False) -> Path:
    """Run every stage; returns the folder of the last one."""
    from plum.stages import cpt, dense, finetune, prepare

    prepare.run(config, force)
    if config.codes_of_dense or config.taught_by_dense:
        dense.run(config, force)
    run_tokenize(config, force)
    cpt.run(config, force)
    finetune.run(config, force)
    return run_eval(config, force)
