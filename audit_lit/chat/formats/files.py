"""The dialogs of an audit: from a file or a list, read again whenever they are needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO, TextIOWrapper
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from audit_lit.chat.dialog import Dialog
from audit_lit.chat.formats import inspect_log
from audit_lit.chat.formats.detect import INSPECT, NAMES, as_document, documents, format_of
from audit_lit.chat.messages import read_dialog
from audit_lit.errors import DialogError
from audit_lit.files.reading import as_text, parse_json, require_regular

EXPECTED = "one dialog per line, or one JSON document"


@dataclass(frozen=True)
class NamedDialog:
    """One dialog of an audit, named by its id in the file, or by the number of its line."""

    id: str
    messages: tuple[dict[str, Any], ...]
    where: str
    """Where it comes from, for error messages."""
    format: str = "a list of messages"
    """The title of the format that it was read as."""


@dataclass(frozen=True)
class Unreadable:
    """A dialog that cannot be read, and why."""

    id: str
    error: str


@dataclass(frozen=True)
class DialogFile:
    """A file of dialogs in any format of ``FORMATS``.

    JSON lines are read line by line: memory does not grow with them, and errors name the line. A JSON document holds
    one dialog or an array of them. An ``id`` names a dialog; else it is its number. A message with ``"hidden": true``
    runs in the target and is never shown to the decoder; system messages are hidden unless ``"hidden": false``.
    """

    path: Path
    format: str | None = None
    """Name of the format; None tells it by the content."""
    skip_unreadable: bool = False
    """Whether a dialog that cannot be read is ``Unreadable``, and no error."""

    def __iter__(self) -> Iterator[NamedDialog | Unreadable]:
        try:
            require_regular(self.path)
            with self.path.open("rb") as file:
                yield from read_dialogs(file, str(self.path), self.format, self.skip_unreadable)
        except (OSError, UnicodeError) as err:
            raise DialogError(f"{self.path} could not be read: {err}. Expected {EXPECTED}, in UTF-8.") from err


@dataclass(frozen=True)
class DialogList:
    """Dialogs in memory, numbered from 1."""

    dialogs: Sequence[Dialog]
    skip_unreadable: bool = False

    def __iter__(self) -> Iterator[NamedDialog | Unreadable]:
        for number, dialog in enumerate(self.dialogs, start=1):
            yield _read(_Source(str(number), f"dialog {number}", dialog), None, self.skip_unreadable)


Dialogs = DialogFile | DialogList


@dataclass(frozen=True)
class _Source:
    """A JSON document that should hold one dialog, or why it is none."""

    id: str
    where: str
    document: Any = None
    error: str | None = None
    is_log: bool = False


def read_dialogs(
    file: BufferedIOBase, name: str, format: str | None = None, skip_unreadable: bool = False
) -> Iterator[NamedDialog | Unreadable]:
    """Yield the dialogs of an open file that can seek.

    Raises:
        DialogError: If one cannot be read, unless that is skipped.
    """
    if format not in (None, *NAMES):
        raise DialogError(f"format {format!r} is unknown; expected one of {', '.join(NAMES)}.")
    for source in _sources(file, name):
        yield _read(source, format, skip_unreadable)


def _sources(file: BufferedIOBase, name: str) -> Iterator[_Source]:
    """Yield the documents of a file: a log's samples, the parts of one document, or those of its lines."""
    if file.read(len(inspect_log.ZIP)) == inspect_log.ZIP:
        file.seek(0)
        yield from _of_log(inspect_log.log_samples(file, name), name)
        return
    file.seek(0)
    text = as_text(file)
    if (content := _one_document(text, name)) is not None:
        yield from _split(content, "", name)
        return
    text.seek(0)
    for number, line in enumerate(text, start=1):
        if line.strip():
            yield from _of_line(line, str(number), f"{name}, line {number}")


def _one_document(text: TextIOWrapper, name: str) -> Any:
    """Return what a file holds as one JSON document, which begins on a line that is none; None for JSON lines."""
    head = list(islice((line for line in text if line.strip()), 2))
    if not head or _is_json(head[0]):
        return None
    text.seek(0)
    try:
        return parse_json(text.read(), name, EXPECTED, DialogError)
    except DialogError as err:
        if _is_json(head[-1]):  # JSON lines, of which the first is broken
            return None
        line = f"{name}, line {getattr(err.__cause__, 'lineno', 1)}"
        raise DialogError(str(err).replace(name, line, 1)) from err


def _is_json(line: str) -> bool:
    try:
        parse_json(line, "", EXPECTED, DialogError)
    except DialogError:
        return False
    return True


def _of_line(line: str, number: str, where: str) -> Iterator[_Source]:
    try:
        content = parse_json(line, where, EXPECTED, DialogError)
    except DialogError as err:
        yield _Source(number, where, error=str(err))
        return
    yield from _split(content, number, where)


def _split(content: Any, number: str, where: str) -> Iterator[_Source]:
    """Yield the dialogs of a JSON document: the samples of a log, the parts of an array, or the document itself."""
    parts = documents(content)
    if inspect_log.is_log(content):
        yield from _of_log(inspect_log.log_samples(BytesIO(json.dumps(content).encode()), where), where)
    elif parts is None:
        yield _Source(number or "1", where, as_document(content))
    else:
        for place, part in enumerate(parts, start=1):
            prefix = f"{number}." if number else ""
            yield _Source(f"{prefix}{place}", f"{where}, dialog {place}", as_document(part))


def _of_log(samples: Iterable[tuple[str, Any]], where: str) -> Iterator[_Source]:
    return (_Source(name, f"{where}, sample {name}", messages, is_log=True) for name, messages in samples)


def _read(source: _Source, format: str | None, skip_unreadable: bool) -> NamedDialog | Unreadable:
    document = source.document
    given = document.get("id") if isinstance(document, Mapping) else None
    name = source.id if given is None else str(given)
    try:
        return _named(name, source, format)
    except DialogError as err:
        if not skip_unreadable:
            raise
        return Unreadable(name, str(err))


def _named(name: str, source: _Source, format: str | None) -> NamedDialog:
    if source.error:
        raise DialogError(source.error)
    if source.is_log and format in (None, INSPECT):
        title, read = inspect_log.TITLE, read_dialog
    else:
        try:
            title, read = attrgetter("title", "read")(format_of(source.document, format))
        except DialogError as err:
            raise DialogError(f"{source.where} {err}") from err
    try:
        messages = read(source.document)
        json.dumps([name, messages], ensure_ascii=False).encode()
    except (DialogError, UnicodeEncodeError) as err:
        raise DialogError(f"{source.where}: {err}") from err
    return NamedDialog(name, messages, source.where, title)


class Census(NamedTuple):
    """What there is to read: the number of dialogs, the SHA-256 of their ids and messages, and in which formats."""

    n_dialogs: int
    sha256: str
    n_unreadable: int
    formats: tuple[str, ...]


def digest(dialogs: Iterable[NamedDialog | Unreadable]) -> Census:
    """Count dialogs, and hash their ids and messages; raise if none can be read, or ids repeat."""
    hasher, ids = hashlib.sha256(), set()
    formats: dict[str, None] = {}
    unreadable: list[Unreadable] = []
    for dialog in dialogs:
        if dialog.id in ids:
            raise DialogError(
                f"two dialogs have the id {dialog.id!r}; expected each once. Rename one or leave ids out."
            )
        ids.add(dialog.id)
        if isinstance(dialog, Unreadable):
            unreadable.append(dialog)
        else:
            formats[dialog.format] = None
        content = dialog.error if isinstance(dialog, Unreadable) else dialog.messages
        hasher.update(json.dumps([dialog.id, content], sort_keys=True).encode())
    if not ids:
        raise DialogError('there is no dialog to audit; expected lines such as [{"role": "user", "content": "Hi."}].')
    if len(unreadable) == len(ids):
        raise DialogError(f"none of the {len(ids)} dialogs can be read. {unreadable[0].error}")
    return Census(len(ids), hasher.hexdigest(), len(unreadable), tuple(formats))
