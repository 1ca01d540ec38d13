"""What the commands share: notes, and options that hold more than a word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def note(text: str) -> None:
    """Tell a person what is going on, on stderr."""
    click.secho(text, err=True, dim=True)


def parse_settings(given: tuple[str, ...]) -> dict[str, Any]:
    """Return overrides of a recipe: ``wire.n_edge=2`` -> ``{"wire": {"n_edge": 2}}``."""
    import yaml

    settings: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set {setting!r} has no '='; expected KEY=VALUE, such as --set lr=0.0005.")
        *outer, last = key.split(".")
        place = settings
        for name in outer:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise click.UsageError(f"--set {setting!r} goes into {name!r}, which another --set made a value.")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError as err:
            raise click.UsageError(f"--set {setting!r}: {value!r} is no YAML value; expected one such as 0.1.") from err
    return settings


def parse_reveal(text: str) -> str | list[int]:
    """Return what ``--reveal`` names: token positions, or a name."""
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if all(re.fullmatch(r"-?[0-9]+", part) for part in parts) else text
