"""What the commands share: options, so that each help text stands once, what they stand for, and terminal text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import reduce
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from audit_lit.chat.formats import NAMES
from audit_lit.display.inert import inert
from audit_lit.files.documents import decode_yaml
from audit_lit.files.reading import encoding_of, require_regular
from audit_lit.settings import MAX_SEED

if TYPE_CHECKING:  # they import torch, which takes seconds
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.models.target import Target

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_TARGET = "smollm2-135m"


class InputFile(click.File):
    """A regular file or stdin: a pipe or a device that has a name might never end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Open the file, if it is one."""
        if isinstance(value, str) and value != "-":
            try:
                require_regular(Path(value))
            except OSError as err:
                self.fail(f"{value!r} cannot be read: {err}, or '-' for stdin.", param, ctx)
        return super().convert(value, param, ctx)


INPUT_FILE = InputFile("rb")
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


def decoder_options(revision: str) -> Callable[[Command], Command]:
    """Return ``--decoder``, and the option of the given name for its commit."""
    decoder = click.option("--decoder", default="default", help="Decoder: 'default', a folder or a Hub id.")
    return together(decoder, click.option(revision, help="Commit of a decoder from the Hub."))


def max_new_tokens_option(default: int) -> Callable[[Command], Command]:
    """Return ``--max-new-tokens``, whose default suits what the command generates."""
    return click.option("--max-new-tokens", default=default, type=click.IntRange(1), help="Length limit, in tokens.")


adapter_option = click.option("--adapter", help="LoRA on the target: a folder or a Hub id.")
target_option = together(
    click.option("--target", default=DEFAULT_TARGET, help="Target model: an alias, a folder or a Hub id."),
    adapter_option,
)
layer_option = click.option("--layer", type=int, help="Layer to read, for a decoder that reads one of several.")
models_options = together(target_option, decoder_options("--revision"), layer_option)
seed_option = click.option(
    "--seed", default=0, type=click.IntRange(0, MAX_SEED), help="Seed of everything that is random."
)
device_option = click.option("--device", default="cpu", help="Device to run on, as torch names it: cpu, cuda, ...")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
run_options = together(seed_option, device_option, json_option)
settings_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting of the recipe. May be repeated."
)


format_option = click.option(
    "--format", type=click.Choice(NAMES), help="Chat format of the file; else it is told by the content."
)


def load_models(
    target: str, decoder: str, *, revision: str | None, device: str, adapter: str | None = None, **_: Any
) -> tuple[Target, Decoder]:
    """Load a target, and the decoder that reads it; a command may pass on all of its options."""
    from audit_lit import Decoder, load_target
    from audit_lit.display.libraries import quiet_libraries

    quiet_libraries()
    note("loading the target (fetched and converted on first use, about a minute) ...")
    model = load_target(target, adapter=adapter, device=device)
    return model, Decoder.from_pretrained(decoder, revision=revision, target=model)


def load_decoder(decoder: str, *, revision: str | None, device: str, **_: Any) -> Decoder:
    """Load a decoder without a target; a command may pass on all of its options."""
    from audit_lit import Decoder
    from audit_lit.display.libraries import quiet_libraries

    quiet_libraries()
    note("loading the decoder; the target does not run ...")
    return Decoder.from_pretrained(decoder, revision=revision, device=device)


def refuse_beside_activations(names: tuple[str, ...]) -> None:
    """Raise if one of these options is given, which say what is to run, or to be written."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--activations is of a run that is over, and {name.replace('_', '-')} is about one to come; use one "
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
