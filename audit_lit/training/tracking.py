"""Experiment tracking beside the log file, by whatever accelerate supports, such as trackio or W&B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audit_lit.errors import RecipeError

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "audit-lit"


def start_tracking(accelerator: Accelerator, tracker: str, settings: Mapping[str, Any]) -> None:
    """Begin a run of the project ``audit-lit`` with a recipe's settings.

    Raises:
        RecipeError: If the tracker is not installed.
    """
    if tracker not in [str(one) for one in accelerator.log_with]:  # accelerate leaves out what it cannot import
        raise RecipeError(
            f"{tracker!r} is not installed; expected it in this environment. Try pip install {tracker}, "
            "or leave out --track."
        )
    accelerator.init_trackers(PROJECT, config=scalars(settings))


def scalars(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers and words of nested values under dotted names: what every tracker takes."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            found[prefix + name] = value
    return found
