"""YAML as configurations use it: one family of errors, bounded in size, depth and expansion, and no surprises.

Numbers are those of YAML 1.2: ``1e-3`` is one, ``12:30`` is text. Dates are text too. A key given twice is refused;
PyYAML would silently drop the first one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from plum.errors import PlumError
from plum.run import configuration

MAX_BYTES = 4 * 2**20
"""Of a file."""
MAX_DEPTH = 50
"""Levels of mappings and lists."""
MAX_NODES = 100_000
"""Values of a file, an alias counted as all that it stands for."""

_MAX_BITS = 4096  # of a whole number: Python refuses to write out much longer ones
_INT = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_REPLACED = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")


class _Loader(yaml.SafeLoader):
    """See the module. Every error is a ``yaml.YAMLError``."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue  # the parent refuses it
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # refuses half a character, which no file can hold
            if isinstance(value, int) and value.bit_length() > _MAX_BITS:
                raise OverflowError
            return value
        except yaml.YAMLError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            given = f"{node.value[:40]!r} is" if isinstance(node, yaml.ScalarNode) else "this is"
            raise yaml.constructor.ConstructorError(None, None, f"{given} no usable {kind}", node.start_mark) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str) -> Any:
    """The value of one YAML document; None for an empty one.

    Raises:
        yaml.YAMLError: if it is not YAML, a value is not what its tag says, a key is given twice, or it is larger or
            deeper than any configuration.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):  # composing a deep document would exhaust the stack
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"more than {MAX_DEPTH} levels of lists and mappings, at {_place(event.start_mark)}")
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _count(root, {})
        return loader.construct_document(root)
    except (RecursionError, ValueError, LookupError) as error:
        raise yaml.YAMLError(f"can't be understood ({type(error).__name__}: {error})") from error
    finally:
        loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, unchecked.

    Raises:
        PlumError: if the file is missing, unreadable, not in UTF-8 or not YAML, or is not a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise PlumError(f"{path} is too large for a configuration", f"more than {MAX_BYTES:,} bytes", "give a YAML")
        text = content.decode("utf-8-sig")
        if configuration.is_cut_short(text):
            raise _cut_short(path)
        values = parse_yaml(text)
    except FileNotFoundError:
        here = sorted(str(p) for p in Path("pipelines").glob("*.yaml"))
        raise PlumError(
            f"no configuration at {path}", f"pipelines here: {', '.join(here) or 'none'}", "give --config FILE"
        ) from None
    except UnicodeDecodeError as error:
        raise PlumError(f"{path} is not in UTF-8", str(error), "save it as UTF-8") from None
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise PlumError(f"{path} can't be read as YAML", str(error), "fix the file") from None
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise PlumError(f"{path} holds no configuration", found, "write `key: value` lines")
    return values


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases written out; ``known`` holds the nodes that were counted."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError(f"an alias stands inside its own anchor, at {_place(node.start_mark)}")
        return known[id(node)]
    known[id(node)], total = 0, 1
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        total += sum(_count(one, known) for one in (part if isinstance(part, tuple) else (part,)))
        if total > MAX_NODES:
            raise yaml.YAMLError(f"aliases that stand for more than {MAX_NODES:,} values")
    known[id(node)] = total
    return total


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


def _cut_short(path: Path) -> PlumError:
    return PlumError(
        f"{path} was cut short",
        "plum wrote its first line, but the last one is missing",
        "give the pipeline again with --config, which writes it anew; if you removed the last line yourself and the "
        "rest is whole, remove the first line too",
    )
