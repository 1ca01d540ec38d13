"""Layouts of one's own that are not read: the command of the error, pasted, makes them readable."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_templates import tokenizer_of
from helpers.layouts import REPLY, SAID, SYSTEM, USER, A, S, U
from helpers.pasted import converted, require_converted

from audit_lit.chat.formats import DialogFile, DialogList, Unreadable
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError

HH = "\n\nHuman: Hi.\n\nAssistant: Hello."

CHATML = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in SAID)


LAYOUTS: dict[str, tuple[list[Any], list[Any]]] = {
    "a message per line": ([SYSTEM, USER, REPLY], SAID),
    "two runs in one file": (
        [{"runs": [{"id": "a", "log": [USER | {"cost": 1}, REPLY]}, {"id": "b", "log": [USER]}]}],
        [[U, A], [U]],
    ),
    "deep messages": ([{"data": {"the session": {"turns": [USER | {"x y": 1}, REPLY]}}, "cost": 1}], [U, A]),
    "deep dialogs with a system prompt": ([{"x": {"y": {"system": "Be brief.", "messages": [USER, REPLY]}}}], SAID),
    "deep speakers beside a system prompt": (
        [{"x": {"y": {"system_prompt": "Be brief.", "log": [{"from": "human", "value": "Hi."}]}}}],
        [S, U],
    ),
    "deep keys with spaces": (
        [{"a b": [{"c d": {"e f": [USER | {"x": 1}], "system": "Be brief."}}, {"c d": {"e f": [USER]}}]}],
        [[S, U], [U]],
    ),
    "a key with a space in a list": ([{"x": [{"my log": [USER | {"x": 1}, REPLY], "system": "Be brief."}]}], SAID),
    "a key with spaces in a key": ([{"x": {"my log": [USER | {"x": 1}, REPLY], "system": "Be brief."}}], SAID),
    "a chat with a system prompt": ([{"chat": {"system": "Be brief.", "messages": [USER, REPLY]}, "x": 1}], SAID),
    "lists in a list": ([{"results": [[USER, REPLY], [USER]]}], [[U, A], [U]]),
    "rows of dialogs": (
        [{"chat_id": number, **message} for number, message in ((2, USER), (1, USER), (2, REPLY))],
        [[U], [U, A]],
    ),
    "rows of speakers": ([{"sender": "human", "text": "Hi."}, {"sender": "bot", "text": "Hello."}], [U, A]),
    "columns": ([{"id": "a", "system": "Be brief.", "user": "Hi.", "assistant": "Hello.", "notes": "x"}], SAID),
    "columns of prompts": ([{"SystemPrompt": "Be brief.", "user_prompt": "Hi.", "Model Response": "Hello."}], SAID),
    "a prompt and what the assistant says": ([{"prompt": "Hi.", "assistant": "Hello.", "model": "m"}], [U, A]),
    "numbered columns": (
        [{"user_1": "Hi.", "user_2": "So?", "assistant_1": "Hello.", "assistant_2": ""}],
        [U, A, ("user", "So?")],
    ),
    "ChatML in a text": ([{"text": CHATML}], SAID),
    "ChatML in a prompt": ([{"prompt": CHATML.rpartition("<|im_start|>")[0], "completion": "Hello."}], SAID),
    "paragraphs in ChatML": (
        [{"text": CHATML.replace("Hi.", "Hi.\n\nThere <|im_end|>?\n")}],
        [S, ("user", "Hi.\n\nThere <|im_end|>?\n"), A],
    ),
    "an open prompt": ([{"prompt": f"{CHATML}<|im_start|>user\nAnd"}], [*SAID, ("user", "And")]),
    "Llama 3 in a text": (
        [
            {
                "text": "<|begin_of_text|>"
                + "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in SAID)
            }
        ],
        SAID,
    ),
    "Gemma in a text": (
        [
            {
                "text": "<bos>"
                + "".join(f"<start_of_turn>{role}\n{text}<end_of_turn>\n" for role, text in (U, ("model", "Hello.")))
            }
        ],
        [U, A],
    ),
    "Zephyr in a text": ([{"text": "".join(f"<|{role}|>\n{text}</s>\n" for role, text in SAID)}], SAID),
    "HH-RLHF in a text": ([{"transcript": HH}], [U, A]),
    "Guanaco": ([{"text": "### Human: Hi.### Assistant: Hello."}], [U, A]),
    "a dialog under a key": ([{"payload": {"system": "Be brief.", "messages": [USER, REPLY]}, "cost": 2}], SAID),
    "other names": (
        [
            {
                "log": [
                    {"who": "system", "says": "Be brief."},
                    {"who": "Human", "says": "Hi."},
                    {"who": "bot", "says": "Hello."},
                ]
            }
        ],
        SAID,
    ),
    "keys with spaces": (
        [{"the log": [{"a 'who'": "user", "it says": "Hi."}, {"a 'who'": "bot", "it says": "Hello."}]}],
        [U, A],
    ),
    "a key that is not read": ([{"messages": [SYSTEM, USER, REPLY], "custom_instruction": True, "a-b": "x"}], SAID),
    "keys of a message": ([{"messages": [SYSTEM, {**USER, "mood": "good", "a b": 1}, REPLY]}], SAID),
    "reasoning": (
        [{"messages": [SYSTEM, USER, {**REPLY, "reasoning_content": "Hm."}]}],
        [S, U, ("assistant", "<think>\nHm.\n</think>\n\nHello.")],
    ),
    "an image": (
        [
            {
                "messages": [
                    SYSTEM,
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "Hi."}],
                    },
                    REPLY,
                ]
            }
        ],
        SAID,
    ),
    "another role": ([{"messages": [SYSTEM, {"role": "customer", "content": "Hi."}, REPLY]}], SAID),
    "a system prompt further out": (
        [{"system_prompt": "Be brief.", "runs": [{"msgs": [{"speaker": "user", "text": "Hi."}]}]}],
        [S, U],
    ),
    "a system prompt beside an object": ([{"system": "Be brief.", "data": {"log": [USER | {"x": 1}]}}], [S, U]),
    "a system prompt beside a dialog": ([{"system": "Be brief.", "payload": {"messages": [USER, REPLY]}}], SAID),
    "a system prompt of two dialogs": (
        [{"system": "Be brief.", "runs": [{"messages": [USER, REPLY]}, {"messages": [USER]}]}],
        [SAID, [S, U]],
    ),
    "keys of later lines": (
        [{"user": "Hi.", "assistant": "Hello."}, {"system": "Be brief.", "user": "Hi.", "assistant": "Hello."}],
        [[U, A], SAID],
    ),
    "deep keys of later lines": (
        [{"x": {"log": [USER | {"y": 1}]}}, {"x": {"system": "Be brief.", "log": [USER | {"y": 1}]}}],
        [[U], [S, U]],
    ),
    "preference, keys of later lines": (
        [{"prompt": "Hi.", "chosen": "Hello.", "rejected": "No."} | more for more in ({}, {"system": "Be brief."})],
        [[U, A], SAID],
    ),
    "ChatML beside a system prompt": (
        [{"system": "Be brief.", "prompt": "<|im_start|>user\nHi.<|im_end|>\n", "completion": "Hello."}],
        SAID,
    ),
    "inputs and outputs": ([{"conversation": [{"input": "Hi.", "output": "Hello."}]}], [U, A]),
    "who is the user": (
        [{"log": [{"isUser": True, "mes": "Hi."}, {"isUser": False, "mes": "Hello."}]}],
        [U, A],
    ),
    "the newest message first": ([{"messages": [REPLY | {"created_at": 2}, USER | {"created_at": 1}]}], [U, A]),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("as_array", [False, True], ids=["lines", "array"])
def test_the_command_of_the_error_makes_a_layout_readable(tmp_path: Path, name: str, as_array: bool) -> None:
    documents, expected = LAYOUTS[name]
    require_converted(documents, expected, tmp_path, as_array=as_array)


def test_names_that_are_not_sure_are_left_to_the_user(tmp_path: Path) -> None:
    path = tmp_path / "dialogs.jsonl"  # the file that is converted is not written over
    path.write_text(json.dumps({"rules": "Be brief.", "asks": "Hi.", "says": "Hello."}))
    assert converted(path, tmp_path, SYSTEM=".rules", USER=".asks", REPLY=".says") == [SAID]
    for unsure in ({"user": "ann"}, {"prompt": "Hi.", "answer": "A", "response": "B"}, {"user": "ann", "model": "m"}):
        path.write_text(json.dumps(unsure | {"rules": "Be brief.", "asks": "Hi.", "says": "Hello."}))
        assert converted(path, tmp_path, SYSTEM=".rules", USER=".asks", REPLY=".says") == [SAID]
    path.write_text(json.dumps({"asks": "Hi.", "chosen": "Hello.", "rejected": "No."}))
    assert converted(path, tmp_path, USER=".asks") == [[U, A]]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"x": {"log": [USER, REPLY]}}, r"\(its messages stand in \.x\.log\) jq"),
        ({"x": {"a": [USER], "b": [USER]}}, r"\(messages stand in \.x\.a and \.x\.b; this reads those of \.x\.a; with"),
        ({"user": "Hi.", "assistant": "Hello.", "mood": "good"}, r"\(without \.mood\) jq"),
        ([{"type": "message", "user": "U1", "text": "Hi.", "ts": "1.0"}], "what bots say is taken for the assistant's"),
        ({"messages": [USER | {"a": 1}, REPLY | {"b": 1}]}, r"nor of \['b'\] in other messages: jq"),
    ],
)
def test_what_a_command_takes_and_leaves_out_is_said(tmp_path: Path, document: Any, said: str) -> None:
    path = tmp_path / "dialogs.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DialogError, match=said):
        list(DialogFile(path))


def test_dialogs_in_memory_have_no_file() -> None:
    for document in ([USER | {"mood": "good"}], [USER | {"content": [{"type": "image", "image": "x"}]}]):
        with pytest.raises(DialogError, match=r"jq -c '.*' \(a filter of dialogs as JSON\)$") as caught:
            list(DialogList([document]))
        assert "FILE" not in str(caught.value)
        (unread, _) = DialogList([document, [USER]], skip_unreadable=True)
        assert isinstance(unread, Unreadable) and unread.error == str(caught.value)
    with pytest.raises(DialogError, match=r"jq -c '.*' \(a filter of dialogs as JSON\)$"):
        render([USER | {"mood": "good"}], tokenizer_of("chatml"))


@pytest.mark.parametrize("content", [None, "", "I look."])
def test_what_a_template_does_not_render_is_written_as_text_or_left_out(tmp_path: Path, content: str | None) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    calling = {"role": "assistant", "content": content, "tool_calls": [call]}
    path = tmp_path / "my dialogs"
    tokenizer = tokenizer_of("chatml")

    def rendered(dialogs: Iterable[Any]) -> None:
        for dialog in dialogs:
            try:
                render(dialog.messages, tokenizer)
            except DialogError as err:
                raise DialogError(dialog.unread(err)) from err

    path.write_text(json.dumps({"messages": [USER, calling, {"role": "tool", "content": "Blue."}, REPLY]}))
    (said,) = converted(path, tmp_path, rendered)
    assert said[1] == ("assistant", "\n".join(filter(None, (content, '{"name":"look","arguments":"{}"}'))))
    assert [said[0], *said[2:]] == [U, ("tool", "Blue."), A]
    path.write_text(json.dumps({"messages": [USER, REPLY], "tools": [call]}))
    assert converted(path, tmp_path, rendered) == [[U, A]]
    path.write_text(json.dumps({"messages": [USER, REPLY], "tools": [{"type": "web_search"}]}))
    assert converted(path, tmp_path) == [[U, A]]
