"""The command ``audit-lit doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import click
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

NEEDED = ("torch", "transformer-lens", "transformers", "peft", "huggingface-hub")
MEMORY_GIB = 3.0
DISK_GIB = 1.5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``step`` says how to mend it."""

    what: str
    found: str
    ok: bool
    step: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(as_json: bool) -> None:
    """Check versions, memory and caches; say what is missing and how to get it. Exits 2 if something is."""
    checks = examine()
    _print_checks(checks, as_json)
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(2)


def examine() -> list[Check]:
    """Return every check, whether it passed or not."""
    return [
        _python(),
        *(_package(name, requirement) for name, requirement in _requirements().items()),
        _device(),
        _memory(),
        *_caches(),
        _decoder(),
    ]


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", platform.python_version(), ok, "" if ok else "install Python 3.11 or newer")


def _package(name: str, requirement: Requirement) -> Check:
    step = f"pip install '{requirement}'"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Check(name, "not installed", False, step)
    fits = requirement.specifier.contains(installed, prereleases=True)
    return Check(name, installed, fits, "" if fits else step)


def _requirements() -> dict[str, Requirement]:
    """Return what audit-lit's own metadata says it needs, by package."""
    requirements = [Requirement(line) for line in requires("audit-lit") or ()]
    return {requirement.name: requirement for requirement in requirements if requirement.name in NEEDED}


def _device() -> Check:
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return Check("device", name, True)


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    ok = free >= MEMORY_GIB
    return Check(
        "free memory", f"{free:.1f} GiB", ok, "" if ok else f"the default pair needs {MEMORY_GIB} GiB; close something"
    )


def _caches() -> list[Check]:
    import shutil

    from huggingface_hub import get_token

    from audit_lit.models.smollm2 import MARKER, default_target_dir

    folder = default_target_dir()
    here = (folder / MARKER).is_file()
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(parent).free / 2**30
    writable = os.access(parent, os.W_OK)
    room = here or free >= DISK_GIB
    token = get_token()  # of the environment or of 'hf auth login', wherever HF_HOME puts it
    return [
        Check(
            "default target",
            str(folder) if here else "not fetched yet",
            True,
            "" if here else "fetched by the first 'audit-lit ask'",
        ),
        Check(
            "cache folder",
            f"{parent}, {free:.1f} GiB free",
            writable and room,
            "" if writable and room else f"set AUDIT_LIT_CACHE to a writable folder with {DISK_GIB} GiB free",
        ),
        Check(
            "Hub token",
            "found" if token else "none",
            True,
            "" if token else "for gated models: 'hf auth login' or HF_TOKEN",
        ),
        Check("Hub mode", "offline" if os.environ.get("HF_HUB_OFFLINE") == "1" else "online", True),
    ]


def _decoder() -> Check:
    from audit_lit.decoder.adapter import ADAPTER
    from audit_lit.decoder.files import SHIPPED

    ok = (SHIPPED["default"] / ADAPTER).is_file()
    return Check(
        "default decoder",
        "shipped" if ok else "missing",
        ok,
        "" if ok else "reinstall audit-lit: its package data are incomplete",
    )


def _print_checks(checks: Sequence[Check], as_json: bool) -> None:
    """Print what was examined."""
    if as_json:
        Console(soft_wrap=True).print_json(json.dumps([asdict(check) for check in checks]))
        return
    table = Table("", "what", Column("found", overflow="fold"), Column("next step", overflow="fold"))
    for check in checks:
        table.add_row(
            "[green]ok[/]" if check.ok else "[red]missing[/]", check.what, escape(check.found), escape(check.step)
        )
    Console().print(table)
