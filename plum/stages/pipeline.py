"""The order of the stages: each command runs its own, after those it needs whose folders are not there yet.

A stage whose folder is there is not run again by the command of a later one, even if it is out of date: it is used with
a warning, or refused if its files no longer belong together. ``run_all`` brings everything up to date.

Of a command of several processes (:mod:`plum.run.ranks`), all train the language model together; all else is done by
the first, while the others wait.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plum.config.run import RunConfig
from plum.run import artifacts, ranks
from plum.run.lock import locked

logger = logging.getLogger(__name__)
Command = Callable[..., Path]


def _alone(command: Command) -> Command:
    """Let a command hold the run folder's lock from its beginning to its end, not only while a stage writes."""

    @functools.wraps(command)
    def alone(config: RunConfig, force: bool = False) -> Path:
        with locked(config.workdir):
            return command(config, force)

    return alone


@_alone
def run_prepare(config: RunConfig, force: bool = False) -> Path:
    """Source -> checked tables and a split: what ``plum data prepare`` does."""
    _check(config, [artifacts.DATA], force)
    return _prepare(config, force)


@_alone
def run_tokenize(config: RunConfig, force: bool = False) -> Path:
    """Item content -> vectors -> Semantic IDs: what ``plum tokenize`` does.

    Where the Semantic IDs are made of the dense baseline's item vectors, that is trained before.
    """
    _make_missing(config, artifacts.TOKENIZE, force)
    return _tokenize(config, force)


@_alone
def run_cpt(config: RunConfig, force: bool = False) -> Path:
    """Continued pre-training of the language model: what ``plum cpt`` does."""
    _make_missing(config, artifacts.CPT, force)
    return _cpt(config, force)


def show_documents(config: RunConfig, n: int) -> dict[str, list[str]]:
    """What continued pre-training would read, ``n`` documents of each kind as text; see ``plum.stages.cpt.show``."""
    with locked(config.workdir):
        _make_missing(config, artifacts.CPT, force=False)
        from plum.stages.cpt import show

        return show.examples(config, n)


@_alone
def run_finetune(config: RunConfig, force: bool = False) -> Path:
    """History -> the next item's Semantic ID, after its teacher if it has one: what ``plum finetune`` does."""
    _make_missing(config, artifacts.FINETUNE, force)
    return _finetune(config, force)


@_alone
def run_eval(config: RunConfig, force: bool = False) -> Path:
    """Train the baselines that are wanted, then compare all retrievers: what ``plum eval`` does."""
    _make_missing(config, artifacts.EVAL, force)
    return _eval(config, force)


@_alone
def run_all(config: RunConfig, force: bool = False) -> Path:
    """Run every stage, each skipped if its configuration and inputs have not changed: what ``plum run`` does.

    Returns:
        The folder of the last stage.
    """
    _check(config, list(artifacts.COMMANDS), force)
    _prepare(config, force)
    if config.codes_of_dense or config.taught_by_dense:
        _dense(config, force)
    _tokenize(config, force)
    _cpt(config, force)
    _finetune(config, force)
    return _eval(config, force)


def _by_first(command: Command) -> Command:
    """Let the first process do it."""

    @functools.wraps(command)
    def by_first(*arguments: Any, **options: Any) -> Path:
        return Path(ranks.shared(lambda: str(command(*arguments, **options))))

    return by_first


@_by_first
def _prepare(config: RunConfig, force: bool = False) -> Path:
    from plum.stages import prepare

    return prepare.run(config, force)


@_by_first
def _dense(config: RunConfig, force: bool = False, kept_for: Sequence[str] = ()) -> Path:
    from plum.stages import dense

    return dense.run(config, force, kept_for=kept_for)


@_by_first
def _tokenize(config: RunConfig, force: bool = False) -> Path:
    from plum.stages import dense, features, tokenize

    if config.codes_of_dense:
        dense.run(config)
    features.run(config, force)
    return tokenize.run(config, force)


def _cpt(config: RunConfig, force: bool = False) -> Path:
    from plum.stages import cpt

    return cpt.run(config, force)


def _finetune(config: RunConfig, force: bool = False) -> Path:
    from plum.stages import finetune

    if config.taught_by_dense:
        _dense(config, kept_for=(artifacts.FEATURES,))
    return finetune.run(config, force)


@_by_first
def _eval(config: RunConfig, force: bool = False) -> Path:
    from plum.stages import dense, eval

    eval.refuse_damaged(config)
    if artifacts.DENSE in config.eval.baselines:
        dense.run(config, force, kept_for=(artifacts.FEATURES, artifacts.FINETUNE))
    if artifacts.LEM in config.eval.baselines:
        dense.run_lem(config, force)
    return eval.run(config, force)


_NEEDED: dict[str, Callable[[RunConfig], Path]] = {
    artifacts.DATA: _prepare,
    artifacts.TOKENIZE: _tokenize,
    artifacts.CPT: _cpt,
    artifacts.FINETUNE: _finetune,
}
"""What the stages after them need, in order; features come with tokenize, baselines with eval."""
_FOLDERS = {artifacts.TOKENIZE: (artifacts.FEATURES, artifacts.TOKENIZE)}


def _make_missing(config: RunConfig, command: str, force: bool) -> None:
    """Run the stages before ``command``'s own whose folders are not there, once all that they name is checked.

    Raises:
        PlumError: if the configuration names something that is not there.
    """
    before = list(_NEEDED)[: list(_NEEDED).index(command)] if command in _NEEDED else list(_NEEDED)
    lacking = ranks.shared(lambda: [stage for stage in before if not _is_there(config, stage)])
    folders = [folder for stage in [*lacking, command] for folder in _FOLDERS.get(stage, (stage,))]
    _check(config, folders, force)
    for stage in lacking:
        logger.info("%s needs %s/, which is not there yet: making it first", command, stage)
        _NEEDED[stage](config)


def _check(config: RunConfig, folders: Sequence[str], force: bool) -> None:
    from plum.stages import checks

    ranks.shared(lambda: checks.check_named(config, folders, force))


def _is_there(config: RunConfig, stage: str) -> bool:
    return all((config.workdir / folder / artifacts.MANIFEST).exists() for folder in _FOLDERS.get(stage, (stage,)))
