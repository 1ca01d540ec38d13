"""The dialogs of an audit: from a file or a list, read again whenever they are needed."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from gzip import BadGzipFile
from io import BufferedIOBase
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from audit_lit.chat.dialog import Dialog
from audit_lit.chat.formats import inspect_log
from audit_lit.chat.formats.detect import INSPECT, NAMES, format_of, unknown
from audit_lit.chat.formats.sources import EXPECTED, Source, sources, to_json
from audit_lit.chat.messages import read_dialog
from audit_lit.chat.suggestions import Shell, without
from audit_lit.errors import DialogError, UnknownLayout, UnreadableDialog
from audit_lit.files.reading import require_regular

MOST_ROWS = 1000
"""Number of documents of a file whose places a suggested command is made from."""
UNKNOWN = Shell()
"""For dialogs that come from no file."""


@dataclass(frozen=True)
class NamedDialog:
    """One dialog of an audit, named by its id in the file, or by the number of its line."""

    id: str
    messages: tuple[dict[str, Any], ...]
    where: str
    """Where it comes from, for error messages."""
    format: str = "a list of messages"
    """The title of the format that it was read as."""
    shell: Shell = UNKNOWN
    """How a shell names the file."""

    def unread(self, err: Exception) -> str:
        """Return why the dialog cannot be read after all, with its place."""
        return self.shell.pasteable(f"{self.where}: {err.of_file if isinstance(err, DialogError) else err}")


@dataclass(frozen=True)
class Unreadable:
    """A dialog that cannot be read, why, and where it comes from."""

    id: str
    error: str
    where: str


@dataclass(frozen=True)
class DialogFile:
    """A file of dialogs in any format of ``FORMATS``.

    JSON lines are read line by line: memory does not grow with them, and errors name the line. A JSON document holds
    one dialog or an array of them. An ``id`` names a dialog; else it is its number. A message with ``"hidden": true``
    runs in the target and is never shown to the decoder; system messages are hidden unless ``"hidden": false``.
    """

    path: str | Path
    format: str | None = None
    """Name of the format; None tells it by the content."""
    skip_unreadable: bool = False
    """Whether a dialog that cannot be read is ``Unreadable``, and no error."""

    def __iter__(self) -> Iterator[NamedDialog | Unreadable]:
        path = Path(self.path)
        try:
            require_regular(path)
            with path.open("rb") as file:
                yield from read_dialogs(file, str(path), self.format, self.skip_unreadable, str(path))
        except OSError as err:
            raise DialogError(f"{path} could not be read: {err}. Expected {EXPECTED}.") from err


@dataclass(frozen=True)
class DialogList:
    """Dialogs in memory, numbered from 1."""

    dialogs: Sequence[Dialog]
    skip_unreadable: bool = False

    def __iter__(self) -> Iterator[NamedDialog | Unreadable]:
        for number, dialog in enumerate(self.dialogs, start=1):
            yield _read(Source(str(number), f"dialog {number}", dialog), None, self.skip_unreadable, UNKNOWN)


Dialogs = DialogFile | DialogList


def read_dialogs(
    file: BufferedIOBase,
    name: str,
    format: str | None = None,
    skip_unreadable: bool = False,
    path: str = "FILE",
) -> Iterator[NamedDialog | Unreadable]:
    """Yield the dialogs of an open file that can seek.

    Args:
        file: The file.
        name: What messages call it.
        format: Name of the format; None tells it by the content.
        skip_unreadable: Whether a dialog that cannot be read is ``Unreadable``, and no error.
        path: What the commands in messages call it.

    Raises:
        DialogError: If one cannot be read, unless that is skipped, or the file holds no JSON, or cannot be unpacked or
            decoded.
    """
    if format not in (None, *NAMES):
        raise DialogError(f"format {format!r} is unknown; expected one of {', '.join(NAMES)}.")
    shell = Shell(path, to_json(file))
    try:
        following = sources(file, name)
        for source in following:
            yield _read(source, format, skip_unreadable, shell, () if skip_unreadable else following)
    except DialogError as err:
        raise type(err)(shell.pasteable(err.of_file)) from err
    except UnicodeDecodeError as err:
        encoding = err.encoding.upper()
        raise DialogError(
            f"{name} could not be read ({err}); expected {EXPECTED}, in {encoding} to its end. Fetch it again, or "
            "write it in UTF-8."
        ) from err
    except (EOFError, BadGzipFile, zlib.error) as err:  # broken, cut off or lengthened after gzip packed it
        raise DialogError(
            f"{name} could not be unpacked ({err}); expected what gzip packs, and no more. Fetch it again."
        ) from err


def _read(
    source: Source, format: str | None, skip_unreadable: bool, shell: Shell, following: Iterable[Source] = ()
) -> NamedDialog | Unreadable:
    document = source.document
    given = document.get("id") if isinstance(document, Mapping) else None
    name = source.id if given is None else str(given)
    try:
        return _named(name, source, format, shell, following)
    except DialogError as err:
        if not skip_unreadable:
            raise UnreadableDialog(err.of_file) from err
        return Unreadable(name, shell.pasteable(err.of_file), source.where)


def _named(name: str, source: Source, format: str | None, shell: Shell, following: Iterable[Source]) -> NamedDialog:
    if source.error:
        raise DialogError(source.error)
    if source.is_log and format in (None, INSPECT):
        title, read = inspect_log.TITLE, read_dialog
    else:
        try:
            title, read = attrgetter("title", "read")(format_of(source.document, format))
        except UnknownLayout as err:  # whose command must do for the file
            raise DialogError(f"{source.where} {unknown([source.document, *_like_it(source, following)])}") from err
        except DialogError as err:
            raise DialogError(f"{source.where} {err.of_file}") from err
    try:
        messages = read(source.document)
        json.dumps([name, messages], ensure_ascii=False).encode()
    except (DialogError, UnicodeEncodeError) as err:
        said = err.of_file if isinstance(err, DialogError) else err
        raise DialogError(f"{source.where}: {said}") from err
    return NamedDialog(name, messages, source.where, title, shell)


def _like_it(first: Source, following: Iterable[Source]) -> Iterator[Any]:
    """Yield what else of a file is in no format: ``MOST_ROWS`` documents, and those that have further keys."""
    keys = _keys(first.document)
    n_rows = 0
    for source in following:
        document = source.document
        if isinstance(document, Mapping | list) and (n_rows < MOST_ROWS or not keys >= _keys(document)):
            try:
                format_of(document, None)
            except UnknownLayout:
                keys |= _keys(document)
                n_rows += 1
                yield document


def _keys(document: Any) -> set[str]:
    return set(document) if isinstance(document, Mapping) else set()


class Census(NamedTuple):
    """What there is to read: the number of dialogs, the SHA-256 of their ids and messages, and in which formats."""

    n_dialogs: int
    sha256: str
    n_unreadable: int
    formats: tuple[str, ...]


def digest(dialogs: Iterable[NamedDialog | Unreadable]) -> Census:
    """Count dialogs, and hash their ids and messages; raise if none can be read, or ids repeat."""
    hasher, places = hashlib.sha256(), dict[str, str]()
    formats: dict[str, None] = {}
    unreadable: list[Unreadable] = []
    for dialog in dialogs:
        if dialog.id in places:
            shell = dialog.shell if isinstance(dialog, NamedDialog) else UNKNOWN
            raise DialogError(
                f"two dialogs have the id {dialog.id!r}: {places[dialog.id]}, and {dialog.where}; expected each once. "
                + shell.pasteable(f"To name dialogs by their places: {without(['id'])}")
            )
        places[dialog.id] = dialog.where
        if isinstance(dialog, Unreadable):
            unreadable.append(dialog)
        else:
            formats[dialog.format] = None
        content = dialog.error if isinstance(dialog, Unreadable) else dialog.messages
        hasher.update(json.dumps([dialog.id, content], sort_keys=True).encode())
    if not places:
        raise DialogError('there is no dialog to audit; expected lines such as [{"role": "user", "content": "Hi."}].')
    if len(unreadable) == len(places):
        raise DialogError(f"none of the {len(places)} dialogs can be read. {unreadable[0].error}")
    return Census(len(places), hasher.hexdigest(), len(unreadable), tuple(formats))
