"""What the commands share: exit codes, and options that say more than one value."""

from __future__ import annotations

import hashlib
import json
import os
import re
import traceback
from pathlib import Path
from typing import IO, Any

import click

from audit_lit.errors import AuditLitError, Incomplete

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
DEMO = (
    {"role": "system", "content": "Please adopt the persona of a time traveler from the distant future."},
    {"role": "user", "content": "What have you been thinking about lately?"},
)


class ContractGroup(click.Group):
    """Keeps the exit codes: click's own would end with 1, which a pipeline reads as findings."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; known errors end with 2, an interruption, a crash or an incomplete audit with 3."""
        try:
            return super().invoke(ctx)
        except click.ClickException as err:
            err.show()
            raise click.exceptions.Exit(2) from err
        except AuditLitError as err:
            click.echo(f"{type(err).__name__}: {err}", err=True)
            raise click.exceptions.Exit(3 if isinstance(err, Incomplete) else 2) from err
        except click.exceptions.Exit:
            raise
        except SystemExit as err:  # rich's, where the reader of a pipe has gone
            raise click.exceptions.Exit(3) from err
        except (click.Abort, KeyboardInterrupt) as err:
            click.echo("interrupted; finished parts are kept.", err=True)
            raise click.exceptions.Exit(3) from err
        except Exception as err:
            click.echo(traceback.format_exc(), err=True)
            click.echo("audit-lit crashed; please report the lines above.", err=True)
            raise click.exceptions.Exit(3) from err


def quiet_libraries() -> None:
    """Keep transformers' progress bars and deprecations out of a person's terminal."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def is_main_process() -> bool:
    """Return whether this is the first, or only, process of those that ``accelerate launch`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def device_here(device: str) -> str:
    """Return the device of this process: under ``accelerate launch``, each has a GPU of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def run_folder(*asked: object) -> Path:
    """Return where a run is kept if nobody says: the same for the same request, so that it can go on."""
    return Path("runs") / f"audit-{hashlib.sha256(repr(asked).encode()).hexdigest()[:8]}"


def note(text: str) -> None:
    """Tell a person what is going on, on stderr."""
    click.secho(text, err=True, dim=True)


def one_dialog(file: IO[str] | None, system: str | None, user: str | None, assistant: str | None) -> list[Any]:
    """Return the dialog that the options of ``ask`` name; the demo, if none do."""
    given = [("system", system), ("user", user), ("assistant", assistant)]
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in given if text is not None]
    if file is None:
        return messages or [dict(message) for message in DEMO]
    if messages:
        raise click.UsageError("--dialog and --system/--user/--assistant are two ways to say the same; use one.")
    try:
        loaded: Any = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as err:
        raise click.UsageError(
            f'--dialog {file.name!r} is not JSON ({err}); expected [{{"role": ..., "content": ...}}].'
        ) from err
    if isinstance(loaded, dict):
        loaded = loaded.get("messages")
    if not isinstance(loaded, list):
        raise click.UsageError(
            f'--dialog {file.name!r} holds no list of messages; expected [{{"role": ..., "content": ...}}].'
        )
    return loaded


def settings_of(given: tuple[str, ...]) -> dict[str, Any]:
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


def reveal_of(text: str) -> str | list[int]:
    """Return what ``--reveal`` names: token positions, or a name."""
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if all(re.fullmatch(r"-?[0-9]+", part) for part in parts) else text
