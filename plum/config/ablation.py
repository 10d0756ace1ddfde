"""What an ablation is: pipelines in several variants, each run with several seeds, described by one YAML file.

Example::

    title: "Does masking help?"
    workdir: runs/ablations/masking            # by default runs/ablations/FILE
    set: ["eval.retrievers=[plum]"]            # settings of all runs, as after --set
    bases:                                     # pipelines, each with a table of its own
      small:
        config: ../ml-latest-small.yaml        # relative to this file
        seeds: [0, 1, 2]
        set: [finetune.epochs=3]               # settings of this base's runs
        variants: {without: [tokenize.max_steps=80]}  # added to a variant below, for this base only
    variants:                                  # the others are compared with the first
      with: []
      without: [tokenize.progressive_masking=false]

Later settings win: those of the file, of the base, of the command line, of the variant, of the variant in the base.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from plum.config.base import Section, Seed, UserPath
from plum.config.file import apply_setting, nearest_name, short, validate
from plum.config.run import RunConfig
from plum.config.yaml import read_yaml
from plum.errors import PlumError

logger = logging.getLogger(__name__)

Settings = list[str]
OWN = ("workdir", "seed")
"""What the ablation itself sets for every run; settings must not change it."""


class BaseConfig(Section):
    """A pipeline that is run in all variants."""

    config: UserPath
    """The pipeline's YAML file, relative to the ablation's."""
    seeds: list[Seed] = Field(default=[0], min_length=1)
    """Seeds; every variant is run with each. Use three or more to tell an effect from the choice of the seed."""
    set: Settings = Field(default=[])
    """Settings of this base's runs, such as ``finetune.epochs=3``."""
    variants: dict[str, Settings] = Field(default={})
    """Further settings of a variant, for this base only."""

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(dict.fromkeys(seeds)) < len(seeds):
            raise ValueError("a seed is given twice")
        return seeds


class AblationConfig(Section):
    """An ablation's YAML file.

    Later settings win: those of the file, the base, the command line, the variant, and the variant in the base.
    """

    title: str
    """Title of the ablation's report."""
    workdir: UserPath | None = None
    """Folder of all runs and results, by default ``runs/ablations/`` and the name of the file."""
    set: Settings = Field(default=[])
    """Settings of all runs, such as ``eval.retrievers=[plum]``."""
    bases: dict[str, BaseConfig] = Field(min_length=1)
    """Name -> pipeline; each has its own table."""
    variants: dict[str, Settings] = Field(min_length=1)
    """Name -> settings. The first variant is the one that the others are compared with."""


@dataclass(frozen=True)
class Run:
    """One run of an ablation.

    Attributes:
        base, variant: names.
        seed: of the run.
        path: the base's YAML.
        settings: for ``--set``.
        config: the configuration that results.
    """

    base: str
    variant: str
    seed: int
    path: Path
    settings: tuple[str, ...]
    config: RunConfig

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.base}/{self.variant}/seed-{self.seed}"

    def command(self, force: bool = False) -> list[str]:
        """The arguments of ``plum`` that run it."""
        given = [part for setting in self.settings for part in ("--set", setting)]
        own = ["--workdir", str(self.config.workdir), "--seed", str(self.seed), "--device", self.config.device]
        return ["run", "--config", str(self.path), *given, *own, *(["--force"] if force else [])]


@dataclass(frozen=True)
class Ablation:
    """A checked ablation.

    Attributes:
        title: of the file.
        workdir: folder of its runs and results.
        bases, variants: names, in the order of the file.
        runs: ordered by base, then seed, then variant.
    """

    title: str
    workdir: Path
    bases: tuple[str, ...]
    variants: tuple[str, ...]
    runs: tuple[Run, ...]

    def chosen(self, only: Sequence[str], seeds: Sequence[int] | None = None) -> list[Run]:
        """The runs of the named bases and variants.

        Args:
            only: names of bases and variants; without a base all bases are chosen, without a variant all variants.
            seeds: only runs with these seeds; None for all.

        Raises:
            PlumError: for a name that is neither a base nor a variant, or a seed that none of these bases has.
        """
        for name in only:
            if name not in (*self.bases, *self.variants):
                known = [*self.bases, *self.variants]
                raise PlumError(f"--only {name}: no base or variant has this name", None, nearest_name(name, known))
        bases = [name for name in self.bases if name in only] or self.bases
        variants = [name for name in self.variants if name in only] or self.variants
        runs = [run for run in self.runs if run.base in bases and run.variant in variants]
        known_seeds = {run.seed for run in runs}
        for seed in seeds or ():
            if seed not in known_seeds:
                found = f"seeds of {', '.join(bases)}: {', '.join(map(str, sorted(known_seeds)))}"
                raise PlumError(f"--seeds {seed}: no base has this seed", found, "add it to `seeds` in the file")
        return [run for run in runs if seeds is None or run.seed in seeds]


def read_ablation(
    path: Path,
    workdir: Path | None = None,
    settings: Sequence[str] = (),
    device: str | None = None,
) -> Ablation:
    """Read an ablation's YAML and check every variant of every base, before anything is run.

    Args:
        path: the file.
        workdir: replaces the file's.
        settings: for all runs.
        device: of all runs.

    Raises:
        PlumError: naming all mistakes at once, and the nearest known key for an unknown one.
    """
    file, mistakes = _parsed(read_yaml(path))
    runs: list[Run] = []
    home = workdir or Path("runs") / "ablations" / path.stem
    if file is not None:
        home = workdir or file.workdir or home
        given = _Given(path.parent, home, list(settings), {} if device is None else {"device": device})
        runs, found = _all_runs(file, given)
        mistakes += [*_names(file), *found]
    if mistakes or file is None:
        raise PlumError(
            f"{path}: {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''} in the ablation",
            "\n    " + "\n    ".join(mistakes),
            "fix these keys; pipelines/ablations/*.yaml show working examples",
        )
    _warn_of_equal_variants(runs)
    return Ablation(file.title, home, tuple(file.bases), tuple(file.variants), tuple(runs))


def _parsed(values: Mapping[str, Any]) -> tuple[AblationConfig | None, list[str]]:
    """The file, if it can be read apart from unknown keys, and its mistakes."""
    try:
        return AblationConfig.model_validate(values), []
    except ValidationError as error:
        entries = error.errors()
    mistakes = [_mistake(entry) for entry in entries]
    if any(entry["type"] != "extra_forbidden" for entry in entries):
        return None, mistakes
    known = deepcopy(dict(values))
    for entry in entries:
        *parents, last = entry["loc"]
        section: Any = known
        for parent in parents:
            section = section[parent]
        del section[last]
    return AblationConfig.model_validate(known), mistakes


def _mistake(entry: Any) -> str:
    path = [str(part) for part in entry["loc"]]
    shown = ".".join(path)
    if entry["type"] == "extra_forbidden":
        section = BaseConfig if path[0] == "bases" and len(path) == 3 else AblationConfig
        return f"{shown}: unknown key; {nearest_name(path[-1], list(section.model_fields))}"
    if entry["type"] == "missing":
        return f"{shown}: missing"
    given = entry["input"]
    message = entry["msg"].removeprefix("Value error, ")
    return f"{shown}: {message}" + ("" if isinstance(given, dict) else f" (given: {short(given)})")


def _names(file: AblationConfig) -> list[str]:
    """Mistakes in the names of bases and variants."""
    mistakes = []
    for kind, names in (("bases", list(file.bases)), ("variants", list(file.variants))):
        folders = [folder_name(name) for name in names]
        for name, folder in zip(names, folders, strict=True):
            if not folder:
                mistakes.append(f"{kind}.{name}: a name needs a letter or a digit, because it names a folder")
            elif folders.count(folder) > 1:
                mistakes.append(f"{kind}.{name}: another name makes the same folder, {folder}")
    for base, section in file.bases.items():
        for name in section.variants:
            if name not in file.variants:
                hint = nearest_name(name, list(file.variants))
                mistakes.append(f"bases.{base}.variants.{name}: there is no such variant; {hint}")
    return mistakes


def folder_name(name: str) -> str:
    """The folder of a base or variant: lower-case letters, digits and dots; everything else becomes a hyphen.

    Example:
        >>> folder_name("SID-v2 (all pieces)")
        'sid-v2-all-pieces'
    """
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")


@dataclass(frozen=True)
class _Given:
    """What runs depend on besides the file; see :func:`read_ablation`. Bases' paths are relative to ``folder``."""

    folder: Path
    home: Path
    settings: Settings
    overrides: Mapping[str, Any]


def _all_runs(file: AblationConfig, given: _Given) -> tuple[list[Run], list[str]]:
    """All runs and all mistakes; a mistake that several variants share is reported once."""
    runs: list[Run] = []
    places: dict[str, list[str]] = {}  # mistake -> where it occurs
    for name, base in file.bases.items():
        path = Path(os.path.normpath(given.folder / base.config))  # messages show it: without `../`
        common = [*file.set, *base.set, *given.settings]
        of_base = _configured(path, common, given.overrides)[1]
        made: dict[str, tuple[Settings, RunConfig]] = {}
        found = {name: of_base}
        for variant, own in file.variants.items():
            settings = [*common, *own, *base.variants.get(variant, [])]
            config, mistakes = _configured(path, settings, given.overrides)
            found[f"{name}/{variant}"] = [text for text in mistakes if text not in of_base]
            if config is not None:
                made[variant] = settings, config
        found |= {f"{name}/{variant}": texts for variant, texts in _other_questions(made).items()}
        for place, texts in found.items():
            for text in texts:
                places.setdefault(text, []).append(place)
        for seed in base.seeds:
            for variant, (settings, config) in made.items():
                folder = given.home / folder_name(name) / folder_name(variant) / f"seed-{seed}"
                own_config = config.model_copy(update={"workdir": folder, "seed": seed})
                runs.append(Run(name, variant, seed, path, tuple(settings), own_config))
    return runs, [f"{text} [{', '.join(where)}]" for text, where in places.items()]


def _configured(path: Path, settings: Settings, overrides: Mapping[str, Any]) -> tuple[RunConfig | None, list[str]]:
    """The configuration of a run, with placeholders for its workdir and seed, or the mistakes in it."""
    try:
        values = read_yaml(path)
    except PlumError as error:
        return None, [error.what]
    mistakes = []
    for setting in settings:
        if setting.partition("=")[0] in OWN:
            mistakes.append(f"{setting}: the ablation sets this for every run; use its keys `workdir` and `seeds`")
            continue
        try:
            apply_setting(values, setting)
        except PlumError as error:
            mistakes.append(f"{error.what}: {error.found}")
    try:
        config = validate(values | {"workdir": "runs", "seed": 0} | dict(overrides), str(path))
    except PlumError as error:
        return None, mistakes + [line.strip() for line in (error.found or "").splitlines() if line.strip()]
    return (None if mistakes else config), mistakes


def _other_questions(made: Mapping[str, tuple[Settings, RunConfig]]) -> dict[str, list[str]]:
    """Variants whose test differs from the first one's, so that their results could not be compared."""
    mistakes: dict[str, list[str]] = {}
    for variant, (_, config) in made.items():
        first, reference = next((name, config) for name, (_, config) in made.items())
        if config.data != reference.data:
            mistakes[variant] = [f"data: differs from that of {first}; variants are compared on the same data"]
        if config.eval.filter_seen != reference.eval.filter_seen:
            mistakes.setdefault(variant, []).append(f"eval.filter_seen: differs from that of {first}")
    return mistakes


def _warn_of_equal_variants(runs: Sequence[Run]) -> None:
    """Warn of variants that are the same pipeline: their settings were meant to change something."""
    first: dict[tuple[str, str], str] = {}
    told = set()
    for run in runs:
        content = run.config.model_dump_json(exclude={"workdir", "seed"})
        same = first.setdefault((run.base, content), run.variant)
        if same != run.variant and (run.base, run.variant) not in told:
            told.add((run.base, run.variant))
            logger.warning("%s: variants %s and %s are the same pipeline", run.base, same, run.variant)
