"""The dialogs of an audit: one JSON document per line, read again whenever they are needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit.chat.dialog import Dialog
from audit_lit.chat.messages import read_dialog as check_dialog
from audit_lit.errors import DialogError
from audit_lit.files import parse_json


@dataclass(frozen=True)
class NamedDialog:
    """One dialog of an audit, named by its id in the file, or by the number of its line."""

    id: str
    messages: tuple[dict[str, Any], ...]
    where: str
    """Where it comes from, for error messages."""


@dataclass(frozen=True)
class DialogFile:
    """A JSONL file, read line by line: memory does not grow with it, and errors name the line.

    A line is ``{"messages": [...]}``, which may have an ``id``, or the list of messages itself. A message with
    ``"hidden": true`` runs in the target and is never shown to the decoder; system messages are hidden unless
    ``"hidden": false``.
    """

    path: Path

    def __iter__(self) -> Iterator[NamedDialog]:
        try:
            with self.path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield _parsed(line, number, f"{self.path}, line {number}")
        except (OSError, UnicodeDecodeError) as err:
            raise DialogError(f"{self.path} could not be read: {err}. Expected JSON lines in UTF-8.") from err


@dataclass(frozen=True)
class DialogList:
    """Dialogs in memory, numbered from 1."""

    dialogs: Sequence[Dialog]

    def __iter__(self) -> Iterator[NamedDialog]:
        for number, dialog in enumerate(self.dialogs, start=1):
            yield _checked(str(number), dialog, f"dialog {number}")


Dialogs = DialogFile | DialogList


def digest(dialogs: Iterable[NamedDialog]) -> tuple[int, str]:
    """Return the number of dialogs and the SHA-256 of their ids and messages; raise if there is none, or ids repeat."""
    hasher, ids = hashlib.sha256(), set()
    for dialog in dialogs:
        if dialog.id in ids:
            raise DialogError(
                f"two dialogs have the id {dialog.id!r}; expected each once. Rename one or leave ids out."
            )
        ids.add(dialog.id)
        hasher.update(json.dumps([dialog.id, dialog.messages], sort_keys=True).encode())
    if not ids:
        raise DialogError('there is no dialog to audit; expected lines such as [{"role": "user", "content": "Hi."}].')
    return len(ids), hasher.hexdigest()


def _parsed(line: str, number: int, where: str) -> NamedDialog:
    content = parse_json(line, where, "one dialog per line", DialogError)
    if not isinstance(content, dict):
        return _checked(str(number), content, where)
    if "messages" not in content:
        raise DialogError(f"{where} has no 'messages'; expected {{\"messages\": [...]}} or a list of messages.")
    return _checked(str(content.get("id", number)), content["messages"], where)


def _checked(dialog_id: str, messages: Any, where: str) -> NamedDialog:
    try:
        check_dialog(messages)
        (dialog_id + "".join(message["content"] for message in messages)).encode()
    except (DialogError, UnicodeEncodeError) as err:
        raise DialogError(f"{where}: {err}") from err
    return NamedDialog(dialog_id, tuple(dict(message) for message in messages), where)
