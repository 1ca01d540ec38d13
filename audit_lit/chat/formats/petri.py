"""Petri's transcripts: events that add, roll back and replace messages, of which the target's view is read.

Layout and the meaning of the edits: https://safety-research.github.io/petri/core-concepts/transcripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit_lit.chat.formats.format import Format
from audit_lit.chat.formats.inspect_log import plain_fields
from audit_lit.chat.messages import Message, read_dialog
from audit_lit.errors import DialogError

VIEW = "target"


def _edits(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    events = document.get("events")
    listed = events if isinstance(events, list) else []
    return [event for event in listed if isinstance(event, Mapping) and isinstance(event.get("edit"), Mapping)]


def _matches(document: Any) -> bool:
    return isinstance(document, Mapping) and bool(_edits(document) or document.get("target_messages"))


def _read(document: Mapping[str, Any]) -> tuple[Message, ...]:
    messages: list[Any] = []
    for number, event in enumerate(_edits(document), start=1):
        views = event.get("view")
        if VIEW in (views if isinstance(views, list) else [views]):
            messages = _edited(messages, event["edit"], f"event {number}")
    view = messages or document.get("target_messages")  # as older versions write it
    if not isinstance(view, list) or not all(isinstance(message, Mapping) for message in view):
        raise DialogError("the transcript holds no messages of the target; expected events whose view is 'target'.")
    return read_dialog(list(map(plain_fields, view)))


def _edited(messages: list[Any], edit: Mapping[str, Any], place: str) -> list[Any]:
    """Return the target's messages after an edit."""
    operation, count = edit.get("operation"), edit.get("count")
    if operation == "add":
        return [*messages, edit.get("message")]
    if operation == "reset":
        return list(edit.get("new_messages") or [])
    if operation == "rollback" and isinstance(count, int) and count >= 0:
        return messages[: max(0, len(messages) - count)]
    ids = [message.get("id") for message in messages if isinstance(message, Mapping)]
    if operation == "rollback" and edit.get("to_id") in ids:
        return messages[: ids.index(edit["to_id"]) + 1]
    raise DialogError(
        f"{place} changes the messages by {operation!r}, which is not read here; expected add, reset and rollback. "
        "Write the target's view with Petri itself: Transcript.load(FILE).collect_messages('target')."
    )


PETRI = Format("petri", "a Petri transcript", '{"metadata": ..., "events": [...]}', _matches, _read)
