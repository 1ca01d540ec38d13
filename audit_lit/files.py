"""Read JSON and YAML files with errors in words, and write files as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audit_lit.documents import decode_json, decode_yaml
from audit_lit.errors import AuditLitError


def read_json(path: Path, error: type[AuditLitError], *, finite: bool = True) -> Any:
    """Return what a JSON file holds (see ``decode_json``); raise ``error`` if it cannot be read."""
    try:
        return decode_json(path.read_text(encoding="utf-8"), finite=finite)
    except (OSError, ValueError) as err:
        raise error(f"{path} could not be read ({err}); expected a JSON document in UTF-8.") from err


def parse_json(text: str, where: str, expected: str, error: type[Exception]) -> Any:
    """Return what JSON text holds; raise ``error`` if it cannot be read."""
    try:
        return decode_json(text)
    except ValueError as err:
        raise error(f"{where} is not JSON ({err}); expected {expected}.") from err


def dump_json(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """Return a value as JSON text, on one line unless it is indented.

    Raises:
        AuditLitError: If a number in it is not finite.
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError as err:
        raise AuditLitError(
            f"a figure of the result is not finite ({err}); expected finite numbers. Check the weights of the models, "
            "or load them in float32, and run it again."
        ) from err


def read_yaml(path: Path, error: type[AuditLitError]) -> dict[str, Any]:
    """Return the settings that a YAML file holds; raise ``error`` if it cannot be read or holds none."""
    try:
        content = decode_yaml(path.read_text(encoding="utf-8"))
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


def check_out(folder: Path, error: type[AuditLitError]) -> None:
    """Raise ``error`` if a folder is not there and could not be made, before anything is computed for it."""
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as err:
        raise error(f"{folder} cannot be used as a folder ({err.strerror}); name another with --out.") from err
    if not nearest.is_dir():
        raise error(f"{folder} cannot be used as a folder ({nearest} is a file); name another with --out.")


@contextmanager
def locked(folder: Path, error: type[AuditLitError]) -> Iterator[None]:
    """Create a folder if it is missing, and keep other runs out of it meanwhile.

    The operating system holds the lock, so that a killed run leaves none.

    Raises:
        AuditLitError: If another run is in it, or it cannot be made or written to, as ``error``.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as err:
        raise error(f"{folder} is in use by another run; wait for it, or name another with --out.") from err
    except OSError as err:
        raise error(f"{folder} cannot be used as a folder ({err.strerror}); name another with --out.") from err
    try:
        yield
    finally:
        lock.release()


def check_tensors(tensors: Mapping[str, Any], where: object, error: type[AuditLitError]) -> None:
    """Raise ``error`` if a tensor holds a value that is not finite in float32."""
    for name, tensor in tensors.items():
        if not bool(tensor.float().isfinite().all()):
            raise error(
                f"{where}: the tensor {name!r} holds values that are not finite; expected finite numbers. Fetch or "
                "make it again."
            )


def write_whole(path: Path, content: str) -> None:
    """Write a file by one rename, so that a killed process leaves the old content or the new, and never half of it."""
    unfinished = path.with_suffix(".partial")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
