"""Read JSON and YAML files with errors in words."""

from __future__ import annotations

import codecs
import json
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import Any

from audit_lit.errors import AuditLitError

NOT_JSON = (json.JSONDecodeError, RecursionError)
"""What text raises that is not JSON, or is nested too deeply to be read."""


BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""What a file begins with that Windows wrote, and the encoding that it tells."""


def encoding_of(content: bytes) -> str:
    """Return the encoding of text by how it begins: UTF-8, unless a byte order mark says another."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")


def as_text(file: BufferedIOBase) -> TextIOWrapper:
    """Return an open file that can seek as text, without a byte order mark."""
    encoding = encoding_of(file.read(len(codecs.BOM_UTF8)))
    file.seek(0)
    return TextIOWrapper(file, encoding=encoding)  # type: ignore[arg-type]  # it needs no name


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
