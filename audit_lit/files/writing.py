"""Write results: whole files or none, through no link, and over nothing that somebody else wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from audit_lit.errors import AuditLitError

EDIT, RUN, DECODER, TRIAL = "edit.json", "run.json", "protocol.json", "tiny-llama"
"""What tells what a folder is that audit-lit wrote: an edit, a run of an audit or a training, a decoder, a trial."""


def require_writable(folder: Path, marker: str, error: type[AuditLitError]) -> None:
    """Refuse an output folder that cannot be made, or that holds something else.

    A folder may be new or empty, or hold the file that tells what it is. Hidden files do not count.

    Args:
        folder: The folder to write; it need not exist.
        marker: Name of a file that this kind of output has, and no other.
        error: What to raise.

    Raises:
        AuditLitError: If the folder is a file, or holds files of another kind, as ``error``.
    """
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        names = {path.name for path in nearest.iterdir() if not path.name.startswith(".")}
    except OSError as err:
        raise error(f"{folder} cannot be used as a folder ({err.strerror}); name another with --out.") from err
    if nearest == folder and names and marker not in names:
        raise error(
            f"{folder} holds other files, such as {min(names)!r}, which might be written over; expected a new or empty "
            f"folder, or one with {marker}. Name another."
        )


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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file that takes the place of ``path`` when the body has ended without an error.

    A killed process leaves the old file or the new one, and never half of it. A link is replaced, not followed.
    """
    unfinished = path.with_name(f"{path.name}.partial")
    unfinished.unlink(missing_ok=True)
    yield unfinished
    unfinished.replace(path)


def write_whole(path: Path, content: str) -> None:
    """Write a text file in UTF-8 by one rename (see ``replacing``)."""
    with replacing(path) as unfinished, unfinished.open("x", encoding="utf-8", newline="\n") as file:
        file.write(content)


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to read it and to append to it; it is created if it is missing. A link raises ``OSError``."""

    def without_links(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    return cast(BinaryIO, open(path, "ab+", opener=without_links))


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON text, on one line unless it is indented.

    Characters that show nothing or act on a terminal (controls, bidirectional marks, halves of surrogate pairs) are
    escaped, so that the text can be printed; others stand as they are.

    Raises:
        AuditLitError: If a number in it is not finite.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError as err:
        raise AuditLitError(
            f"a figure of the result is not finite ({err}); expected finite numbers. Check the weights of the models, "
            "or load them in float32, and run it again."
        ) from err
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"
