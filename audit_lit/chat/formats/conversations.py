"""Lists of turns under ShareGPT's keys ``from`` and ``value``, WildChat's ``role`` and ``content``, or others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from audit_lit.chat.formats.format import Format, read_turns
from audit_lit.chat.messages import Message, words
from audit_lit.errors import DialogError

KEYS = ("conversations", "conversation", "dialog", "dialogue", "turns", "chat", "thread")
"""Names that data sets give to the list of turns."""
ROLE_KEYS, TEXT_KEYS = ("from", "role", "speaker"), ("value", "content", "text")
CALLS = ("function_call", "tool_call")
"""Names of turns that hold tool calls."""
HARMLESS = words(
    "created header hashed_ip country toxic redacted language lang openai_id turn_identifier temperature token_counter "
    "top_p system_fingerprint state markdown loss"
)
"""What WildChat and ShareGPT note about a turn."""


def _key(document: Any, role: str) -> str | None:
    """Return the key of a document whose turns name their speaker by ``role``."""
    if not isinstance(document, Mapping):
        return None
    for key in KEYS:
        turns = document.get(key)
        if isinstance(turns, list) and turns and all(isinstance(turn, Mapping) and role in turn for turn in turns):
            return key
    return None


def _matches(role: str, document: Any) -> bool:
    return _key(document, role) is not None


def _read(role: str, document: Any) -> tuple[Message, ...]:
    key = _key(document, role)
    assert key is not None
    turns = [_message(index, turn) for index, turn in enumerate(document[key])]
    return read_turns(document, key, turns, harmless={"toxic", "redacted"})


def _message(index: int, turn: Mapping[str, Any]) -> Message:
    """Return a turn under the keys of a message."""
    role_key = next(key for key in ROLE_KEYS if key in turn)
    text_key = next((key for key in TEXT_KEYS if key in turn), "content")
    given = turn[role_key]
    rest = {key: value for key, value in turn.items() if key not in {role_key, text_key, *HARMLESS}}
    if isinstance(given, str) and given in CALLS:
        return {**rest, "role": "assistant", "tool_calls": _calls(index, turn.get(text_key))}
    return {**rest, "role": given, "content": turn.get(text_key)}


def _calls(index: int, text: Any) -> list[Any]:
    """Return the calls that a turn of their own holds as JSON text."""
    try:
        calls = json.loads(text)
    except (TypeError, json.JSONDecodeError, RecursionError) as err:
        raise DialogError(f"message {index} holds a tool call that is not JSON ({err}); expected an object.") from err
    return calls if isinstance(calls, list) else [calls]


def _format(name: str, title: str, key: str, role: str, text: str) -> Format:
    expected = f'{{"{key}": [{{"{role}": ..., "{text}": ...}}]}}'
    return Format(name, title, expected, partial(_matches, role), partial(_read, role))


SHAREGPT = _format("sharegpt", "ShareGPT", "conversations", "from", "value")
WILDCHAT = _format("wildchat", "WildChat", "conversation", "role", "content")
SPEAKERS = _format("speakers", "turns of speakers", "dialog", "speaker", "text")
