"""Messages as people have them, read into plain ones.

A plain message is ``{"role", "content"}``, with ``hidden`` and ``prefill`` where they are marked, and with
``tool_calls`` where the assistant made some. Whatever a message holds is read, known to be harmless, or refused with
its place: to leave out something unread would audit another dialog.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from audit_lit.errors import DialogError
from audit_lit.files.documents import check_text

Message = dict[str, Any]


def words(text: str) -> frozenset[str]:
    """Return the words of a text: names of keys, many on a line."""
    return frozenset(text.split())


ROLES = ("system", "user", "assistant", "tool")
SAME_ROLE = {"developer": "system", "function": "tool"}
"""Other names of roles: OpenAI's newer and older ones."""
OPEN = ("prefill", "prefix", "partial")
"""Keys that leave the last assistant turn open: our own, that of Mistral and DeepSeek, and Moonshot's."""
READ = {"role", "content", "hidden", "tool_calls", "function_call", "refusal", "tool_call_id", *OPEN}
HARMLESS = words(
    "name weight id type uuid source model metadata timestamp created created_at finish_reason stop_reason "
    "stop_sequence usage logprobs annotations function status train"
)
"""Keys that a chat template does not render, and that say nothing that the model read."""
TEXT_PARTS = ("text", "input_text", "output_text", None)
"""Types of parts that hold text; Bedrock's have none."""
READ_OF_PART = {"type", "text", "refusal", "id", "name", "input", "tool_use_id", "content"}
HARMLESS_OF_PART = words("cache_control cache_breakpoint citations annotations logprobs internal is_error")


def is_empty(value: Any) -> bool:
    """Return whether a value holds nothing, as the missing keys of a table do."""
    return value is None or (isinstance(value, str | list | dict | tuple) and not value)


def read_dialog(dialog: Any) -> tuple[Message, ...]:
    """Return the plain messages of a dialog; plain messages come back as they are.

    ``developer`` is ``system``; parts are joined by line breaks; tool calls and results may stand in OpenAI's keys, in
    Anthropic's blocks or in Inspect's form. Empty system prompts are left out.

    Raises:
        DialogError: If the dialog is not a list of messages, or one of them holds something that is not read.
    """
    if not isinstance(dialog, list | tuple) or not all(isinstance(message, Mapping) for message in dialog):
        raise DialogError('the dialog is not a list of messages; expected [{"role": "user", "content": "..."}].')
    messages: list[Message] = []
    for index, message in enumerate(dialog):
        messages.extend(_read(index, message))
    if not messages:
        raise DialogError(
            'the dialog is empty; expected at least one message such as {"role": "user", "content": "Hi"}.'
        )
    for index, plain in enumerate(messages):
        _check_order(index, plain, messages)
    return tuple(messages)


def read_system(prompt: Any, hidden: Any = None) -> tuple[Message, ...]:
    """Return the messages of a system prompt that stands outside a dialog: one, or none if it is empty."""
    marked = {} if hidden is None else {"hidden": hidden}
    return tuple(_read_as("the system prompt", "system", {"role": "system", "content": prompt, **marked}))


def _read(index: int, message: Mapping[str, Any]) -> Iterator[Message]:
    given = message.get("role")
    role = SAME_ROLE.get(given, given) if isinstance(given, str) else given
    if role not in ROLES:
        raise DialogError(f"message {index} has role {given!r}; expected one of {', '.join(ROLES)}.")
    return _read_as(f"message {index} ({given})", role, message)


def _read_as(place: str, role: str, message: Mapping[str, Any]) -> Iterator[Message]:
    """Yield a message, after the results of tools that it begins with."""
    if unknown := sorted(key for key in set(message) - READ - HARMLESS if not is_empty(message[key])):
        raise DialogError(
            f"{place} has unknown keys {unknown}; expected role, content and hidden. Put what the model read into "
            "content, and delete the rest."
        )
    blocks = _blocks(message, place)
    marks = _marks(message, place)
    results = [block for block in blocks if block["type"] == "tool_result"]
    calls = [*_calls(message, place), *(_call(block, place) for block in blocks if block["type"] == "tool_use")]
    text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
    check_text(text, place, DialogError)
    for block in results:
        yield from _read_as(f"{place}, tool_result", "tool", {"content": block.get("content"), **_ids(block), **marks})
    if text.strip() or calls:
        yield {"role": role, "content": text if text.strip() else "", **marks, **_tools(calls, _ids(message))}
    elif not results and role != "system":
        raise DialogError(f"{place} has no text; expected a non-empty string in 'content'.")


def _tools(calls: list[Message], ids: Message) -> Message:
    return ({"tool_calls": calls} if calls else {}) | ids


def _ids(message: Mapping[str, Any]) -> Message:
    """Return which call a result answers, as chat templates want to know it."""
    answered = message.get("tool_call_id") or message.get("tool_use_id")
    return {"tool_call_id": answered} if isinstance(answered, str) else {}


def _marks(message: Mapping[str, Any], place: str) -> Message:
    """Return ``hidden`` and ``prefill`` where they are given; null is as good as absent."""
    marks: Message = {}
    for key in ("hidden", *OPEN):
        value = message.get(key)
        if value is None:
            continue
        if not isinstance(value, bool):
            raise DialogError(f"{place} has {key}={value!r}; expected true or false, or no such key.")
        if key == "hidden" or value:
            marks["hidden" if key == "hidden" else "prefill"] = value
    return marks


def _blocks(message: Mapping[str, Any], place: str) -> list[Message]:
    """Return the content of a message as blocks: texts, and the tools that were used or answered."""
    content, refusal = message.get("content"), message.get("refusal")
    if not is_empty(refusal):  # what an assistant says in place of an answer
        content = [*(content if isinstance(content, list) else [content] if content else []), refusal]
    if is_empty(content):
        return []
    return [_block(part, place) for part in (content if isinstance(content, list | tuple) else [content])]


def _block(part: Any, place: str) -> Message:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if isinstance(part, Mapping) and all(is_empty(part[key]) for key in set(part) - READ_OF_PART - HARMLESS_OF_PART):
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind in (*TEXT_PARTS, "refusal") and isinstance(text, str):
            return {"type": "text", "text": text}
        if kind in ("tool_use", "tool_result"):
            return {**part, "type": kind}
    held = kind or f"a part with the keys {sorted(part)}"
    raise DialogError(
        f"{place} holds {held}, which is not read; expected text. Leave the dialog out, or end it before this message."
    )


def _calls(message: Mapping[str, Any], place: str) -> list[Message]:
    """Return the tool calls of a message, in OpenAI's newer or older form, or in Inspect's."""
    calls = message.get("tool_calls")
    if not is_empty(calls) and not isinstance(calls, list | tuple):
        raise DialogError(f"{place} has tool_calls={calls!r}; expected a list of calls.")
    older = message.get("function_call")
    return [_call(call, place) for call in [*(calls or []), *([older] if older else [])]]


def _call(call: Any, place: str) -> Message:
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if isinstance(call, Mapping) and isinstance(function, str):  # as Inspect writes it
        function = {"name": function, "arguments": call.get("arguments")}
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise DialogError(f"{place} calls {call!r}; expected a tool with a name: {{'function': {{'name': ...}}}}.")
    arguments = function.get("arguments", function.get("input"))
    named = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {"type": "function", **named, "function": {"name": function["name"], "arguments": _parsed(arguments)}}


def _parsed(arguments: Any) -> Any:
    """Return the arguments of a call as an object, which chat templates expect; OpenAI sends them as JSON text."""
    if is_empty(arguments):
        return {}
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (json.JSONDecodeError, RecursionError):
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _check_order(index: int, message: Message, messages: list[Message]) -> None:
    """Raise for a tool's result that nobody asked for, a call by anyone else, or an open turn that is not the last."""
    place = f"message {index} ({message['role']})"
    if message["role"] == "tool" and all(earlier["role"] != "assistant" for earlier in messages[:index]):
        raise DialogError(f"{place} answers no tool call; expected an assistant's message that makes one before it.")
    if "tool_calls" in message and message["role"] != "assistant":
        raise DialogError(f"{place} calls a tool; expected that of an assistant.")
    if "prefill" in message and (message["role"] != "assistant" or index + 1 < len(messages)):
        raise DialogError(f"{place} is marked as a prefill; expected that of the last message, if an assistant's.")
