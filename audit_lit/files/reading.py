"""Read JSON and YAML files with errors in words, and text as Windows writes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import Any

from audit_lit.errors import AuditLitError
from audit_lit.files.documents import decode_json, decode_yaml

MOST_BYTES = 2**28
"""Size of a document from which it is not read."""


def encoding_of(content: bytes) -> str:
    """Return the encoding of text by how it begins: UTF-8, unless a byte order mark or the zeros tell another."""
    return json.detect_encoding(content[:4])


def as_text(file: BufferedIOBase) -> TextIOWrapper:
    """Return an open file that can seek as text, without a byte order mark."""
    encoding = encoding_of(file.read(4))
    file.seek(0)
    return TextIOWrapper(file, encoding=encoding)  # type: ignore[arg-type]  # it needs no name


def read_text(path: Path) -> str:
    """Return the text of a regular file.

    Raises:
        OSError: If it cannot be read, is a pipe or a device, which might never end, or is too large for a document.
        ValueError: If it is not UTF-8.
    """
    require_regular(path)
    if (size := path.stat().st_size) > MOST_BYTES:
        raise OSError(f"it has {size:,} bytes; expected at most {MOST_BYTES:,}")
    return path.read_text(encoding="utf-8")


def require_regular(path: Path) -> None:
    """Raise ``OSError`` for a pipe, a socket or a device, from which a reader might wait for ever."""
    if path.exists() and not path.is_file():
        raise OSError("it is a folder, a pipe or a device; expected a regular file")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, error: type[AuditLitError], *, finite: bool = True) -> Any:
    """Return what a JSON file holds (see ``decode_json``); raise ``error`` if it cannot be read."""
    try:
        return decode_json(read_text(path), finite=finite)
    except (OSError, ValueError) as err:
        raise error(f"{path} could not be read ({err}); expected a JSON document in UTF-8.") from err


def parse_json(text: str, where: str, expected: str, error: type[Exception]) -> Any:
    """Return what JSON text holds; raise ``error`` if it cannot be read."""
    try:
        return decode_json(text)
    except ValueError as err:
        raise error(f"{where} is not JSON ({err}); expected {expected}.") from err


def read_yaml(path: Path, error: type[AuditLitError]) -> dict[str, Any]:
    """Return the settings that a YAML file holds; raise ``error`` if it cannot be read or holds none."""
    try:
        content = decode_yaml(read_text(path))
    except (OSError, ValueError) as err:
        raise error(f"recipe {str(path)!r} could not be read: {err}. Expected a YAML file.") from err
    if not isinstance(content, dict):
        raise error(f"recipe {str(path)!r} holds no settings; expected 'key: value' lines.")
    return content


def is_file(path: str | Path) -> bool:
    """Return whether there is a file of this name; no file has a name that the system does not take."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def is_folder(path: str | Path) -> bool:
    """Return whether there is a folder of this name; no folder has a name that the system does not take."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def check_tensors(tensors: Mapping[str, Any], where: object, error: type[AuditLitError]) -> None:
    """Raise ``error`` if a tensor is not of real floating-point numbers, or one of them is not finite in float32."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise error(
                f"{where}: the tensor {name!r} is of type {tensor.dtype}; expected real floating-point numbers. Fetch "
                "or make it again."
            )
        if not bool(tensor.float().isfinite().all()):
            raise error(
                f"{where}: the tensor {name!r} holds values that are not finite; expected finite numbers. Fetch or "
                "make it again."
            )
