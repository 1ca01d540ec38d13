"""Experiment tracking beside the log file, by trackio or W&B, through accelerate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audit_lit.errors import TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "audit-lit"
TRACKERS = ("trackio", "wandb")


def check_tracker(tracker: str | None) -> None:
    """Raise unless a tracker can be used.

    Raises:
        TrainingError: If it is not one of ``TRACKERS``, or is not installed.
    """
    from accelerate import tracking

    if tracker is None:
        return
    if tracker not in TRACKERS:
        raise TrainingError(f"unknown tracker {tracker!r}; expected one of {', '.join(TRACKERS)}.")
    if tracker not in map(str, tracking.get_available_trackers()):
        raise TrainingError(
            f"the tracker {tracker!r} is not installed in this environment; install it with pip install {tracker}, or "
            "leave out --track."
        )


def start_tracking(accelerator: Accelerator, settings: Mapping[str, Any]) -> None:
    """Begin a run of the project ``audit-lit`` with a recipe's settings."""
    accelerator.init_trackers(PROJECT, config={**scalars(settings), "recipe": json.dumps(settings)})


def scalars(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers and words of nested values under dotted names, which every tracker takes."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= scalars(value, f"{prefix}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[prefix + name] = value
    return flat
