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
    return [event for event in events if isinstance(event, Mapping) and "edit" in event] if events else []


def _matches(document: Any) -> bool:
    return isinstance(document, Mapping) and bool(
        (isinstance(document.get("events"), list) and _edits(document)) or document.get("target_messages")
    )


def _read(document: Mapping[str, Any]) -> tuple[Message, ...]:
    messages: list[Any] = []
    for number, event in enumerate(_edits(document), start=1):
        views = event.get("view")
        if VIEW in (views if isinstance(views, list) else [views]):
            messages = _edited(messages, event["edit"], f"event {number}")
    return read_dialog([plain_fields(message) for message in messages or document.get("target_messages") or []])


def _edited(messages: list[Any], edit: Mapping[str, Any], place: str) -> list[Any]:
    """Return the target's messages after an edit."""
    operation = edit.get("operation")
    if operation == "add":
        return [*messages, edit["message"]]
    if operation == "reset":
        return list(edit.get("new_messages") or [])
    if operation == "rollback" and isinstance(edit.get("count"), int):
        return messages[: max(0, len(messages) - edit["count"])]
    ids = [message.get("id") for message in messages]
    if operation == "rollback" and edit.get("to_id") in ids:
        return messages[: ids.index(edit["to_id"]) + 1]
    raise DialogError(
        f"{place} changes the messages by {operation!r}, which is not read here. Write the target's view with Petri "
        "itself: Transcript.load(FILE).collect_messages('target')."
    )


PETRI = Format("petri", "a Petri transcript", '{"metadata": ..., "events": [...]}', _matches, _read)
