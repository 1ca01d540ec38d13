"""Where results are written: whole files or none, through no link, and over nothing that somebody else wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from audit_lit.errors import AuditLitError


def require_writable(folder: Path, markers: tuple[str, ...], error: type[AuditLitError]) -> None:
    """Refuse an output folder that holds something else.

    A folder may be new or empty, or hold one of the files that tell who wrote it. Hidden files do not count.

    Args:
        folder: The folder to write; it need not exist.
        markers: Names of files that this kind of output has, and no other.
        error: What to raise.

    Raises:
        AuditLitError: If the folder is a file, or holds files of another kind, as ``error``.
    """
    try:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return
    except OSError as err:
        raise error(f"{folder} cannot be used as a folder ({err.strerror}); name another.") from err
    if names and not names & set(markers):
        raise error(
            f"{folder} holds other files, such as {min(names)!r}, which might be written over; expected a new or empty "
            f"folder, or one with {' or '.join(markers)}. Name another."
        )


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
