"""OpenAI's Responses: what is read, and what is refused."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from helpers.chat_templates import ASSISTANT, SYSTEM, USER

from audit_lit.chat.formats import NamedDialog, read_dialogs
from audit_lit.errors import DialogError

SAID = {
    "type": "message",
    "id": "m",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "A", "annotations": []}],
}
CALL = {"type": "function_call", "call_id": "1", "name": "look", "arguments": '{"where": "up"}', "status": "completed"}
RESULT = {"type": "function_call_output", "call_id": "1", "output": "Blue."}


def read(document: Any) -> NamedDialog:
    (dialog,) = read_dialogs(BytesIO(json.dumps(document).encode()), "file")
    assert isinstance(dialog, NamedDialog)
    return dialog


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"model": "m", "instructions": "S", "input": "U", "temperature": 1, "text": {"format": {"type": "text"}}},
            (SYSTEM, USER),
        ),
        (
            {"instructions": "S", "input": "U", "output": [{"type": "reasoning", "summary": []}, SAID]},
            (SYSTEM, USER, ASSISTANT),
        ),
        ({"input": [{"role": "developer", "content": "S"}, USER, SAID]}, (SYSTEM, USER, ASSISTANT)),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "U"}]}], "store": True}, (USER,)),
    ],
)
def test_instructions_input_and_output_are_read(document: Any, expected: Any) -> None:
    dialog = read(document)
    assert dialog.messages == expected and dialog.format == "OpenAI Responses"


def test_calls_in_a_row_are_one_turn() -> None:
    again = {**CALL, "call_id": "2"}
    messages = read(
        {"input": [USER, CALL, again, RESULT, SAID], "tools": [{"type": "function", "name": "look"}]}
    ).messages
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["1", "2"] and messages[2]["tool_call_id"] == "1"
    assert messages[0]["tools"] == [{"type": "function", "function": {"name": "look"}}]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"previous_response_id": "r"}, r"the keys \['previous_response_id'\]"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, r"the keys \['text'\]"),
        ({"output": [{"type": "reasoning", "summary": [{"text": "Hm."}]}]}, "has role"),
        ({"tools": [{"type": "web_search"}]}, "no function with a name"),
    ],
)
def test_what_the_model_may_have_read_besides_is_refused(more: Any, error: str) -> None:
    with pytest.raises(DialogError, match=error):
        read({"instructions": "S", "input": "U", **more})


def test_instructions_beside_a_text_output_are_not_taken_for_a_system_prompt() -> None:
    with pytest.raises(DialogError, match=r"the keys \['instructions'\] beside input"):
        read({"instructions": "Add.", "input": "1, 2", "output": "3"})
