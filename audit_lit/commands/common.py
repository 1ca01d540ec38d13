"""What the commands share: options, so that each help text stands once, what they stand for, and terminal text."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from audit_lit.chat.formats import NAMES
from audit_lit.display.inert import inert
from audit_lit.files.documents import decode_json, decode_yaml
from audit_lit.files.reading import encoding_of, is_folder, require_regular
from audit_lit.hub import local_folder
from audit_lit.settings import MAX_SEED

if TYPE_CHECKING:  # they import torch, which takes seconds
    from audit_lit.answers.session import Session
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.models.target import Target

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_TARGET, DEFAULT_DECODER = "smollm2-135m", "default"


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


def decoder_options(revision: str) -> Callable[[Command], Command]:
    """Return ``--decoder``, the option of the given name for its commit, and what else says how to load it."""
    on_few_bits = "Let the decoder run on the target's quantised weights: it needs less memory, and is less exact."
    return together(
        click.option("--decoder", default=DEFAULT_DECODER, help="Decoder: 'default', a folder or a Hub id."),
        click.option(revision, help="Commit of a decoder from the Hub."),
        click.option("--subfolder", help="Folder inside the decoder's, where it holds several decoders."),
        click.option(
            "--protocol",
            type=click.Path(exists=True, dir_okay=False),
            help="File like protocol.json, for a decoder that brings no description of its own.",
        ),
        click.option("--base", help="Model to put the decoder on: a mirror of the base that it names."),
        click.option("--quantized-decoder", is_flag=True, help=on_few_bits),
    )


def max_new_tokens_option(default: int | None) -> Callable[[Command], Command]:
    """Return ``--max-new-tokens``, whose default suits what the command generates; None for the decoder's own."""
    shown = "the decoder's own, else 60" if default is None else True
    limit: dict[str, Any] = {"default": default, "show_default": shown, "type": click.IntRange(1)}
    return click.option("--max-new-tokens", help="Length limit, in tokens.", **limit)


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
load_options = together(
    click.option("--device", help="Device to run on, as torch names it: cpu (the default), cuda, ..."),
    click.option(
        "--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), help="Type of weights; else float32."
    ),
    click.option("--device-map", help="Split the target: auto, balanced, or JSON with modules and their devices."),
    click.option("--n-devices", type=int, help="Split the target evenly over this many GPUs."),
    click.option(
        "--max-memory", multiple=True, metavar="DEVICE=SIZE", help="What a device may hold: 0=20GiB. May be repeated."
    ),
    click.option("--quantization", type=click.Choice(["8bit", "4bit"]), help="Load the target in fewer bits."),
)
"""Where the target's weights go and in which type: see ``load_arguments``."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
run_options = together(seed_option, load_options, json_option)
settings_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting of the recipe. May be repeated."
)


format_option = click.option(
    "--format", type=click.Choice(NAMES), help="Chat format of the file; else it is told by the content."
)


def load_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``load_target`` is told about weights by the options of a command, which may have others, too."""
    arguments = {name: options.get(name) for name in ("device", "dtype", "n_devices", "quantization")}
    limits = [limit.partition("=") for limit in options.get("max_memory", ())]
    for device, _, size in limits:
        if not device or not size:
            raise click.UsageError(f"--max-memory {device!r} names no size; expected DEVICE=SIZE, such as 0=20GiB.")
    sizes = {int(device) if device.isdecimal() else device: size for device, _, size in limits}
    return {**arguments, "device_map": _device_map(options.get("device_map")), "max_memory": sizes or None}


def _device_map(text: str | None) -> Any:
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return decode_json(text)
    except ValueError as err:
        expected = 'expected auto, balanced or JSON such as {"": 0}.'
        raise click.UsageError(f"--device-map {text!r} is no JSON ({err}); {expected}") from err


def require_models(
    target: str | None,
    decoder: str | None = None,
    *,
    revision: str | None = None,
    adapter: str | None = None,
    base: str | None = None,
) -> None:
    """Raise for names that no model has; torch is not imported."""
    for name in (target, adapter, base):
        if name not in (None, DEFAULT_TARGET):
            local_folder(name, kind="model")
    if decoder not in (None, DEFAULT_DECODER):
        local_folder(decoder, kind="decoder")
    elif decoder and revision is not None:
        raise click.UsageError(f"decoder {decoder!r} ships with the package and has no revisions; leave it out.")


def load_models(
    target: str,
    decoder: str,
    *,
    revision: str | None,
    adapter: str | None = None,
    protocol: str | None = None,
    subfolder: str | None = None,
    base: str | None = None,
    quantized_decoder: bool = False,
    **options: Any,
) -> tuple[Target, Decoder]:
    """Load a target, and the decoder that reads it; a command may pass on all of its options.

    Names that no model has are found before torch is imported, if the command has not imported it.
    """
    require_models(target, decoder, revision=revision, adapter=adapter, base=base)
    from audit_lit import Decoder, load_target
    from audit_lit.display.libraries import quiet_libraries

    quiet_libraries()
    arguments = load_arguments(options)
    note("loading the target (fetched and converted on first use, about a minute) ...")
    model = load_target(target, adapter=adapter, **arguments)
    where: dict[str, Any] = {
        "revision": revision,
        "subfolder": subfolder,
        "base": base,
        "quantised_base": quantized_decoder,
    }
    return model, Decoder.from_pretrained(decoder, target=model, config=protocol, **where)


def calibrate_command(session: Session, target: str, decoder: str, **options: Any) -> str:
    """Return the command that calibrates a decoder on a target, and why a calibration beside it is not used."""
    from audit_lit.decoder.calibration_files import why_ignored

    given = {"target": target, "decoder": decoder} | {
        name: options.get(name) for name in ("adapter", "revision", "layer")
    }
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None]
    ignored = why_ignored(session.decoder)
    return f"'audit-lit calibrate {' '.join(words)}'{f' ({ignored.rstrip(chr(46))})' if ignored else ''}"


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
