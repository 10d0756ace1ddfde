"""Configuration from YAML and ``--set key=value``; every mistake is reported at once."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from plum.config.base import Section
from plum.config.data import SOURCES
from plum.config.items import ModalityConfig
from plum.config.run import RunConfig
from plum.config.yaml import parse_yaml, read_yaml
from plum.errors import PlumError

_LINE = 100  # characters of a value that a message shows
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _LINE
_SHORT.maxlevel = 3


def load_config(path: Path | None, settings: Iterable[str] = (), **overrides: Any) -> RunConfig:
    """Read a pipeline's YAML and apply ``--set`` settings, then command-line overrides.

    Args:
        path: the YAML file, or None for settings alone.
        settings: ``key=value`` with dots between levels, the value in YAML: ``finetune.epochs=3``.
        overrides: top-level keys (``workdir``, ``seed``, ``device``); None leaves the file's value.

    Raises:
        PlumError: naming all mistakes at once, and the nearest known key for an unknown one.
    """
    values = read_yaml(path) if path else {}
    for setting in settings:
        apply_setting(values, setting)
    values.update({key: value for key, value in overrides.items() if value is not None})
    if "workdir" not in values:
        values["workdir"] = Path("runs") / (path.stem if path else "default")
    return validate(values, where=str(path) if path else "the settings")


def validate(values: Mapping[str, Any], where: str) -> RunConfig:
    """Check a nested mapping as a ``RunConfig``.

    Raises:
        PlumError: with every mistake in one message.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        mistakes = [_mistake(entry) for entry in _collapsed(error.errors())]
        raise PlumError(
            f"{where}: {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''} in the configuration",
            "\n    " + "\n    ".join(mistakes),
            "fix these keys; pipelines/*.yaml show working examples",
        ) from None


def apply_setting(values: dict[str, Any], setting: str) -> None:
    """Write one ``stage.key=value`` into a configuration, in place; the value is YAML.

    Raises:
        PlumError: if there is no ``=``, the value is not YAML, or a key on the way is not a section.
    """
    key, sign, raw = setting.partition("=")
    if not sign or not key:
        raise PlumError("--set needs key=value", setting[:_LINE], "for example --set finetune.epochs=3")
    try:
        value = parse_yaml(raw)
    except yaml.YAMLError as error:
        found = f"{raw[:_LINE]} ({' '.join(str(error).split())})"
        raise PlumError(f"--set {key}: the value is not YAML", found, "quote it") from None
    node = values
    *parents, last = key.split(".")
    for parent in parents:
        if node.get(parent) is None:
            node[parent] = {}
        child = node[parent]
        if not isinstance(child, dict):
            raise PlumError(f"--set {key}: {parent} is a value, not a section", short(child), "shorten the key")
        node = child
    node[last] = value


def _collapsed(entries: Sequence[Any]) -> list[Any]:
    """Pydantic's entries, with those of one value that may have several forms merged.

    For such a value pydantic says of each form why it does not match, under its own names
    ("eval.beams.constrained-int"). Users need only the form they meant: the one whose mistake lies deepest in the
    value, if there is one.
    """
    # place of the value, or number of a mistake elsewhere -> form -> entries
    values: dict[Any, dict[Any, list[Any]]] = {}
    for number, entry in enumerate(entries):
        path, place = entry["loc"], _form_place(entry["loc"])
        if place is None:
            values[number] = {None: [entry]}
        else:
            shown = {**entry, "loc": path[:place] + path[place + 1 :]}
            values.setdefault(path[:place], {}).setdefault(path[place], []).append(shown)
    return [entry for forms in values.values() for entry in _meant(forms)]


def _meant(forms: dict[Any, list[Any]]) -> list[Any]:
    """The entries of the form that the user meant, or one entry that names all forms."""
    depths = {form: max(len(entry["loc"]) for entry in entries) for form, entries in forms.items()}
    deepest = [form for form, depth in depths.items() if depth == max(depths.values())]
    if len(deepest) == 1:
        return forms[deepest[0]]
    told = [forms[form][0] for form in deepest]
    messages = [entry["msg"].removeprefix("Input should be ") for entry in told]
    return [{**told[0], "msg": "Input should be " + ", or ".join(messages)}]


def _form_place(path: Sequence[Any]) -> int | None:
    """The index of a form's name in pydantic's path, if the path leads into a value that may have several forms."""
    section: Any = RunConfig
    for place, part in enumerate(path[:-1]):
        field = section.model_fields.get(part)
        if field is None or field.discriminator:  # a mapping's key; a section that `kind` chooses
            return None
        kind = field.annotation
        if get_origin(kind) in (Union, UnionType):
            return place + 1 if len(set(get_args(kind)) - {NoneType}) > 1 else None
        if not (isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, Section)):
            return None
        section = kind
    return None


def _mistake(entry: Any) -> str:
    # pydantic's path names the variant of a union ("movielens") after its key; users don't write it.
    path = [str(part) for part in entry["loc"]]
    shown = ".".join(path[:2] + path[3:] if path[:2] == ["data", "source"] else path)
    if entry["type"] == "extra_forbidden":
        return f"{shown}: unknown key; {nearest_name(path[-1], list(_section_of(path).model_fields))}"
    if entry["type"] == "missing":
        return f"{shown}: missing"
    if entry["type"] == "union_tag_not_found":
        return f"{shown}.kind: missing; known here: {', '.join(sorted(SOURCES))}"
    if entry["type"] == "union_tag_invalid":
        kind = str(entry["ctx"]["tag"])
        return f"{shown}.kind: there is no source {kind!r}; {nearest_name(kind, list(SOURCES))}"
    message = entry["msg"].removeprefix("Value error, ")
    given = entry["input"]
    return f"{shown or 'configuration'}: {message}" + ("" if isinstance(given, dict) else f" (given: {short(given)})")


def short(value: Any) -> str:
    """A value for a message, not longer than a line."""
    return _SHORT.repr(value)


def nearest_name(word: str, known: list[str]) -> str:
    """Advice on an unknown name: the known one most like it, else all known ones."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"


def _section_of(path: list[str]) -> type[Section]:
    """The section of the last key in pydantic's path."""
    if path[:2] == ["data", "source"]:
        return SOURCES[path[2]]
    if path[:2] == ["features", "modalities"] and len(path) > 3:
        return ModalityConfig
    section: Any = RunConfig
    for part in path[:-1]:
        kind = section.model_fields[part].annotation
        section = next((form for form in get_args(kind) if form is not NoneType), kind)  # one that may be null
    return section
