"""Exports of chats and logs of tools that are not read: the command of the error, pasted, makes them readable."""

from __future__ import annotations

import json
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from helpers.layouts import REPLY, SAID, A, S, U
from helpers.pasted import converted, said

from audit_lit.chat.formats import read_dialogs
from audit_lit.errors import DialogError


def thread_message(role: str, text: str, time: int) -> dict[str, Any]:
    content = [{"type": "text", "text": {"value": text, "annotations": []}}]
    return {"object": "thread.message", "thread_id": "t", "role": role, "created_at": time, "content": content}


def telegram(said: Any, **more: str) -> dict[str, Any]:
    return {"type": "message", "date": "d", "text": said, **more}


def versions(kind: dict[str, Any], role: str) -> dict[str, Any]:
    return {"versions": [{"role": role, **kind}], "currentlySelected": 0}


def text_block(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


THREAD = [thread_message("assistant", "Hello.", 2), thread_message("user", "Hi.", 1)]
EXPORTS: dict[str, tuple[Any, list[Any]]] = {
    "OpenAI Assistants": ({"object": "list", "data": THREAD, "has_more": False}, [U, A]),
    "Discord": (
        {
            "guild": {"id": "1"},
            "messages": [
                {"type": "Default", "content": "Hi.", "author": {"name": "al", "isBot": False}},
                {"type": "Default", "content": "Hello.", "author": {"name": "bo", "isBot": True}},
            ],
        },
        [U, A],
    ),
    "AutoGen": (
        [
            {"source": "user", "models_usage": None, "content": "Hi.", "type": "TextMessage"},
            {"source": "assistant", "models_usage": None, "content": "Hello.", "type": "TextMessage"},
        ],
        [U, A],
    ),
    "LM Studio": (
        {
            "name": "c",
            "systemPrompt": "Be brief.",
            "messages": [
                versions({"content": text_block("Hi.")}, "user"),
                versions({"steps": [{"type": "contentBlock", "content": text_block("Hello.")}]}, "assistant"),
            ],
        },
        SAID,
    ),
    "Gradio": ([["Hi.", "Hello."], ["Hi.", None]], [U, A, U]),
    "Gradio's history": ({"history": [["Hi.", "Hello."]]}, [U, A]),
    "Pydantic AI": (
        [
            {
                "kind": "request",
                "parts": [
                    {"part_kind": "system-prompt", "content": "Be brief."},
                    {"part_kind": "user-prompt", "content": "Hi."},
                ],
            },
            {"kind": "response", "parts": [{"part_kind": "text", "content": "Hello."}]},
        ],
        SAID,
    ),
    "Copilot": (
        {
            "responderUsername": "Copilot",
            "requests": [{"message": {"text": "Hi."}, "response": [{"value": "Hel"}, {"value": "lo."}]}],
        },
        [U, A],
    ),
    "a character": ({"spec": "chara_card_v2", "data": {"description": "Be brief.", "first_mes": "Hello."}}, [S, A]),
    "questions of MT-Bench": ({"question_id": 81, "category": "writing", "turns": ["Hi.", "And?"]}, [U]),
    "lm-eval": (
        {
            "doc_id": 0,
            "doc": {"question": "Hi?", "answer": "Gold."},
            "target": "Gold.",
            "arguments": [["Hi.", {"until": []}]],
            "resps": [["Hello."]],
            "filtered_resps": ["Hello."],
        },
        [U, A],
    ),
    "an arena": (
        {"id": 1, "prompt": ["Hi.", "Hi."], "response_a": ["Hello.", "Hello."], "response_b": ["No.", "No."]},
        [U, A, U, A],
    ),
}
BLANKS: dict[str, tuple[str, str, list[Any]]] = {
    "Telegram": (
        json.dumps(
            {
                "name": "a",
                "type": "personal_chat",
                "messages": [
                    {"type": "service", "actor": "al", "text": ""},
                    telegram("Hi.", **{"from": "al"}),
                    telegram(["Hel", {"type": "bold", "text": "lo."}], **{"from": "bo"}),
                ],
            }
        ),
        '"al"',
        [U, A],
    ),
    "a response": (json.dumps({"object": "chat.completion", "choices": [{"message": REPLY}]}), '"Hi."', [U, A]),
    "answers of MT-Bench": (json.dumps({"answer_id": "a", "choices": [{"turns": ["Hello."]}]}), '["Hi."]', [U, A]),
    "people": (
        json.dumps({"log": [{"author": "al", "text": "Hi."}, {"author": "bo", "text": "Hello."}]}),
        '"al"',
        [U, A],
    ),
    "WhatsApp": ("12/31/23, 9:15 PM - al: Hi.\n12/31/23, 9:16 PM - bo: Hello.\n", "'al'", [U, A]),
    "WhatsApp on a phone": ("[31.12.23, 21:15:07] al: Hi.\n[31.12.23, 21:15:08] bo: Hello.\n", "'al'", [U, A]),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_the_command_of_the_error_makes_an_export_readable(tmp_path: Path, name: str) -> None:
    document, expected = EXPORTS[name]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(document, indent=1))
    assert converted(path, tmp_path) == [expected]


@pytest.mark.parametrize("name", BLANKS)
def test_a_command_with_a_blank_runs_only_when_it_is_filled_in(tmp_path: Path, name: str) -> None:
    text, filling, expected = BLANKS[name]
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(subprocess.CalledProcessError):
        converted(path, tmp_path)
    assert converted(path, tmp_path, USER=filling, QUESTIONS=filling) == [expected]


def test_rows_of_silly_tavern_follow_a_line_that_is_none(tmp_path: Path) -> None:
    rows = [
        {"user_name": "a", "chat_metadata": {}},
        {"is_user": True, "mes": "Hi."},
        {"is_user": False, "mes": "Hello."},
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert converted(path, tmp_path) == [[U, A]]


def test_the_text_of_an_assistants_message_is_read() -> None:
    assert said_of(json.dumps({"messages": [{"role": "user", "content": THREAD[1]["content"]}]})) == [U]


@pytest.mark.parametrize(
    "prompt",
    [
        "### Instruction:\nHi.\n\n### Response:",
        "Below is a task.\n\n### Instruction:\nHi.",
        "Say [INST] Hi. [/INST]",
        "Say <|im_start|>user Hi.",
        "A chat. USER: Hi. ASSISTANT:",
    ],
)
def test_a_prompt_with_a_template_of_its_own_is_refused(prompt: str) -> None:
    with pytest.raises(DialogError, match="rendered by a chat template"):
        said_of(json.dumps({"prompt": prompt}))


@pytest.mark.parametrize(
    "row",
    [
        {"user": "alice", "reply": "Hello.", "text": "Hi."},
        {"user": "alice", "reply": "Hello."},
        {"user_message_2024": "Hi.", "assistant_message_2023": "Hello."},
        {"question": "Hi.", "answer_gpt4": "Hello.", "answer_claude": "No."},
    ],
)
def test_columns_that_are_not_sure_are_left_to_the_user(row: dict[str, str]) -> None:
    with pytest.raises(DialogError, match=r"with your own keys, such as .text, for \$SYSTEM, \$USER and \$REPLY"):
        said_of(json.dumps(row))


def said_of(text: str) -> list[tuple[str, str]]:
    (dialog,) = said(read_dialogs(BytesIO(text.encode()), "file"))
    return dialog
