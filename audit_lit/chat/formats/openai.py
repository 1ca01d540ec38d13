"""OpenAI's chat: requests, lines of a batch, fine-tuning files, and the messages alone; and Anthropic's requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit_lit.chat.formats.format import REQUEST, SYSTEM_KEYS, Format, read_turns
from audit_lit.chat.messages import ROLES, Message, is_empty, plain_role, read_dialog, words
from audit_lit.chat.origins import in_plain_keys

BATCH = words("custom_id method url")
BODIES = ("body", "params")
"""Keys of the request in a line of a batch, by OpenAI and Anthropic."""


def are_turns(messages: Any) -> bool:
    """Return whether a list may hold messages: unless it holds objects alone of which none has a role."""
    if not isinstance(messages, list | tuple) or not messages:
        return True
    if all(isinstance(each, Mapping) for each in messages):
        return any("role" in each or plain_role(in_plain_keys(each)["role"]) in ROLES for each in messages)
    return not all(is_empty(each) or isinstance(each, str | list) for each in messages)


def _messages(document: Any) -> bool:
    return isinstance(document, dict) and "messages" in document and are_turns(document["messages"])


def _is_anthropic(document: Any) -> bool:
    return _messages(document) and any(not is_empty(document.get(key)) for key in SYSTEM_KEYS)


def _is_openai(document: Any) -> bool:
    return _messages(document) or _body(document) is not None


def _body(document: Any) -> str | None:
    """Return the key of the request in a line of a batch."""
    return next((key for key in BODIES if isinstance(document, dict) and _messages(document.get(key))), None)


def _read(document: dict[str, Any]) -> tuple[Message, ...]:
    return read_turns(document, "messages", document["messages"], harmless=REQUEST)


def _read_openai(document: dict[str, Any]) -> tuple[Message, ...]:
    if "messages" in document:
        return _read(document)
    key = _body(document)
    assert key is not None
    body = document[key]
    return read_turns({**document, **body}, "messages", body["messages"], harmless={*REQUEST, *BATCH, key})


OPENAI = Format("openai", "OpenAI chat", '{"messages": [{"role": ..., "content": ...}]}', _is_openai, _read_openai)
ANTHROPIC = Format(
    "anthropic",
    "Anthropic chat",
    '{"system": ..., "messages": [{"role": ..., "content": ...}]}',
    _is_anthropic,
    _read,
)
MESSAGES = Format(
    "messages",
    "a list of messages",
    '[{"role": ..., "content": ...}]',
    lambda document: isinstance(document, list | tuple) and are_turns(document),
    read_dialog,
)
