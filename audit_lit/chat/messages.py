"""Messages as people have them, read into plain ones.

A plain message is ``{"role", "content"}``, with ``hidden`` and ``prefill`` where they are marked, and with
``tool_calls`` where the assistant made some. ``tools`` that the model may call stand in the first message that is no
system prompt. Whatever a message holds is read, known to be harmless, or refused with its place: to leave out something
unread would audit another dialog.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from audit_lit.chat.origins import in_plain_keys
from audit_lit.chat.suggestions import jq, without_anywhere
from audit_lit.chat.tools import read_call, read_calls, read_tools
from audit_lit.errors import DialogError
from audit_lit.files.documents import check_text

Message = dict[str, Any]


def words(text: str) -> frozenset[str]:
    """Return the words of a text: names of keys, many on a line."""
    return frozenset(text.split())


ROLES = ("system", "user", "assistant", "tool")
SAME_ROLE = {
    "developer": "system",
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("ai", "gpt", "chatgpt", "bot", "chatbot", "model", "bing", "bard", "claude"), "assistant"),
    **dict.fromkeys(("function", "tool_response", "function_response", "observation", "ipython"), "tool"),
}
"""Other names of roles; capitals do not count."""
OPEN = ("prefill", "prefix", "partial")
"""Keys that leave the last assistant turn open: our own, that of Mistral and DeepSeek, and Moonshot's."""
READ = {"role", "content", "hidden", "tools", "tool_calls", "function_call", "refusal", "tool_call_id", *OPEN}
HARMLESS = words(
    "name weight id type uuid source model metadata timestamp created created_at finish_reason stop_reason "
    "stop_sequence usage logprobs annotations function status train createdAt updatedAt response_metadata "
    "usage_metadata example invalid_tool_calls"
)
"""Keys that a chat template does not render, and that say nothing that the model read."""
TEXT_PARTS = ("text", "input_text", "output_text", None)
"""Types of parts that hold text; Bedrock's have none."""
READ_OF_PART = {"type", "text", "refusal", "id", "name", "input", "tool_use_id", "content"}
HARMLESS_OF_PART = words("cache_control cache_breakpoint citations annotations logprobs internal is_error state status")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Keys of what an assistant thought before it replied, by DeepSeek, OpenRouter and Ollama."""


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
    _check_time(dialog)
    messages: list[Message] = []
    for index, message in enumerate(dialog):
        messages.extend(_read(index, message, dialog))
    if not messages:
        raise DialogError(
            'the dialog is empty; expected at least one message such as {"role": "user", "content": "Hi"}.'
        )
    for index, plain in enumerate(messages):
        _check_order(index, plain, messages)
    declared = [message.get("tools") for message in map(in_plain_keys, dialog)]
    return with_tools(messages, read_tools([tools for tools in declared if not is_empty(tools)], "the tools"))


def with_tools(messages: Iterable[Message], tools: list[Message]) -> tuple[Message, ...]:
    """Return plain messages with tools that the model may call, where they outlast a change of the system prompt."""
    listed = list(messages)
    if tools:
        index = next((row for row, message in enumerate(listed) if message["role"] != "system"), 0)
        listed[index] = {**listed[index], "tools": tools}
    return tuple(listed)


def read_system(prompt: Any, hidden: Any = None) -> tuple[Message, ...]:
    """Return the messages of a system prompt that stands outside a dialog: one, or none if it is empty."""
    marked = {} if hidden is None else {"hidden": hidden}
    return tuple(_read_as("the system prompt", "system", {"role": "system", "content": prompt, **marked}))


def plain_role(given: Any) -> Any:
    """Return the role that a name stands for; a name that is not known, as it is."""
    name = given.lower() if isinstance(given, str) else None
    return name if name in ROLES else SAME_ROLE.get(name or "", given)


def _read(index: int, message: Mapping[str, Any], dialog: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    fields = in_plain_keys(message)
    given = fields.get("role")
    role = plain_role(given)
    if role not in ROLES:
        rename = ""
        if isinstance(given, str) and given == message.get("role"):
            program = f'(..|objects|select(.role == {json.dumps(given)})).role = "user"'
            rename = f" If it is the user's: {jq(program)}"
        raise DialogError(f"message {index} has role {given!r}; expected one of {', '.join(ROLES)}.{rename}")
    if unknown := _unknown(fields):
        others = sorted({key for each in dialog for key in _unknown(in_plain_keys(each))} - set(unknown))
        raise DialogError(
            f"message {index} ({given}) has unknown keys {unknown}; expected role, content and hidden. "
            + _way_out(fields, unknown, others)
        )
    return _read_as(f"message {index} ({given})", role, fields)


def _unknown(message: Mapping[str, Any]) -> list[str]:
    """Return the keys of a message that are not read and may hold content."""
    return sorted(key for key in set(message) - READ - HARMLESS if not is_empty(message[key]))


def _read_as(place: str, role: str, message: Mapping[str, Any]) -> Iterator[Message]:
    """Yield a message, after the results of tools that it begins with."""
    blocks = _blocks(message, place)
    marks = _marks(message, place)
    results = [block for block in blocks if block["type"] == "tool_result"]
    called = [block for block in blocks if block["type"] == "tool_use"]
    calls = [*read_calls(message, place), *(read_call(block, place) for block in called)]
    text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
    check_text(text, place, DialogError)
    for block in results:
        yield from _read_as(f"{place}, tool_result", "tool", {"content": block.get("content"), **_ids(block), **marks})
    if text.strip() or calls:
        called_tools = {"tool_calls": calls} if calls else {}
        yield {"role": role, "content": text if text.strip() else "", **marks, **called_tools, **_ids(message)}
    elif not results and role != "system":
        raise DialogError(f"{place} has no text; expected a non-empty string in 'content'.")


def _way_out(message: Mapping[str, Any], unknown: list[str], others: list[str]) -> str:
    """Say what to do with keys that are not read, and with those of other messages."""
    key = unknown[0]
    if len(unknown + others) == 1 and key in THOUGHTS and isinstance(message[key], str):
        thought = f'"<think>\\n" + .{key} + "\\n</think>\\n\\n" + (.content // "")'
        move = jq(f"(..|objects|select(.{key} | strings)) |= (.content = {thought} | del(.{key}))")
        return f"If the model read it, put it where chat templates look for thinking: {move}"
    nor = f", nor of {others} in other messages" if others else ""
    return f"Put what the model read into content. If it read none of it{nor}: {without_anywhere([*unknown, *others])}"


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
        if isinstance(text, Mapping) and not set(text) - {"value", "annotations"}:  # of OpenAI's Assistants
            text = text.get("value")
        if kind in (*TEXT_PARTS, "refusal") and isinstance(text, str):
            return {"type": "text", "text": text}
        if kind in ("tool_use", "tool_result"):
            return {**part, "type": kind}
    if isinstance(part, Mapping) and len(part) == 1 and isinstance(tool := next(iter(part.values())), Mapping):
        if {"toolUse", "functionCall"} & set(part):  # as Bedrock and Gemini write them
            return {**tool, "type": "tool_use"}
        if "toolResult" in part:
            return {"type": "tool_result", "tool_use_id": tool.get("toolUseId"), "content": tool.get("content")}
    held = kind or f"a part with the keys {sorted(part)}"
    drop = (
        jq(f"del(..|objects|select(.type == {json.dumps(kind)}))")
        if isinstance(part, Mapping) and isinstance(kind, str)
        else ""
    )
    raise DialogError(
        f"{place} holds {held}, which is not read; expected text. Leave the dialog out, or end it before this message."
        + (f" If the model did not read it: {drop}" if drop else "")
    )


def _check_time(dialog: Iterable[Mapping[str, Any]]) -> None:
    """Raise for messages whose times say that the newest stands first, as OpenAI's Assistants list them."""
    times: list[Any] = [message.get("created_at") for message in dialog]
    is_timed = all(isinstance(time, int | float) for time in times)
    if is_timed and times != sorted(times) and times == sorted(times, reverse=True):
        sort = jq('(..|arrays|select(all(.[]; objects|has("created_at")))) |= sort_by(.created_at)')
        raise DialogError(
            f"the newest message stands first, by 'created_at'; expected the oldest. To sort them: {sort}"
        )


def _check_order(index: int, message: Message, messages: list[Message]) -> None:
    """Raise for a tool's result that nobody asked for, a call by anyone else, or an open turn that is not the last."""
    place = f"message {index} ({message['role']})"
    if message["role"] == "tool" and all(earlier["role"] != "assistant" for earlier in messages[:index]):
        raise DialogError(f"{place} answers no tool call; expected an assistant's message that makes one before it.")
    if "tool_calls" in message and message["role"] != "assistant":
        raise DialogError(f"{place} calls a tool; expected that of an assistant.")
    if "prefill" in message and (message["role"] != "assistant" or index + 1 < len(messages)):
        raise DialogError(f"{place} is marked as a prefill; expected that of the last message, if an assistant's.")
