"""OpenAI's Responses: ``instructions`` and ``input``, a text or a list of items, with the ``output`` beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit_lit.chat.formats.format import REQUEST, Format, is_plain, read_turns
from audit_lit.chat.messages import Message, is_empty

HARMLESS = REQUEST | {"object", "status", "include", "truncation", "background", "reasoning", "incomplete_details"}
CALLS, RESULTS = ("function_call",), ("function_call_output",)


def _matches(document: Any) -> bool:
    if not isinstance(document, Mapping) or is_empty(document.get("input")):
        return False
    is_asked = not is_empty(document.get("instructions")) or isinstance(document["input"], list)
    return is_asked and not isinstance(document.get("output"), str)


def _read(document: Mapping[str, Any]) -> tuple[Message, ...]:
    items = [*_items(document["input"]), *_items(document.get("output") or [])]
    format_only = {"text"} if _asks_for_no_schema(document.get("text")) else set()
    messages: list[Message] = []
    for item in items:
        if item.get("type") in CALLS and messages and messages[-1].get("tool_calls"):  # calls of one turn
            messages[-1]["tool_calls"].append(item)
        elif not _is_empty_reasoning(item):
            messages.append(_message(item))
    return read_turns(
        document, "input", messages, harmless={*HARMLESS, *format_only, "output"}, system=("instructions",)
    )


def _items(given: Any) -> list[Any]:
    listed = given if isinstance(given, list) else [{"role": "user", "content": given}]
    return [item if isinstance(item, Mapping) else {"role": "user", "content": item} for item in listed]


def _message(item: Mapping[str, Any]) -> Message:
    """Return an item as a message."""
    if item.get("type") in CALLS:
        return {"role": "assistant", "tool_calls": [item]}
    if item.get("type") in RESULTS:
        return {"role": "tool", "content": item.get("output"), "tool_call_id": item.get("call_id")}
    return dict(item)


def _is_empty_reasoning(item: Mapping[str, Any]) -> bool:
    """Return whether an item says only that the model thought, and not what."""
    return item.get("type") == "reasoning" and is_empty(item.get("summary")) and is_empty(item.get("content"))


def _asks_for_no_schema(text: Any) -> bool:
    """Return whether the settings of the output hold no words."""
    return isinstance(text, Mapping) and (is_empty(text.get("format")) or is_plain(text["format"]))


RESPONSES = Format("responses", "OpenAI Responses", '{"instructions": ..., "input": ...}', _matches, _read)
