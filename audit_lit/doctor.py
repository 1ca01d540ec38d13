"""What is installed, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from audit_lit import default_target
from audit_lit.decoder_files import ADAPTER, SHIPPED

NEEDS = {"torch": "2.6", "transformer-lens": "3.9", "transformers": "5.9", "peft": "0.21", "huggingface-hub": "1.5"}
MEMORY_GIB = 3.0
DISK_GIB = 1.5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; ``step`` says how to mend it."""

    what: str
    found: str
    ok: bool
    step: str = ""


def examine() -> list[Check]:
    """Return every check, whether it passed or not."""
    return [
        _python(),
        *(_package(name, least) for name, least in NEEDS.items()),
        _device(),
        _memory(),
        *_caches(),
        _decoder(),
    ]


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", platform.python_version(), ok, "" if ok else "install Python 3.11 or newer")


def _package(name: str, least: str) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "not installed", False, f"pip install '{name}>={least}'")
    ok = Version(found) >= Version(least)
    return Check(name, found, ok, "" if ok else f"pip install --upgrade '{name}>={least}'")


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

    folder = default_target.default_target_dir()
    here = (folder / default_target.MARKER).is_file()
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
    ok = (SHIPPED["default"] / ADAPTER).is_file()
    return Check(
        "default decoder",
        "shipped" if ok else "missing",
        ok,
        "" if ok else "reinstall audit-lit: its package data are incomplete",
    )
