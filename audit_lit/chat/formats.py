"""The dialogs of an audit: one JSON document per line, read again whenever they are needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit.chat.dialog import Dialog, check_dialog
from audit_lit.errors import DialogError


@dataclass(frozen=True)
class NamedDialog:
    """One dialog of an audit.

    Attributes:
        id: From the file, or the number of its line.
        messages: As ``Auditor.ask`` takes them.
        where: It came from, for a person.
    """

    id: str
    messages: tuple[dict[str, Any], ...]
    where: str


@dataclass(frozen=True)
class DialogFile:
    """A JSONL file, read line by line: memory does not grow with it.

    A line is ``{"messages": [...]}``, with an ``id`` if it likes, or the list of messages itself. A message with
    ``"hidden": true`` runs in the target and is never shown to the decoder; system messages are hidden unless
    ``"hidden": false``.
    """

    path: Path

    def __iter__(self) -> Iterator[NamedDialog]:
        """Yield the dialogs.

        Raises:
            DialogError: If the file cannot be read, or a line is malformed; it names the line.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield _case(line, number, f"{self.path}, line {number}")
        except (OSError, UnicodeDecodeError) as err:
            raise DialogError(f"{self.path} could not be read: {err}. Expected JSON lines in UTF-8.") from err


@dataclass(frozen=True)
class DialogList:
    """Dialogs in memory."""

    dialogs: Sequence[Dialog]

    def __iter__(self) -> Iterator[NamedDialog]:
        """Yield the dialogs, numbered from 1."""
        for number, dialog in enumerate(self.dialogs, start=1):
            yield _checked(str(number), dialog, f"dialog {number}")


Dialogs = DialogFile | DialogList


def digest(cases: Iterator[NamedDialog]) -> tuple[int, str]:
    """Return the number of dialogs and the SHA-256 of what they hold.

    Raises:
        DialogError: If there are none, or two have the same id.
    """
    found, ids = hashlib.sha256(), set()
    for case in cases:
        if case.id in ids:
            raise DialogError(f"two dialogs have the id {case.id!r}; expected each once. Rename one or leave ids out.")
        ids.add(case.id)
        found.update(json.dumps([case.id, case.messages], sort_keys=True).encode())
    if not ids:
        raise DialogError('there is no dialog to audit; expected lines such as [{"role": "user", "content": "Hi."}].')
    return len(ids), found.hexdigest()


def _case(line: str, number: int, where: str) -> NamedDialog:
    try:
        found: Any = json.loads(line)
    except json.JSONDecodeError as err:
        raise DialogError(f"{where} is not JSON ({err}); expected one dialog per line.") from err
    name: Any = number
    if isinstance(found, dict):
        if "messages" not in found:
            raise DialogError(f"{where} has no 'messages'; expected {{\"messages\": [...]}} or a list of messages.")
        name, found = found.get("id", number), found["messages"]
    return _checked(str(name), found, where)


def _checked(name: str, dialog: Any, where: str) -> NamedDialog:
    try:
        check_dialog(dialog)
        (name + "".join(message["content"] for message in dialog)).encode()
    except (DialogError, UnicodeEncodeError) as err:
        raise DialogError(f"{where}: {err}") from err
    return NamedDialog(name, tuple(dict(message) for message in dialog), where)
