"""Tools in OpenAI's form, whatever form they come in: those that a model may call, and the calls that it makes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any

from audit_lit.chat.suggestions import without_anywhere
from audit_lit.errors import DialogError

Tool = dict[str, Any]
SCHEMAS = ("parameters", "input_schema", "inputSchema")
"""Keys of what a tool takes, by OpenAI, Anthropic and Bedrock."""
ARGUMENTS = ("arguments", "input", "args")
"""Keys of what a call passes, by OpenAI, Anthropic and LangChain."""
KEYS = ("tools", "functions", "toolConfig", "tool_config")
"""Keys beside the messages, or in one, that hold the tools that the model may call."""
DROP = f"To audit the dialog without tools: {without_anywhere(KEYS)}"
IDS = ("call_id", "id", "toolUseId")
"""Keys of what names a call, by OpenAI's Responses, OpenAI and Bedrock."""
LISTS = ("tools", "functionDeclarations", "function_declarations")
"""Keys under which Bedrock and Gemini list tools."""


def read_tools(tools: Any, place: str) -> list[Tool]:
    """Return the tools that a model may call: those of OpenAI as they are, others in the same form.

    Raises:
        DialogError: If one of them is no function with a name, such as one that a provider runs itself.
    """
    return list(_declared(tools, place))


def _declared(tools: Any, place: str) -> Iterator[Tool]:
    tools = _parsed(tools, list | dict)
    fields = tools if isinstance(tools, Mapping) else {}
    listed = tools if isinstance(tools, list | tuple) else next(filter(None, map(fields.get, LISTS)), None)
    if isinstance(listed, list | tuple):
        for tool in listed:
            yield from _declared(tool, place)
    elif _is_named(fields.get("function")):
        yield dict(fields)
    elif _is_named(fields.get("toolSpec")):
        yield {"type": "function", "function": _described(fields["toolSpec"])}
    elif _is_named(fields) and fields.get("type") in (None, "function", "custom"):
        yield {"type": "function", "function": _described(fields)}
    else:
        raise DialogError(
            f"{place} hold {str(tools)[:60]!r}, which is no function with a name; expected "
            f'{{"type": "function", "function": {{"name": ..., "parameters": ...}}}}. {DROP}'
        )


def _described(function: Mapping[str, Any]) -> Tool:
    """Return a function with what it takes under OpenAI's key."""
    rest = {key: value for key, value in function.items() if key not in (*SCHEMAS, "type", "cache_control")}
    schema = next((function[key] for key in SCHEMAS if key in function), None)
    if isinstance(schema, Mapping) and set(schema) == {"json"}:
        schema = schema["json"]
    return rest | ({} if schema is None else {"parameters": schema})


def read_calls(message: Mapping[str, Any], place: str) -> list[Tool]:
    """Return the tool calls of a message, in OpenAI's newer or older form, or in that of Inspect or LangChain."""
    calls = message.get("tool_calls")
    if calls and not isinstance(calls, list | tuple):
        raise DialogError(f"{place} has tool_calls={calls!r}; expected a list of calls.")
    older = message.get("function_call")
    return [read_call(call, place) for call in [*(calls or []), *([older] if older else [])]]


def read_call(call: Any, place: str) -> Tool:
    """Return a tool call in OpenAI's newer form, with its arguments as an object."""
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if isinstance(call, Mapping) and isinstance(function, str):  # as Inspect writes it
        function = {"name": function, "arguments": call.get("arguments")}
    if not _is_named(function):
        raise DialogError(f"{place} calls {call!r}; expected a tool with a name: {{'function': {{'name': ...}}}}.")
    arguments = next((function[key] for key in ARGUMENTS if key in function), None)
    named = [{"id": call[key]} for key in IDS if isinstance(call.get(key), str)]
    called = {"name": function["name"], "arguments": {} if arguments in (None, "", []) else _parsed(arguments)}
    return {"type": "function", **(named[0] if named else {}), "function": called}


def _is_named(function: Any) -> bool:
    return isinstance(function, Mapping) and isinstance(function.get("name"), str) and bool(function["name"])


def _parsed(value: Any, kinds: type | UnionType = dict) -> Any:
    """Return what JSON text holds, as OpenAI and others send it, if it is of a kind; anything else as it is."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except (json.JSONDecodeError, RecursionError):
        return value
    return parsed if isinstance(parsed, kinds) else value
