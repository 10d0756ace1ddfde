"""What all of plum's commands share: no option twice, no value shown for a flag, commands in the order of use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from plum.errors import PlumError
from plum.foreign import visible

START, STAGES, USE = "Start here", "The stages, in order", "Use and compare runs"
"""Panels of ``plum --help``."""
ORDER = (
    "init",
    "data",
    "base",
    "run",
    "tokenize",
    "cpt",
    "finetune",
    "eval",
    "recommend",
    "inspect",
    "compare",
    "ablate",
)


class Command(TyperCommand):
    """A command that refuses an option given twice, where typer would silently use the last value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters; a flag has no value to show in the help."""
        return _without_flag_values(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            PlumError: if an option that takes one value is given more than once, or is empty.
        """
        if not ctx.resilient_parsing:  # which is how completion parses an unfinished line
            values, _, given = self.make_parser(ctx).parse_args(args=list(args))
            _refuse_empty(self.params, values)
            for param, times in Counter(given).items():
                option: Any = param
                if times > 1 and option.param_type_name == "option" and not (option.multiple or option.is_flag):
                    raise PlumError(f"{param.opts[0]} is given {times} times", None, "give it once")
        with _shown():
            return super().parse_args(ctx, args)


class Group(TyperGroup):
    """A group of commands in the order of use."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line.

        Raises:
            PlumError: for an argument that is not UTF-8, which no configuration and no manifest could hold.
        """
        for place, given in enumerate(args, 1):
            try:
                given.encode()
            except UnicodeEncodeError:
                shown = given.encode(errors="backslashreplace").decode()
                fix = "rename the file or folder, or set the terminal to UTF-8"
                raise PlumError(f"argument {place} is not UTF-8", shown, fix) from None
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters; a flag has no value to show in the help."""
        return _without_flag_values(super().get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments name."""
        with _shown():
            return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of use; those that have no place in it follow as they were added."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


class App(typer.Typer):
    """A typer application whose commands are :class:`Command`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, no_args_is_help=True, **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a command; see ``typer.Typer.command``."""
        return super().command(name, cls=Command, **options)


@contextmanager
def _shown() -> Iterator[None]:
    """Let mistakes in the command line show what was typed without obeying it."""
    try:
        yield
    except Exception as error:  # click's, or the copy of it that newer releases of typer bring
        if hasattr(error, "format_message"):
            error.message = visible(error.message)  # type: ignore[attr-defined]
        raise


def _refuse_empty(params: list[Any], values: dict[str, Any]) -> None:
    """Make sure that no option is the empty text: as a path it would be the current folder."""
    for param in params:
        if param.param_type_name == "option" and values.get(param.name) == "":
            raise PlumError(f"{param.opts[0]} is empty", None, "give a value, or leave the option out")


def _without_flag_values(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params
