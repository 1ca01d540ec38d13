"""Options that say which target and decoder a command takes and how they are loaded, and their loading."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_lit.commands.common import Command, json_option, note, seed_option, together
from audit_lit.files.documents import decode_json
from audit_lit.hub import local_folder

if TYPE_CHECKING:  # they import torch, which takes seconds
    from audit_lit.answers.session import Session
    from audit_lit.decoder.decoder import Decoder
    from audit_lit.models.target import Target
    from audit_lit.organisms.library import Library

DEFAULT_TARGET, DEFAULT_DECODER = "smollm2-135m", "default"


def decoder_files_options(revision: str) -> Callable[[Command], Command]:
    """Return ``--decoder``, the option of the given name for its commit, and what else says where its files are."""
    return together(
        click.option("--decoder", default=DEFAULT_DECODER, help="Decoder: 'default', a folder or a Hub id."),
        click.option(revision, help="Commit of a decoder from the Hub."),
        click.option("--subfolder", help="Folder inside the decoder's, where it holds several decoders."),
        click.option(
            "--protocol",
            type=click.Path(exists=True, dir_okay=False),
            help="File like protocol.json, for a decoder that brings no description of its own.",
        ),
    )


def decoder_options(revision: str) -> Callable[[Command], Command]:
    """Return what says where a decoder's files are, and how it is loaded."""
    on_few_bits = "Let the decoder run on the target's quantised weights: it needs less memory, and is less exact."
    return together(
        decoder_files_options(revision),
        click.option("--base", help="Model to put the decoder on: a mirror of the base that it names."),
        click.option("--quantized-decoder", is_flag=True, help=on_few_bits),
    )


adapter_option = click.option("--adapter", help="LoRA on the target: a folder or a Hub id.")
target_option = together(
    click.option("--target", default=DEFAULT_TARGET, help="Target model: an alias, a folder or a Hub id."),
    adapter_option,
)
baseline_option = click.option(
    "--baseline", help="Model that the target was trained from, to ask what training changed; of a LoRA, its base."
)
library_option = click.option(
    "--library",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Organisms of the baseline to compare with, as 'organisms measure' writes them; else those that ship.",
)
layer_option = click.option("--layer", type=int, help="Layer to read, for a decoder that reads one of several.")
models_options = together(target_option, decoder_options("--revision"), layer_option)
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
run_options = together(seed_option, load_options, json_option)


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


def contrast_names(target: str, baseline: str | None, adapter: str | None) -> tuple[str, str | None, str | None]:
    """Return the names of a target, its baseline and its LoRA; that of a LoRA alone is its base.

    Raises:
        UsageError: If there is no baseline to tell by what training changed.
    """
    require_models(target, adapter=adapter)
    from audit_lit.models.adapters import base_of, is_adapter

    folder = local_folder(target, kind="model") if target != DEFAULT_TARGET else None
    if adapter is None and folder and is_adapter(folder):
        target, adapter = base_of(folder), str(folder)
    if baseline is None and adapter is None:
        raise click.UsageError(
            "--baseline is missing; expected the model that the target was trained from: --baseline BASE. Of a LoRA, "
            "name the target and --adapter FOLDER."
        )
    return target, baseline, adapter


def load_contrast(
    target: str, decoder: str, *, baseline: str | None, adapter: str | None = None, **options: Any
) -> tuple[Target, Decoder, Target]:
    """Load a target, a decoder, and the baseline that the target was trained from.

    Of a LoRA, the baseline is its base unless another is named, and both share its weights.
    """
    target, baseline, adapter = contrast_names(target, baseline, adapter)
    from audit_lit import load_target

    is_shared = adapter is not None and baseline in (None, target)
    clean, loaded = load_models(target if is_shared else str(baseline), decoder, **options)
    arguments = {} if is_shared else load_arguments(options)
    return load_target(clean if is_shared else target, adapter=adapter, **arguments), loaded, clean


def load_library(path: Path | None) -> Library | None:
    """Return the library in a file; None if none is named."""
    from audit_lit.organisms.library import Library

    return None if path is None else Library.load(path)


def load_decoder(
    decoder: str,
    *,
    revision: str | None,
    subfolder: str | None,
    protocol: str | None,
    base: str | None,
    device: str | None,
    **_: Any,
) -> Decoder:
    """Load a decoder without a target; a command may pass on all of its options."""
    from audit_lit import Decoder
    from audit_lit.display.libraries import quiet_libraries

    quiet_libraries()
    note("loading the decoder; the target does not run ...")
    where: dict[str, Any] = {"revision": revision, "subfolder": subfolder, "base": base, "config": protocol}
    loaded = Decoder.from_pretrained(decoder, **where)
    baseline = loaded.text_baseline
    try:
        for module in (loaded.model, loaded.write, *((baseline.model,) if baseline else ())):
            module.to(device or "cpu")
    except (AssertionError, RuntimeError) as err:
        raise click.UsageError(f"--device {device!r} cannot be used ({err}); name another, such as cpu.") from err
    return loaded


def calibrate_command(session: Session, target: str, decoder: str, **options: Any) -> str:
    """Return the command that calibrates a decoder on a target, and why a calibration beside it is not used."""
    from audit_lit.decoder.calibration_files import why_ignored

    others = ("adapter", "revision", "subfolder", "protocol", "base", "layer")
    given = {"target": target, "decoder": decoder} | {name: options.get(name) for name in others}
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None]
    ignored = why_ignored(session.decoder)
    return f"'audit-lit calibrate {' '.join(words)}'{f' ({ignored.rstrip(chr(46))})' if ignored else ''}"
