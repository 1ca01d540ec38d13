"""What the commands share: options, so that each help text stands once, what they stand for, and terminal text."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable
from functools import reduce
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from audit_lit.chat.formats import NAMES
from audit_lit.display.inert import inert
from audit_lit.files.documents import decode_yaml
from audit_lit.files.reading import encoding_of, is_folder, require_regular
from audit_lit.settings import MAX_SEED

Command = TypeVar("Command", bound=Callable[..., Any])


class InputFile(click.File):
    """A regular file or stdin: a pipe or a device that has a name might never end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open the file, if it is one."""
        if value == "-" and sys.stdin is None:
            self.fail("standard input is closed; name a file, or pipe one in.", param, ctx)
        if isinstance(value, str) and value != "-":
            try:
                require_regular(Path(value))
            except OSError as err:
                self.fail(f"{value!r} cannot be read: {err}, or '-' for stdin.", param, ctx)
        return super().convert(value, param, ctx)


class OutputFile(click.Path):
    """A file to write, in a folder that is there: a result that took hours must have somewhere to go."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of a file that can be written."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.parent
        if not is_folder(folder) or not os.access(folder, os.W_OK):
            self.fail(f"{str(path)!r} cannot be written: {str(folder)!r} is no folder that can be.", param, ctx)
        return path


INPUT_FILE, OUTPUT_FILE = InputFile("rb"), OutputFile()
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
OUT_FOLDER = click.Path(file_okay=False, path_type=Path)


class FiniteRange(click.FloatRange):
    """A range of numbers; NaN and infinity, which click takes, are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number of an option."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator for options that commands take together."""
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)


def max_new_tokens_option(default: int | None) -> Callable[[Command], Command]:
    """Return ``--max-new-tokens``, whose default suits what the command generates; None for the decoder's own."""
    shown = "the decoder's own, else 60" if default is None else True
    limit: dict[str, Any] = {"default": default, "show_default": shown, "type": click.IntRange(1)}
    return click.option("--max-new-tokens", help="Length limit, in tokens.", **limit)


seed_option = click.option(
    "--seed", default=0, type=click.IntRange(0, MAX_SEED), help="Seed of everything that is random."
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

settings_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting of the recipe. May be repeated."
)


format_option = click.option(
    "--format", type=click.Choice(NAMES), help="Chat format of the file; else it is told by the content."
)


def refuse_beside_activations(names: tuple[str, ...]) -> None:
    """Raise if one of these options is given, which say what is to run, or to be written."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--activations is of a run that is over, and --{name.replace('_', '-')} is about one to come; use one "
                "of them."
            )


def parse_settings(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Return a recipe's overrides: ``wire.n_edge=2`` becomes ``{"wire": {"n_edge": 2}}``."""
    settings: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"--set {assignment!r} has no '='; expected KEY=VALUE, such as --set lr=0.0005.")
        *outer, last = key.split(".")
        group = settings
        for name in outer:
            group = group.setdefault(name, {})
            if not isinstance(group, dict):
                clash = f"goes into {name!r}, which another --set made a single value; drop one of them."
                raise click.UsageError(f"--set {assignment!r} {clash}")
        try:
            group[last] = decode_yaml(value)
        except ValueError as err:
            expected = f"is not a YAML value ({err}); expected one such as 0.1."
            raise click.UsageError(f"--set {assignment!r}: {value!r} {expected}") from err
    return settings


def parse_reveal(text: str) -> str | list[int]:
    """Return what ``--reveal`` names: token positions such as ``3,4,5``, or a name as it is."""
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if all(re.fullmatch(r"-?[0-9]+", part) for part in parts) else text


def named(option: str, file: BufferedIOBase) -> str:
    """Return what messages call the file that an option names."""
    return f"{option} {getattr(file, 'name', '-')!r}"


def read_text(file: BufferedIOBase, where: str, expected: str) -> str:
    """Return the text of a file that an option opened, in UTF-8 or with a byte order mark."""
    content = file.read()
    try:
        return content.decode(encoding_of(content))
    except UnicodeDecodeError as err:
        raise click.UsageError(f"{where} is not UTF-8 text ({err}); expected {expected}.") from err


def note(text: str) -> None:
    """Tell a person on stderr what is going on."""
    click.secho(inert(text), err=True, dim=True)


def show(text: object) -> None:
    """Print a result, with nothing in it that acts on a terminal."""
    click.echo(inert(str(text)))


def printable(text: str) -> str:
    """Return text in which every character can be seen, and with its markup made inert."""
    from rich.markup import escape

    return escape(inert(text))
