"""Public layouts that are not read: the command of the error, pasted, makes them readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.layouts import REPLY, SAID, SYSTEM, USER, A, S, U
from helpers.pasted import require_converted

HH = "\n\nHuman: Hi.\n\nAssistant: Hello."


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


def slack(text: str, **more: str) -> dict[str, Any]:
    return {"type": "message", "user": "U1", "text": text, "ts": "1.0", **more}


WEBUI = {
    "1": {"id": "1", "parentId": None, "childrenIds": ["2"], "models": ["m"], **USER},
    "2": {"id": "2", "parentId": "1", "childrenIds": [], "modelIdx": 0, "done": True, **REPLY},
}


def open_webui(**more: Any) -> dict[str, Any]:
    """An export of Open WebUI: messages in a tree, and those of its current branch in a list as well, or not."""
    left = {"id": "3", "parentId": "1", "role": "assistant", "content": "Left."}
    history = {"messages": {**WEBUI, "3": left}, "currentId": "2"}
    return {"id": "c", "title": "T", "chat": {"params": {"system": "Be brief."}, "history": history, **more}}


def parts(message: dict[str, str]) -> dict[str, Any]:
    return {"role": message["role"], "parts": [{"type": "text", "content": message["content"]}]}


SPAN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system_instructions": json.dumps(parts(SYSTEM)["parts"]),
    "gen_ai.input.messages": json.dumps([parts(USER)]),
    "gen_ai.output.messages": json.dumps([parts(REPLY) | {"finish_reason": "stop"}]),
}


def numbered(place: str, *messages: dict[str, str]) -> dict[str, str]:
    """Attributes of a span that hold messages, one per key of each."""
    rows = enumerate(messages)
    return {f"{place.format(index)}.{key}": value for index, message in rows for key, value in message.items()}


LAYOUTS: dict[str, tuple[list[Any], list[Any]]] = {
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
    "Slack's export": ([slack("Hi."), slack("Hello.", bot_id="B1"), slack("", subtype="channel_join")], [U, A]),
    "Slack's API": ([{"ok": True, "messages": [slack("Hi."), slack("Hello.", bot_id="B1")]}], [U, A]),
    "Open WebUI": ([open_webui(messages=list(WEBUI.values()))], SAID),
    "Open WebUI, a tree": ([open_webui()], SAID),
    "a span of OpenTelemetry": ([{"name": "chat", "attributes": SPAN}], SAID),
    "OTLP": (
        [
            {
                "resourceSpans": [
                    {
                        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
                        "scopeSpans": [
                            {
                                "spans": [
                                    {"attributes": [{"key": "http.route", "value": {"stringValue": "/"}}]},
                                    {"attributes": [{"key": k, "value": {"stringValue": v}} for k, v in SPAN.items()]},
                                ]
                            }
                        ],
                    }
                ]
            }
        ],
        SAID,
    ),
    "OpenLLMetry": (
        [
            {
                "attributes": {
                    "gen_ai.system": "openai",
                    **numbered("gen_ai.prompt.{}", SYSTEM, USER),
                    **numbered("gen_ai.completion.{}", REPLY),
                }
            }
        ],
        SAID,
    ),
    "OpenInference": (
        [
            {
                "attributes": {
                    "llm.model_name": "m",
                    **numbered("llm.input_messages.{}.message", SYSTEM, USER),
                    **numbered("llm.output_messages.{}.message", REPLY),
                }
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
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("as_array", [False, True], ids=["lines", "array"])
def test_the_command_of_the_error_makes_a_layout_readable(tmp_path: Path, name: str, as_array: bool) -> None:
    documents, expected = LAYOUTS[name]
    require_converted(documents, expected, tmp_path, as_array=as_array)
