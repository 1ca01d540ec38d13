"""The log of a training run: a JSON line per step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit_lit.errors import TrainingError
from audit_lit.files.reading import parse_json

LOG = "log.jsonl"


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log; a last line that a killed run left half-written is left out.

    Raises:
        TrainingError: If the file cannot be read, or another line is no record of a step.
    """
    try:
        *lines, _half = path.read_bytes().split(b"\n")
        return [_log_record(line.decode(), f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    except (OSError, UnicodeDecodeError) as err:
        raise TrainingError(f"{path} could not be read ({err}); expected the log of a training run.") from err


def _log_record(line: str, where: str) -> dict[str, Any]:
    record = parse_json(line, where, "a record of a training run", TrainingError)
    numbers = [record.get(name) for name in ("step", "examples_per_s")] if isinstance(record, dict) else [None]
    if not all(isinstance(number, int | float) and number > 0 for number in numbers):
        raise TrainingError(
            f"{where} is no record of a training run; expected its step and examples_per_s. Delete the log and the "
            "checkpoint to train from the start."
        )
    return dict(record)
