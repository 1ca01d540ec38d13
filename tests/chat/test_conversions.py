"""Layouts that are not read: the command of the error, pasted, makes them readable."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_templates import tokenizer_of
from helpers.pasted import converted

from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError

U, A, S = ("user", "Hi."), ("assistant", "Hello."), ("system", "Be brief.")
SAID = [S, U, A]
USER, REPLY = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}
SYSTEM = {"role": "system", "content": "Be brief."}
HH = "\n\nHuman: Hi.\n\nAssistant: Hello."


CHATML = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in SAID)


def lc(kind: str, content: str) -> dict[str, Any]:
    """Return a message as LangChain dumps it."""
    return {"lc": 1, "type": "constructor", "id": ["langchain"], "kwargs": {"type": kind, "content": content}}


def chatgpt() -> dict[str, Any]:
    """An export of ChatGPT: a tree, of which the current branch counts."""

    def node(parent: str | None, role: str, content: Any) -> dict[str, Any]:
        return {"parent": parent, "children": [], "message": {"author": {"role": role}, "content": content}}

    text = {"content_type": "text"}
    instructions = {"content_type": "user_editable_context", "user_instructions": "Be brief."}
    return {
        "title": "Greeting",
        "create_time": 1.5,
        "conversation_id": "c",
        "current_node": "d",
        "mapping": {
            "root": {"parent": None, "children": ["s"], "message": None},
            "s": node("root", "system", {**text, "parts": [""]}),
            "t": node("s", "system", instructions),
            "u": node("t", "user", {**text, "parts": ["Hi."]}),
            "left": node("u", "assistant", {**text, "parts": ["Left."]}),
            "d": node("u", "assistant", {**text, "parts": ["Hello."]}),
        },
    }


def code_line(role: str, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": role, "content": content, "id": "m", "type": "message"}
    return {"type": role, "sessionId": "s", "uuid": "u", "message": message, "cwd": "/", **more}


LAYOUTS: dict[str, tuple[list[Any], list[Any]]] = {
    "a message per line": ([SYSTEM, USER, REPLY], SAID),
    "preference, texts": (
        [{"id": "x", "system": "Be brief.", "question": "Hi.", "chosen": "Hello.", "rejected": "No."}],
        SAID,
    ),
    "preference, instruction and input": (
        [{"instruction": "Hi.", "input": "There.", "chosen": "Hello.", "rejected": "No.", "margin": 2}],
        [("user", "Hi.\nThere."), A],
    ),
    "preference, lists": ([{"prompt": [SYSTEM, USER], "chosen": [REPLY], "rejected": [REPLY]}], SAID),
    "preference, a text and lists": ([{"prompt": "Hi.", "chosen": [REPLY], "rejected": [REPLY]}], [U, A]),
    "preference, whole dialogs": (
        [
            {
                "prompt": "Hi.",
                "prompt_id": "p",
                "chosen": [USER, REPLY],
                "rejected": [USER],
                "messages": [USER, REPLY],
                "score_chosen": 8,
            }
        ],
        [U, A],
    ),
    "preference, ShareGPT": (
        [
            {
                "conversations": [{"from": "human", "value": "Hi."}],
                "chosen": {"from": "gpt", "value": "Hello."},
                "rejected": {"from": "gpt", "value": "No."},
            }
        ],
        [U, A],
    ),
    "HH-RLHF": (
        [{"chosen": f"{HH}\n\nAnd more.\n\nHuman: So?", "rejected": HH}],
        [U, ("assistant", "Hello.\n\nAnd more."), ("user", "So?")],
    ),
    "arena battle": (
        [
            {
                "question_id": "q",
                "model_a": "a",
                "conversation_a": [USER, REPLY],
                "conversation_b": [USER],
                "winner": "model_a",
            }
        ],
        [U, A],
    ),
    "UltraChat": ([{"id": "0", "data": ["Hi.", "Hello."]}], [U, A]),
    "OpenAssistant tree": (
        [
            {
                "message_tree_id": "t",
                "prompt": {
                    "text": "Hi.",
                    "role": "prompter",
                    "replies": [
                        {"text": "Hello.", "role": "assistant", "replies": []},
                        {"text": "No.", "role": "assistant"},
                    ],
                },
            }
        ],
        [U, A],
    ),
    "OpenAssistant rows": (
        [
            {"message_id": "1", "parent_id": None, "role": "prompter", "text": "Hi.", "lang": "en"},
            {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "Hello.", "lang": "en"},
        ],
        [U, A],
    ),
    "FastChat log": (
        [
            {
                "tstamp": 1.0,
                "type": "chat",
                "state": {
                    "system_message": "Be brief.",
                    "messages": [["USER", "Hi."], ["ASSISTANT", "Hello."], ["USER", None]],
                },
            }
        ],
        SAID,
    ),
    "Cohere": (
        [
            {
                "model": "c",
                "preamble": "Be brief.",
                "message": "Hi.",
                "chat_history": [{"role": "USER", "message": "Ho."}, {"role": "CHATBOT", "message": "Ha."}],
            }
        ],
        [S, ("user", "Ho."), ("assistant", "Ha."), U],
    ),
    "ChatGPT's export": ([[chatgpt()]], SAID),
    "Claude's export": (
        [
            [
                {
                    "uuid": "u",
                    "name": "n",
                    "chat_messages": [
                        {"uuid": "1", "text": "Hi.", "sender": "human", "attachments": []},
                        {"uuid": "2", "text": "Hello.", "sender": "assistant", "attachments": []},
                    ],
                }
            ]
        ],
        [U, A],
    ),
    "Claude Code": (
        [
            code_line("user", "Hi."),
            code_line("assistant", [{"type": "thinking", "thinking": "Hm."}]),
            code_line("assistant", [{"type": "text", "text": "Hello."}]),
            code_line("user", "Not this.", isSidechain=True),
        ],
        [U, A],
    ),
    "request and response": (
        [
            {
                "request": {"model": "m", "temperature": 1, "messages": [SYSTEM, USER]},
                "response": {"choices": [{"message": REPLY}]},
            }
        ],
        SAID,
    ),
    "LangSmith": ([{"inputs": {"messages": [SYSTEM, USER]}, "outputs": {"message": REPLY}}], SAID),
    "Ollama": ([{"request": {"messages": [SYSTEM, USER]}, "response": {"message": REPLY, "done": True}}], SAID),
    "LangSmith run": (
        [
            {
                "inputs": {"messages": [[lc("system", "Be brief."), lc("human", "Hi.")]]},
                "outputs": {"generations": [[{"message": lc("ai", "Hello.")}]]},
            }
        ],
        SAID,
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
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("as_array", [False, True], ids=["lines", "array"])
def test_the_command_of_the_error_makes_a_layout_readable(tmp_path: Path, name: str, as_array: bool) -> None:
    documents, expected = LAYOUTS[name]
    if as_array and (len(documents) > 1 or isinstance(documents[0], list)):
        pytest.skip("its lines belong together, or are arrays already")
    path = tmp_path / "chat logs.json"
    path.write_text(json.dumps(documents, indent=1) if as_array else "\n".join(map(json.dumps, documents)))
    assert converted(path, tmp_path) == [expected]


def test_names_that_are_not_sure_are_left_to_the_user(tmp_path: Path) -> None:
    path = tmp_path / "dialogs.jsonl"  # the file that is converted is not written over
    path.write_text(json.dumps({"rules": "Be brief.", "asks": "Hi.", "says": "Hello."}))
    assert converted(path, tmp_path, SYSTEM="rules", USER="asks", REPLY="says") == [SAID]
    path.write_text(json.dumps({"asks": "Hi.", "chosen": "Hello.", "rejected": "No."}))
    assert converted(path, tmp_path, USER="asks") == [[U, A]]


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
