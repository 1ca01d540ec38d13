"""Messages as people have them: what is read of them, and what is refused with its place."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from helpers.chat_templates import ASSISTANT, SYSTEM, USER
from hypothesis import given
from hypothesis import strategies as st

from audit_lit.chat.messages import read_dialog
from audit_lit.errors import DialogError

CALL = {"type": "function", "id": "1", "function": {"name": "look", "arguments": {"where": "up"}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "Blue.", "tool_call_id": "1"}


@pytest.mark.parametrize(
    ("dialog", "error"),
    [
        ([], "the dialog is empty"),
        ([{"role": "system", "content": ""}], "the dialog is empty"),
        ("Hi", "the dialog is not a list of messages"),
        ({"role": "user", "content": "Hi"}, "the dialog is not a list of messages"),
        (["Hi"], "the dialog is not a list of messages"),
        ([USER, {"role": "robot", "content": "x"}], "message 1 has role 'robot'; expected one of system, user"),
        ([{"role": ["user"], "content": "x"}], "message 0 has role"),
        ([{"content": "x"}], "message 0 has role None"),
        ([{"role": "user", "content": " \n"}], r"message 0 \(user\) has no text"),
        ([{"role": "user", "content": None}], r"message 0 \(user\) has no text"),
        ([{"role": "user", "content": []}], r"message 0 \(user\) has no text"),
        ([{"role": "user", "content": 3}], r"message 0 \(user\) holds int"),
        ([USER, {**USER, "hide": True}], r"message 1 \(user\) has unknown keys \['hide'\]"),
        ([USER, {**ASSISTANT, "reasoning_content": "Hm."}], r"message 1 .* unknown keys \['reasoning_content'\]"),
        (
            [USER, {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
            r"message 1 \(user\) holds image",
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "x", "unseen": "y"}]}],
            r"message 0 \(user\) holds text",
        ),
        ([USER, {"role": "tool", "content": "x"}], "answers no tool call"),
        ([{**USER, "tool_calls": [CALL]}], r"message 0 \(user\) calls a tool"),
        ([USER, {"role": "assistant", "tool_calls": [{"function": {}}]}], "expected a tool with a name"),
        ([USER, {"role": "assistant", "tool_calls": "look"}], "expected a list of calls"),
        ([{**USER, "prefill": True}], r"message 0 \(user\) is marked as a prefill"),
        ([{**ASSISTANT, "prefill": True}, USER], r"message 0 \(assistant\) is marked as a prefill"),
    ],
)
def test_a_dialog_that_is_not_read_is_refused_with_the_place(dialog: Any, error: str) -> None:
    with pytest.raises(DialogError, match=error):
        inspect.unwrap(read_dialog)(dialog)  # as users call it, without type checks


@pytest.mark.parametrize("value", ["true", "false", "yes", "", 0, 1, 1.0, [], {}])
@pytest.mark.parametrize("mark", ["hidden", "prefill"])
def test_marks_are_true_false_or_absent(mark: str, value: Any) -> None:
    with pytest.raises(DialogError, match=rf"message 1 \(assistant\) has {mark}=.*expected true or false"):
        read_dialog([USER, {**ASSISTANT, mark: value}])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({**SYSTEM, "hidden": None}, SYSTEM),
        ({**SYSTEM, "hidden": False}, {**SYSTEM, "hidden": False}),
        ({"role": "developer", "content": "S"}, SYSTEM),
        ({**USER, "name": "ann", "weight": 1, "id": 3, "audio": None, "tool_calls": [], "images": []}, USER),
        (
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"x": 1}}, "b"]},
            ("user", "a\nb"),
        ),
        ({"role": "user", "content": [{"type": "input_text", "text": "a"}, {"text": "b"}]}, ("user", "a\nb")),
        ({"role": "assistant", "content": None, "refusal": "No."}, ("assistant", "No.")),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, ("assistant", "No.")),
        ({**ASSISTANT, "prefix": True}, {**ASSISTANT, "prefill": True}),
        ({**ASSISTANT, "partial": False}, ASSISTANT),
    ],
)
def test_extras_are_read_or_known_to_be_harmless(message: Any, expected: Any) -> None:
    plain = {"role": expected[0], "content": expected[1]} if isinstance(expected, tuple) else expected
    assert read_dialog([USER, message]) == (USER, plain)


@pytest.mark.parametrize("content", ["", " \n", None, [], [{"type": "text", "text": ""}]])
def test_an_empty_system_prompt_is_no_prompt(content: Any) -> None:
    assert read_dialog([{"role": "system", "content": content}, USER]) == (USER,)


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ({"content": None, "tool_calls": [CALL]}, RESULT),
        ({"tool_calls": [{**CALL, "function": {"name": "look", "arguments": '{"where": "up"}'}}]}, RESULT),
        ({"content": "", "tool_calls": [{"id": "1", "function": "look", "arguments": {"where": "up"}}]}, RESULT),
        (
            {"content": [{"type": "tool_use", "id": "1", "name": "look", "input": {"where": "up"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"text": "Blue."}]}]},
        ),
    ],
    ids=["openai", "openai as JSON text", "inspect", "anthropic"],
)
def test_tool_calls_of_every_origin_are_the_same(call: Any, result: Any) -> None:
    assert read_dialog([USER, {"role": "assistant", **call}, result]) == (USER, CALLING, RESULT)


def test_older_tool_calls_and_texts_beside_calls_are_read() -> None:
    calling = {"role": "assistant", "content": "See.", "function_call": {"name": "look", "arguments": "up"}}
    read = read_dialog([USER, calling, {"role": "function", "name": "look", "content": "Blue."}])
    assert read[1]["content"] == "See." and read[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": "up"}
    assert read[2] == {"role": "tool", "content": "Blue."}
    both = [{"type": "tool_result", "tool_use_id": "1", "content": "Blue."}, {"type": "text", "text": "And?"}]
    assert [message["role"] for message in read_dialog([USER, CALLING, {"role": "user", "content": both}])][2:] == [
        "tool",
        "user",
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name", "id"]), inner
        )
    ),
    max_leaves=8,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": json_values},
            optional={"tool_calls": json_values, "refusal": json_values, "hidden": json_values},
        )
    )
)
def test_whatever_a_message_holds_is_read_once_and_for_all_or_refused(dialog: list[Any]) -> None:
    try:
        plain = read_dialog(dialog)
    except DialogError:
        return
    assert read_dialog(plain) == plain and json.dumps(plain)


@pytest.mark.parametrize("role", ["Human", "ai", "GPT", "model", "bot", "CHATBOT", "User", "prompter", "Assistant"])
def test_other_names_of_roles_are_read(role: str) -> None:
    (plain,) = read_dialog([{"role": role, "content": "x"}])
    assert plain["role"] == ("user" if role.lower() in ("human", "user", "prompter") else "assistant")


LIBRARIES = {
    "langchain": [{"type": "human", "content": "U"}, {"type": "ai", "content": "A", "additional_kwargs": {}}],
    "langchain, stored": [
        {"type": "human", "data": {"content": "U", "example": False}},
        {"type": "ai", "data": ASSISTANT},
    ],
    "langchain, dumped": [
        {"lc": 1, "type": "constructor", "id": ["langchain"], "kwargs": {"content": "U", "type": "human"}},
        {"lc": 1, "type": "constructor", "id": ["langchain"], "kwargs": {"content": "A", "type": "ai"}},
    ],
    "ai sdk": [
        {"id": "1", "role": "user", "parts": [{"type": "text", "text": "U"}], "createdAt": "now"},
        {"role": "assistant", "content": "A", "parts": [{"type": "step-start"}, {"type": "text", "text": "A"}]},
    ],
    "llamaindex": [
        {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": "U"}]},
        {"role": "assistant", "blocks": [{"block_type": "text", "text": "A"}]},
    ],
    "bedrock": [{"role": "user", "content": [{"text": "U"}]}, {"role": "assistant", "content": [{"text": "A"}]}],
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_messages_of_libraries_are_read(library: str) -> None:
    assert read_dialog(LIBRARIES[library]) == (USER, ASSISTANT)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "ai", "content": "A", "additional_kwargs": {"reasoning_content": "Hm."}}, r"put it where.*<think>"),
        ({**ASSISTANT, "parts": [{"type": "text", "text": "Other."}]}, r"unknown keys \['parts'\]"),
        (
            {"role": "assistant", "parts": [{"type": "file", "url": "x"}]},
            r"holds file.*If the model did not read it: jq",
        ),
        ({"role": "agent", "content": "x"}, r"has role 'agent'.*\.role = \"user\""),
    ],
)
def test_what_libraries_hold_beside_the_text_is_not_dropped(message: Any, error: str) -> None:
    with pytest.raises(DialogError, match=error):
        read_dialog([USER, message])


def test_tool_calls_of_langchain_and_bedrock_are_read() -> None:
    langchain = {"type": "ai", "content": "", "tool_calls": [{"name": "look", "args": {"where": "up"}, "id": "1"}]}
    use = {"toolUse": {"toolUseId": "1", "name": "look", "input": {"where": "up"}}}
    answer = {"toolResult": {"toolUseId": "1", "content": [{"text": "Blue."}], "status": "success"}}
    bedrock = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [answer]}]
    for messages in ([langchain, RESULT], bedrock):
        assert read_dialog([USER, *messages]) == (USER, CALLING, RESULT)
