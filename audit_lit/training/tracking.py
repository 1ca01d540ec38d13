"""Experiment tracking beside the log file, by trackio or W&B, through accelerate."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from audit_lit.errors import TrainingError

PROJECT = "audit-lit"
TRACKERS = ("trackio", "wandb")


def check_tracker(tracker: str | None) -> None:
    """Raise unless a tracker is known and installed."""
    from accelerate import tracking

    if tracker is None:
        return
    if tracker not in TRACKERS:
        raise TrainingError(f"unknown tracker {tracker!r}; expected one of {', '.join(TRACKERS)}.")
    if tracker not in map(str, tracking.get_available_trackers()):
        raise _missing(tracker)


def require_tracker(tracker: str) -> None:
    """Raise unless a tracker is installed, before torch is imported."""
    try:
        version(tracker)
    except PackageNotFoundError as err:
        raise _missing(tracker) from err


def _missing(tracker: str) -> TrainingError:
    return TrainingError(
        f"the tracker {tracker!r} is not installed in this environment; install it with pip install {tracker}, or "
        "leave out --track."
    )


def scalars(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers and words of nested values under dotted names, which every tracker takes."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= scalars(value, f"{prefix}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[prefix + name] = value
    return flat
