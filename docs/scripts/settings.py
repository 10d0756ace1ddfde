"""Write docs/settings.md from the configuration's classes: every key with its type, default and meaning.

    python docs/scripts/settings.py            # write the page
    python docs/scripts/settings.py --check    # exit 1 if the page is out of date

The walk starts at ``RunConfig`` and knows no section by name: nested sections, unions by ``kind``, and mappings or
lists of sections each get a table. Meanings are the docstrings of the fields.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from plum.config.run import RunConfig

PAGE = Path(__file__).resolve().parents[1] / "settings.md"
COMMAND = "python docs/scripts/settings.py"
INTRODUCTION = f"""# Settings

All keys of a pipeline's YAML. This page is generated from the configuration's classes by `{COMMAND}`.
Change the docstrings there, not this file.

Every key can also be given on the command line: `--set finetune.epochs=10`, `--set data.split.protocol=temporal`.
The value is YAML, so `--set 'tokenize.codebook_sizes=[64, 32]'` sets a list. An unknown key is an error that names the
nearest known one. A key without a default must be given.
"""
SCALARS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
REQUIRED = "(required)"


@dataclass
class Page:
    """The page as it grows.

    Attributes:
        parts: blocks of Markdown.
        first: section class -> the path under which its table stands.
        undocumented: keys without a meaning.
    """

    parts: list[str] = field(default_factory=lambda: [INTRODUCTION.rstrip()])
    first: dict[type[BaseModel], str] = field(default_factory=dict)
    undocumented: list[str] = field(default_factory=list)


def render(root: type[BaseModel]) -> Page:
    """The whole page for a configuration's outermost class."""
    page = Page()
    _section(page, "", root)
    return page


def _section(page: Page, path: str, section: type[BaseModel]) -> None:
    """Write one section's table, then those of the sections inside."""
    if section in page.first:
        page.parts.append(
            f"{_heading(path)}\n\nThe keys of [`{page.first[section]}`](#{_anchor(page.first[section])})."
        )
        return
    parent = next((base for base in section.__mro__[1:] if base in page.first), None)
    shown = {
        name: info
        for name, info in section.model_fields.items()
        if parent is None or name not in parent.model_fields or _differs(info, parent.model_fields[name])
    }
    about = _text(inspect.cleandoc(section.__doc__ or ""))
    if parent is not None:
        about += f"\n\nIt has all keys of {_link(page.first[parent])}" + ("; these differ:" if shown else ".")
    page.first[section] = path
    rows = [_row(page, path, section, name, info) for name, info in shown.items()]
    table = ["| key | type | default | meaning |", "|---|---|---|---|", *rows] if rows else []
    page.parts.append("\n".join([_heading(path), "", about, "", *table]).rstrip())
    for name, info in shown.items():
        for inner, inside in _sections(info.annotation):
            _section(page, _join(path, name + inner), inside)


def _row(page: Page, path: str, section: type[BaseModel], name: str, info: FieldInfo) -> str:
    key = _join(path, name)
    nested = list(_sections(info.annotation))
    meaning = _meaning(section, name) or ""
    if nested:
        links = ", ".join(_link(_join(path, name + inner)) for inner, _ in nested)
        meaning = f"{meaning} See {links}.".strip()
    elif not meaning and get_origin(info.annotation) is not Literal:
        page.undocumented.append(key)
    kind = _type(Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation)
    return f"| `{name}` | {kind} | {_default(info)} | {_cell(_text(meaning))} |"


def _meaning(section: type[BaseModel], name: str) -> str | None:
    """A field's docstring; that of the nearest base class where the section gives the field another default only."""
    for base in section.__mro__:
        info = getattr(base, "model_fields", {}).get(name)
        if info is not None and info.description:
            return info.description
    return None


def _sections(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The sections that a field's type holds, with what each adds to the path: ``.NAME`` or ``[]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        yield (f" ({get_args(kind.annotation)[0]})" if kind else ""), annotation
        return
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _sections(arguments[0])
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _sections(argument)
    elif origin is list:
        yield from (("[]" + inner, section) for inner, section in _sections(arguments[0]))
    elif origin is dict:
        yield from ((".NAME" + inner, section) for inner, section in _sections(arguments[1]))


def _type(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([_type(arguments[0]), *_bounds(arguments[1:])])
    if origin is Literal:
        return _listed([f"`{value}`" for value in arguments])
    if origin in (Union, UnionType):
        kinds = list(dict.fromkeys(_type(argument) for argument in arguments if argument is not NoneType))
        return _listed([*kinds, *(["null"] if NoneType in arguments else [])])
    if origin is list:
        return f"list of: {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to: {_type(arguments[1])}"
    if annotation in SCALARS:
        return SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return "any value"


def _listed(names: list[str]) -> str:
    return " or ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def _bounds(metadata: tuple[Any, ...]) -> Iterator[str]:
    """The limits of a number or of a length, in words; checks by functions add nothing here."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    for entry in metadata:
        constraints = list(entry.metadata) if isinstance(entry, FieldInfo) else [entry]
        for constraint in constraints:
            for name, sign in signs.items():
                if isinstance(constraint, getattr(annotated_types, name.capitalize())):
                    yield f"{sign} {getattr(constraint, name)}"


def _default(info: FieldInfo) -> str:
    """The default in YAML, as one would write it; a section's own table has its defaults."""
    if info.is_required():
        return REQUIRED
    default = info.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return ""
    text = _yaml(_plain(default))
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(entry) for name, entry in value.model_dump(mode="json", exclude_unset=True).items()}
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return str(value) if isinstance(value, Path) else value


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
    return text.removesuffix("...").strip()


def _differs(info: FieldInfo, other: FieldInfo) -> bool:
    return (info.annotation, info.default, info.description) != (other.annotation, other.default, other.description)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _heading(path: str) -> str:
    return f"{'#' * min(2 + path.count('.'), 4)} {path or 'Top level'}"


def _anchor(path: str) -> str:
    """The anchor that GitHub and the site both give to a heading of this path."""
    return re.sub(r"[^\w\- ]", "", path.lower()).replace(" ", "-") or "top-level"


def _link(path: str) -> str:
    return f"[`{path}`](#{_anchor(path)})"


def _text(text: str) -> str:
    """A docstring as Markdown on one line: double backquotes become single ones."""
    return " ".join(text.replace("``", "`").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the page, or compare it with the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if docs/settings.md is out of date")
    options = parser.parse_args()
    page = render(RunConfig)
    text = "\n\n".join(page.parts) + "\n"
    if page.undocumented:
        sys.stderr.write(f"{len(page.undocumented)} keys have no docstring: {', '.join(page.undocumented)}\n")
    if not options.check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"docs/settings.md is not what the configuration's classes say now: run `{COMMAND}`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
