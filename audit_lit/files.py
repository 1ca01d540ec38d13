"""Read JSON and YAML files with errors in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audit_lit.errors import AuditLitError

NOT_JSON = (json.JSONDecodeError, RecursionError)
"""What text raises that is not JSON, or is nested too deeply to be read."""


def read_json(path: Path, error: type[AuditLitError]) -> Any:
    """Return what a JSON file holds; raise ``error`` if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, *NOT_JSON) as err:
        raise error(f"{path} could not be read ({err}); expected a JSON document in UTF-8.") from err


def parse_json(text: str, where: str, expected: str, error: type[Exception]) -> Any:
    """Return what JSON text holds; raise ``error`` if it cannot be read."""
    try:
        return json.loads(text)
    except NOT_JSON as err:
        raise error(f"{where} is not JSON ({err}); expected {expected}.") from err


def read_yaml(path: Path, error: type[AuditLitError]) -> dict[str, Any]:
    """Return the settings that a YAML file holds; raise ``error`` if it cannot be read or holds none."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as err:
        raise error(f"recipe {str(path)!r} could not be read: {err}. Expected a YAML file.") from err
    if not isinstance(content, dict):
        raise error(f"recipe {str(path)!r} holds no settings; expected 'key: value' lines.")
    return content
