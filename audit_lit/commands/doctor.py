"""The command ``audit-lit doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_lit.commands import common
from audit_lit.commands.contract import USAGE
from audit_lit.files.writing import dump_json

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NEEDED = ("torch", "transformer-lens", "transformers", "peft", "huggingface-hub")
"""The packages whose versions matter most, of those that audit-lit requires."""
MEMORY_GIB = 3.0
DISK_GIB = 1.5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``step`` says what to do next, and is empty if nothing."""

    what: str
    found: str
    ok: bool
    step: str = ""


@click.command()
@click.option("--target", help="Also say what memory this model needs, and which way to load it fits here.")
@common.json_option
def doctor(target: str | None, as_json: bool) -> None:
    """Check versions, memory and caches; say what is missing and how to get it. Exits 2 if something is missing."""
    from rich.console import Console
    from rich.table import Column, Table

    checks = [*examine(), *(_target(target) if target else ())]
    if as_json:
        common.show(dump_json([asdict(check) for check in checks], indent=2))
    else:
        table = Table("", "what", Column("found", overflow="fold"), Column("next step", overflow="fold"))
        for check in checks:
            mark = "[green]ok[/]" if check.ok else "[red]missing[/]"
            table.add_row(mark, check.what, common.printable(check.found), common.printable(check.step))
        Console().print(table)
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(USAGE)


def examine() -> list[Check]:
    """Return every check, whether it passed or not."""
    python = _check("python", platform.python_version(), sys.version_info >= (3, 11), "install Python 3.11 or newer")
    return [python, *_packages(), *_machine(), *_cache(), *_hub(), _decoder(), _calibrations()]


def _check(what: str, found: str, ok: bool, step: str) -> Check:
    """Return a check that names its step only if it failed."""
    return Check(what, found, ok, "" if ok else step)


def _packages() -> list[Check]:
    """Check the packages that audit-lit's own metadata asks for, without any extra."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(line) for line in requires("audit-lit") or ()]
    except PackageNotFoundError:
        return [Check("audit-lit", "not installed", False, "in a clone: pip install -c constraints.txt -e .")]
    needed = {line.name: line for line in requirements if not line.marker or line.marker.evaluate({"extra": ""})}
    return [_package(needed[name]) for name in NEEDED if name in needed]


def _package(requirement: Requirement) -> Check:
    step = f"pip install '{requirement}'"
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return Check(requirement.name, "not installed", False, step)
    return _check(requirement.name, installed, requirement.specifier.contains(installed, prereleases=True), step)


def _machine() -> list[Check]:
    import psutil
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    free = psutil.virtual_memory().available / 2**30
    step = f"the default pair needs {MEMORY_GIB} GiB; close something"
    return [Check("device", device, True), _check("free memory", f"{free:.1f} GiB", free >= MEMORY_GIB, step)]


def _cache() -> list[Check]:
    """Look for the default target; its folder must be writable, with room for it unless it is there."""
    from audit_lit.models.smollm2 import changed_files, default_target_dir, is_fetched

    folder = default_target_dir()
    try:
        fetched = is_fetched(folder)
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free / 2**30
        ok = _can_write(existing) and (fetched or free >= DISK_GIB)
    except OSError as err:
        return [Check("cache folder", f"{folder}: {err.strerror}", False, "set AUDIT_LIT_CACHE to a folder")]
    if fetched and (changed := changed_files(folder)):
        found = f"{folder} was changed: {', '.join(changed)}"
        return [Check("default target", found, False, f"delete {folder}; it is fetched again")]
    found, step = (str(folder), "") if fetched else ("not fetched yet", "fetched by the first 'audit-lit ask'")
    make_room = f"set AUDIT_LIT_CACHE to a writable folder with {DISK_GIB} GiB free"
    cache = _check("cache folder", f"{existing}, {free:.1f} GiB free", ok, make_room)
    return [Check("default target", found, True, step), cache]


def _can_write(folder: Path) -> bool:
    """Return whether a file can be written into a folder; its permissions alone do not say so."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
        return True
    except OSError:
        return False


def _hub() -> list[Check]:
    """Look for a token in the environment, or where 'hf auth login' puts it."""
    from huggingface_hub import get_token

    found, step = ("found", "") if get_token() else ("none", "for gated models: 'hf auth login' or HF_TOKEN")
    mode = "offline" if os.environ.get("HF_HUB_OFFLINE") == "1" else "online"
    return [Check("Hub token", found, True, step), Check("Hub mode", mode, True)]


def _target(name: str) -> list[Check]:
    """Say what memory a target needs with a decoder on its weights, and name the first way to load both that fits."""
    from audit_lit.errors import HubError
    from audit_lit.hub import local_folder
    from audit_lit.models.memory import free_memory, missing_weights, size_of, ways
    from audit_lit.models.smollm2 import ALIAS

    if name != ALIAS:
        local_folder(name, kind="model")  # raises for a name that no model has
    try:
        size, free = size_of(name), free_memory()
    except HubError as err:
        unknown = f"whether {name} fits is not known, since its sizes are in config.json, which is not here: {err}"
        fetch = f"online: hf download {shlex.quote(name)} config.json (a few kB); then run this again"
        return [Check("target", unknown, False, fetch)]
    possible = ways(size, free)
    fitting = [way for way in possible if way.fits]
    offload = (
        f"more memory or GPUs, or read activations from the disk without a decoder, slowly: load_target({name!r}, "
        f"dtype='bfloat16', device_map='auto', max_memory={{'cpu': '{free['cpu'] / 2:.0f}GiB'}}) in Python"
    )
    ask = f"audit-lit ask --target {shlex.quote(name)}{_decoder_of(name)}"
    step = f"{ask} {fitting[0].options}" if fitting else offload
    found = f"{name}: {size.total / 1e9:.2f} billion weights"
    rows = [
        Check(way.name, f"{way.needs:.1f} GiB, {way.free:.1f} free: {'fits' if way.fits else 'too large'}", True)
        for way in possible
    ]
    if missing := missing_weights(name):
        return [*rows, Check("target", f"{found}, but {missing}", False, "fetch the folder again, with its weights")]
    return [*rows, Check("target", found, bool(fitting), step)]


def _decoder_of(name: str) -> str:
    """Return the option that names a decoder of a target: none for the default one's, else a published one's."""
    from audit_lit.decoder.config import DecoderConfig
    from audit_lit.decoder.folders import SHIPPED
    from audit_lit.decoder.formats.published import ENTRIES

    if name == DecoderConfig.load(SHIPPED["default"]).target:
        return ""
    fitting = (entry.id for entry in ENTRIES if entry.is_usual and entry.base == name)
    return f" --decoder {next(fitting, 'DECODER')}"


def _decoder() -> Check:
    from audit_lit.decoder.folders import ADAPTER, SHIPPED

    ok = (SHIPPED["default"] / ADAPTER).is_file()
    step = "reinstall audit-lit: its package data are incomplete"
    return _check("default decoder", "shipped" if ok else "missing", ok, step)


def _calibrations() -> Check:
    from audit_lit.decoder.calibration_files import calibrations_folder, stored_calibrations

    known = [f"{record.decoder}: {record.summary}" for record in stored_calibrations()]
    return Check("calibrations", "; ".join(known) or f"none in {calibrations_folder()}", True)
