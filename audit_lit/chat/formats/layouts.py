"""Layouts that are known by their keys, and are not read: the programs of jq that make dialogs of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit_lit.chat.formats.places import held
from audit_lit.chat.messages import is_empty, plain_role
from audit_lit.chat.suggestions import EACH, field, jq


@dataclass(frozen=True)
class Conversion:
    """A program of jq that makes dialogs of a file, and what is said of it.

    A program with a blank such as ``$USER`` does not run until it is filled in: jq refuses variables without a value.
    """

    program: str
    said: tuple[str, ...] = ()
    each: str = EACH
    options: str = "-c"

    @property
    def command(self) -> str:
        """What is said of the program, and the command that runs it."""
        said = f"({'; '.join(self.said)}) " if self.said else ""
        return said + jq(self.each + self.program, self.options)


CHATGPT = (
    ". as $chat | {id: (.conversation_id // .id), messages: [[.current_node | recurse($chat.mapping[.].parent; . != "
    "null)] | reverse[] | $chat.mapping[.].message | select(. != null) | {role: .author.role, content: [.content | "
    '.parts[]?, .text?, .user_instructions? | select(. != null and . != "")]} | select(.content != [])]}'
)
OASST_TREE = "{messages: [.prompt | recurse(.replies[0]; . != null) | {role, content: .text}]}"
OASST_ROWS = (
    "INDEX(.message_id) as $rows | (map(.parent_id // empty | {(.): true}) | add) as $parents | .[] | "
    'select($parents[.message_id] | not) | {messages: [recurse($rows[.parent_id // ""]; . != null) | {role, content: '
    ".text}] | reverse}"
)
CLAUDE_CODE = (
    "{messages: [.[] | select(.isSidechain != true) | .message? // empty | {role, content: (.content | if type == "
    '"array" then map(select(.type != "thinking")) else . end)} | select(.content != [])]}'
)
SLACK = 'select((.text // "") != "") | {role: (if .bot_id then "assistant" else "user" end), content: .text}'
PYDANTIC_AI = (
    '{messages: [flatten[] | .parts[] | {role: ({"system-prompt": "system", "user-prompt": "user", "text": '
    '"assistant"}[.part_kind] // .part_kind), content}]}'
)
OF_SLACK = frozenset({"type", "ts", "text"})
"""Keys of each of Slack's messages, which have no role."""
WHOLE_FILES = {
    frozenset({"message_id", "parent_id", "role", "text"}): OASST_ROWS,
    frozenset({"sessionId", "type"}): CLAUDE_CODE,
    OF_SLACK: f"{{messages: [flatten[] | {SLACK}]}}",
    frozenset({"parts", "kind"}): PYDANTIC_AI,
}
"""Programs for files of which each line holds a message, by keys of a line."""
OPEN_WEBUI = (
    "{id, system: .chat.params.system?, messages: [(if (.chat.messages // []) != [] then .chat.messages else "
    "(.chat.history as $all | [$all.currentId | recurse($all.messages[.].parentId; . != null)] | reverse | "
    "map($all.messages[.])) end)[] | {role, content, files}]}"
)
ATTRIBUTES = (
    '.. | objects | .attributes? | if type == "array" then map({(.key): .value.stringValue}) | add else . end | objects'
)
"""The attributes of OpenTelemetry's spans, as an object or as a list of keys and values."""
SPANS = {
    "gen_ai.input.messages": "with_entries({key, value: (.value as $value | try ($value | fromjson) catch $value)}) | "
    '{system: [."gen_ai.system_instructions"[]?.content], messages: [."gen_ai.input.messages"[], '
    '."gen_ai.output.messages"[]? | {role, content: [.parts[] | if .type == "text" then .content else . end]}]}',
    **dict.fromkeys(
        ("gen_ai.prompt.0.role", "llm.input_messages.0.message.role"),
        'reduce to_entries[] as $each ({}; . as $all | try setpath($each.key | split(".") | map(tonumber? // .); '
        "$each.value) catch $all) | {messages: [.gen_ai.prompt[]?, .gen_ai.completion[]?, (.llm | .input_messages[]?, "
        ".output_messages[]? | .message) | {role, content, tool_calls}]}",
    ),
}
"""Programs for these attributes by one of them, as OpenTelemetry, OpenLLMetry and OpenInference name it."""
LANGSMITH = "{messages: (.inputs.messages[0] + [.outputs.generations[0]?[0]?.message? // empty])}"
FASTCHAT = (
    "{system: (.state | .system_message // .system), messages: [.state.messages[] | select(.[1]) | {role: .[0], "
    "content: .[1]}]}"
)
COHERE = (
    "{system: .preamble, messages: ([(.chat_history // [])[] | {role, content: (.message // .text)}] + "
    '[{role: "user", content: .message}])}'
)


LM_STUDIO = (
    "{system: .systemPrompt, messages: [.messages[] | .versions[.currentlySelected // 0] | {role, content: (.content "
    '// [.steps[]? | select(.type == "contentBlock") | .content[]])}]}'
)
COPILOT = (
    '{messages: [.requests[] | {role: "user", content: .message.text}, {role: "assistant", content: ([.response[] | '
    '.value? | strings] | join(""))}]}'
)
ASSISTANTS = (
    "{messages: [.data | sort_by(.created_at)[] | {role, content: [.content[] | if .type == "
    '"text" then .text.value // .text else . end]}]}'
)
LM_EVAL = (
    '{id: .doc_id, messages: [{role: "user", content: (.arguments | if type == "array" then .[0][0] else '
    '.gen_args_0.arg_0 end)}, (.resps[0][0] | strings | {role: "assistant", content: .})]}'
)
CHARACTER = (
    '{id: .data.name, messages: [{role: "system", content: [.data | .system_prompt, .description, .personality, '
    '.scenario | select(. // "" != "")]}, {role: "assistant", content: .data.first_mes}]}'
)
QUESTIONS = '{id: .question_id, messages: [{role: "user", content: .turns[0]}]}'
ANSWERS = (
    '{id: .answer_id, messages: [.choices[0].turns | to_entries[] | {role: "user", content: $QUESTIONS[.key]}, '
    '{role: "assistant", content: .value}]}'
)
RESPONSE = '{id, messages: [{role: "user", content: $USER}, .choices[0].message]}'
KEYED: tuple[tuple[frozenset[str], str, str], ...] = (
    (frozenset({"mapping", "current_node"}), CHATGPT, ""),
    (frozenset({"requests", "responderUsername"}), COPILOT, "what a response holds beside text is left out"),
    (frozenset({"doc", "arguments", "resps"}), LM_EVAL, "the reply is the first of .resps, not the .target"),
    (frozenset({"spec", "data"}), CHARACTER, "this reads what describes the character, and its first message"),
)
"""Programs for layouts by keys that all of them have, and what is said of them."""


def whole_file(document: Mapping[str, Any]) -> Conversion | None:
    """Return the conversion of a file of which each line holds a message of a known layout."""
    program = next((program for keys, program in WHOLE_FILES.items() if keys <= set(document)), None)
    return (program and Conversion(program, _guess(program), "", "-sc")) or None


def _guess(program: str) -> tuple[str, ...]:
    return ("what bots say is taken for the assistant's",) if SLACK in program else ()


def known(document: Mapping[str, Any]) -> Conversion | None:
    """Return the conversion of a layout that is told by its keys."""
    for keys, program, said in KEYED:
        if keys <= set(document):
            return Conversion(program, (said,) if said else ())
    if of_replies := _of_replies(document):
        return of_replies
    told = _known(document) or _logged(document)
    return Conversion(told, _guess(told)) if told else None


def _of_replies(document: Mapping[str, Any]) -> Conversion | None:
    """Return the conversion of questions without their replies, or the other way round."""
    turns, choices = document.get("turns"), document.get("choices")
    if "question_id" in document and isinstance(turns, list) and all(isinstance(turn, str) for turn in turns):
        return Conversion(QUESTIONS, ("all of .turns are the user's, without replies; this reads the first",))
    first = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(first, Mapping) and isinstance(first.get("turns"), list):
        return Conversion(ANSWERS, ("it holds replies alone; with the list of the user's questions for $QUESTIONS",))
    if isinstance(first, Mapping) and isinstance(first.get("message"), Mapping):
        return Conversion(RESPONSE, ("it holds the reply alone; with what the user said, in quotes, for $USER",))
    return None


def _known(document: Mapping[str, Any]) -> str | None:
    """Return the program for a layout that is told by what its keys hold."""
    prompt, state, chat = document.get("prompt"), document.get("state"), document.get("chat")
    if isinstance(prompt, Mapping) and {"text", "role"} <= set(prompt):
        return OASST_TREE
    if isinstance(document.get("message"), str) and {"chat_history", "preamble"} & set(document):
        return COHERE if is_empty(document.get("documents")) else None
    if isinstance(state, Mapping) and isinstance(state.get("messages"), list):
        return FASTCHAT
    if isinstance(chat, Mapping) and isinstance(chat.get("history"), Mapping):
        return OPEN_WEBUI
    if _have(document.get("messages"), OF_SLACK):
        return f"{{messages: [.messages[] | {SLACK}]}}"
    if _have(document.get("messages"), frozenset({"versions"})):
        return LM_STUDIO
    if _have(document.get("data"), frozenset({"role", "content", "thread_id"})):
        return ASSISTANTS
    names = (name for value in _attributes(document) for name in _names(value))
    if name := next((name for name in names if name in SPANS), None):
        return f"{ATTRIBUTES} | select(has({json.dumps(name)})) | {SPANS[name]}"
    inputs = document.get("inputs")
    batch = inputs.get("messages") if isinstance(inputs, Mapping) else None
    if isinstance(batch, list) and batch and isinstance(batch[0], list):
        return LANGSMITH
    return None


def _have(messages: Any, keys: frozenset[str]) -> bool:
    """Return whether a list holds an object that has some keys."""
    listed = messages if isinstance(messages, list) else []
    return any(isinstance(each, Mapping) and keys <= set(each) for each in listed)


def _attributes(document: Any) -> Iterator[Any]:
    """Yield what ``attributes`` hold at any place of a document."""
    for _, holder in held((document,)):
        if isinstance(holder, Mapping) and "attributes" in holder:
            yield holder["attributes"]


def _names(attributes: Any) -> list[Any]:
    """Return the names of a span's attributes, which OpenTelemetry writes as an object or as a list."""
    if isinstance(attributes, list):
        return [each.get("key") for each in attributes if isinstance(each, Mapping)]
    return list(attributes) if isinstance(attributes, Mapping) else []


def _logged(document: Mapping[str, Any]) -> str | None:
    """Return the program for a request beside the response to it."""
    parts = {field(key): value for key, value in document.items() if isinstance(value, Mapping)}
    requests = [key for key, value in parts.items() if isinstance(value.get("messages"), list)]
    replies = [f"{key}.choices[0].message" for key, value in parts.items() if isinstance(value.get("choices"), list)]
    replies += [f"{key}.message" for key, value in parts.items() if isinstance(value.get("message"), Mapping)]
    replies += [key for key, value in parts.items() if plain_role(value.get("role")) == "assistant"]
    if not requests or not replies:
        return None
    return f"{requests[0]} + {{messages: ({requests[0]}.messages + [{replies[0]}])}}"
