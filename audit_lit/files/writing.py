"""Write results: whole files or none, through no link, and over nothing that somebody else wrote."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from audit_lit.errors import AuditLitError
from audit_lit.files.reading import is_folder, require_regular

EDIT, RUN, DECODER, TRIAL = "edit.json", "run.json", "protocol.json", "trial.json"
"""What tells what a folder is that audit-lit wrote: an edit, a run of an audit or a training, a decoder, a trial."""
HOLDS = {EDIT: {"format", "origin", "parts"}, DECODER: {"format", "read_layers"}, TRIAL: {"trial"}}
"""Keys that those files have; ``run.json`` is checked by its own reader, which says what is wrong with it."""


def require_writable(folder: Path, marker: str, error: type[AuditLitError]) -> None:
    """Refuse an output folder that cannot be made, or that holds something else.

    A folder may be new or empty, or hold the file that tells what it is, and no link to another folder. Hidden files do
    not count.

    Args:
        folder: The folder to write; it need not exist.
        marker: Name of a file that this kind of output has, and no other.
        error: What to raise.

    Raises:
        AuditLitError: If the folder is a file, or holds files of another kind, as ``error``.
    """
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        paths = {path.name: path for path in folder.iterdir() if path.name[0] != "."} if folder.exists() else {}
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or err
        raise error(f"{folder} cannot be used as a folder ({reason}); name another with --out.") from err
    if links := sorted(name for name, path in paths.items() if path.is_symlink() and path.is_dir()):
        raise error(f"{folder} holds a link to another folder, {links[0]!r}, which is not followed; name another.")
    if paths and not _is_marked(paths.get(marker), marker):
        raise error(
            f"{folder} holds other files, such as {min(paths)!r}, which might be written over; expected a new or empty "
            f"folder, or one with {marker}. Name another."
        )


def require_own(path: Path, forms: Collection[str], error: type[AuditLitError]) -> None:
    """Refuse to write over a file, unless it is a safetensors file whose metadata names one of these formats.

    Args:
        path: The file to write; it need not exist.
        forms: What this kind of output has as ``format``, in each of its versions.
        error: What to raise.

    Raises:
        AuditLitError: If it holds something else, as ``error``.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.lexists(path) or path.is_symlink() or is_folder(path):
        return  # a link is replaced, and what it leads to stays; a folder stops whoever writes
    try:
        require_regular(path)
        with safe_open(path, "np") as file:
            form = (file.metadata() or {}).get("format")
    except (OSError, SafetensorError):
        form = None
    if form not in forms:
        raise error(
            f"{path} holds something else, which would be written over; expected a new file, or one of the format "
            f"{' or '.join(map(repr, forms))}. Name another."
        )


def _is_marked(path: Path | None, marker: str) -> bool:
    """Return whether a file tells that its folder is of a kind, and is not only called so."""
    if path is None or not path.is_file():
        return False
    if marker not in HOLDS:
        return True
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(content) >= HOLDS[marker]


@contextmanager
def locked(
    folder: Path, error: type[AuditLitError], *, name: str = "", advice: str = "name another with --out"
) -> Iterator[None]:
    """Create a folder if it is missing, and keep other runs out of it meanwhile, or out of a part of it.

    The operating system holds the lock, so that a killed run leaves none.

    Args:
        folder: The folder.
        error: What to raise.
        name: The part, whose lock is another than that of other parts.
        advice: What to do if there can be no lock.

    Raises:
        AuditLitError: If another run is in it, or it cannot be made or written to, as ``error``.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / f"{name and f'.{name}'}.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as err:
        raise error(f"{folder} is in use by another run; wait for it, or {advice}.") from err
    except OSError as err:
        raise error(f"{folder} cannot be used as a folder ({err.strerror}); {advice}.") from err
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file that takes the place of ``path`` when the body has ended without an error.

    A killed process leaves the old file or the new one, and never half of it. A link is replaced, not followed.
    """
    unfinished = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def saved(path: Path, error: type[AuditLitError]) -> Iterator[None]:
    """Raise ``error`` where the system does not let the body write a result to ``path``."""
    from safetensors import SafetensorError

    try:
        yield
    except AuditLitError:  # some are OSErrors
        raise
    except (OSError, SafetensorError) as err:
        reason = getattr(err, "strerror", None) or err
        raise error(f"{path} cannot be written ({reason}); name another place, or make room.") from err


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
    if text.replace("\n", "").isprintable():
        return text
    return text.translate({ord(char): _escaped(char) for char in set(text) - {"\n"} if not char.isprintable()})


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"
