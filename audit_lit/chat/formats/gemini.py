"""Gemini's requests: ``contents`` of ``parts``, with the system prompt beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit_lit.chat.formats.format import Format, read_turns
from audit_lit.chat.messages import Message, words
from audit_lit.errors import DialogError

SYSTEM = ("systemInstruction", "system_instruction")
HARMLESS = words("generationConfig generation_config safetySettings safety_settings toolConfig tool_config")


def _matches(document: Any) -> bool:
    return isinstance(document, Mapping) and isinstance(document.get("contents"), list)


def _read(document: Mapping[str, Any]) -> tuple[Message, ...]:
    turns = [_message(index, turn) for index, turn in enumerate(document["contents"])]
    system = {key: _parts(document[key]) for key in SYSTEM if document.get(key)}
    return read_turns({**document, **system}, "contents", turns, harmless=HARMLESS, system=SYSTEM)


def _message(index: int, turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise DialogError(f'message {index} is {turn!r}; expected {{"role": "user", "parts": [...]}}.')
    rest = {key: value for key, value in turn.items() if key != "parts"}
    return {"role": "user", **rest, "content": _parts(turn)}


def _parts(turn: Any) -> Any:
    return turn.get("parts") if isinstance(turn, Mapping) else turn


GEMINI = Format("gemini", "Gemini chat", '{"contents": [{"role": ..., "parts": [{"text": ...}]}]}', _matches, _read)
