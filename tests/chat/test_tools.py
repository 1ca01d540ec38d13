"""Tools of every origin in OpenAI's form, and where they stand in a dialog."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from helpers.chat_templates import ASSISTANT, SYSTEM, USER

from audit_lit.chat.formats import NamedDialog, read_dialogs
from audit_lit.chat.messages import read_dialog
from audit_lit.chat.tools import read_tools
from audit_lit.errors import DialogError

SCHEMA = {"type": "object", "properties": {"where": {"type": "string"}}}
FUNCTION = {"name": "look", "description": "See.", "parameters": SCHEMA}
LOOK = {"type": "function", "function": FUNCTION}
ORIGINS = {
    "openai": [LOOK],
    "openai, older": [FUNCTION],
    "responses": [{"type": "function", **FUNCTION}],
    "json text": json.dumps([FUNCTION]),
    "anthropic": [{"name": "look", "description": "See.", "input_schema": SCHEMA, "cache_control": {"type": "x"}}],
    "gemini": [{"functionDeclarations": [FUNCTION]}],
    "bedrock": {"tools": [{"toolSpec": {"name": "look", "description": "See.", "inputSchema": {"json": SCHEMA}}}]},
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_tools_of_every_origin_are_the_same(origin: str) -> None:
    assert read_tools(ORIGINS[origin], "the tools") == [LOOK] == read_tools([LOOK], "the tools")


@pytest.mark.parametrize("tools", [[3], ["look"], "look", [{"type": "web_search"}], [{"function": {}}], {"name": ""}])
def test_what_is_no_function_with_a_name_is_refused(tools: Any) -> None:
    with pytest.raises(DialogError, match=r"the tools hold .* no function with a name; expected"):
        read_tools(tools, "the tools")


@pytest.mark.parametrize("key", ["tools", "functions", "toolConfig"])
def test_tools_outlast_a_change_of_the_system_prompt(key: str) -> None:
    document = {"messages": [SYSTEM, USER, ASSISTANT], key: [LOOK], "tool_choice": "auto", "parallel_tool_calls": True}
    (dialog,) = read_dialogs(BytesIO(json.dumps(document).encode()), "file")
    assert isinstance(dialog, NamedDialog) and dialog.messages == (SYSTEM, {**USER, "tools": [LOOK]}, ASSISTANT)
    assert read_dialog(dialog.messages) == dialog.messages
    assert read_dialog([{"role": "system", "content": "", "tools": json.dumps([LOOK])}, USER])[0]["tools"] == [LOOK]
