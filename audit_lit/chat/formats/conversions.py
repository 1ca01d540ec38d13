"""Commands that turn documents of layouts that are not read into dialogs: what a public layout means, or a guess."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from audit_lit.chat.formats.columns import PROMPTS, of_columns
from audit_lit.chat.formats.format import METADATA, SYSTEM_KEYS
from audit_lit.chat.formats.openai import OF_SLACK, is_slack
from audit_lit.chat.formats.pairs import INPUTS
from audit_lit.chat.formats.rendered import splitting
from audit_lit.chat.messages import READ, ROLES, is_empty, plain_role
from audit_lit.chat.suggestions import EACH, field, jq

TEXT_KEYS = ("content", "value", "text", "message", "utterance", "body")
"""Names that data sets give to what a turn says."""
DIALOG_KEYS = (
    *("conversation_id", "conversationId", "conv_id", "dialog_id", "dialogue_id", "chat_id", "chatId"),
    *("session_id", "sessionId", "thread_id"),
)
"""Names that data sets give to what the messages of one dialog share."""
ROW_KEYS = {"role", "from", "speaker", "sender", "author"}
"""Names that data sets give to who says a message that is a row of its own."""
MOST_PLACES = 10_000
"""Number of places of a document that messages are looked for in; they stand near the top."""
PLACEHOLDERS = ", ".join(
    f'{{role: "{role}", content: .{key}}}'
    for role, key in (("system", "SYSTEM"), ("user", "USER"), ("assistant", "REPLY"))
)
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
WHOLE_FILES = {
    frozenset({"message_id", "parent_id", "role", "text"}): OASST_ROWS,
    frozenset({"sessionId", "type"}): CLAUDE_CODE,
    frozenset(OF_SLACK): f"{{messages: [flatten[] | {SLACK}]}}",
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


def preference(document: Mapping[str, Any]) -> str | None:
    """Say how to choose one of two replies, if a row prefers one to the other."""
    if any(is_empty(document.get(key)) for key in ("chosen", "rejected")):
        return None
    return (
        "holds two replies, 'chosen' and 'rejected', of which a dialog has one. To read the chosen one: "
        f"{jq(EACH + _chosen(document))}"
    )


def _chosen(document: Mapping[str, Any]) -> str:
    chosen = document["chosen"]
    if isinstance(chosen, str) and (split := splitting(".chosen", chosen)):
        return f"{{messages: {split}}}"
    turns = chosen if isinstance(chosen, list) else []
    is_whole = any(
        plain_role(turn.get("role", turn.get("from"))) == "user" for turn in turns if isinstance(turn, Mapping)
    )
    kept = [key for key in document if key in ("id", *SYSTEM_KEYS) and not is_empty(document[key])]
    if is_whole:
        return f"{{{', '.join([*kept, 'messages: .chosen'])}}}"
    if isinstance(chosen, Mapping):
        return f"{{{', '.join([*kept, 'conversations: (.conversations + [.chosen])'])}}}"
    asked = [key for key in document if key in {*PROMPTS, *INPUTS, "history"} and not is_empty(document[key])]
    return f"{{{', '.join([*kept, *(asked or ['prompt: .USER']), 'completion: .chosen'])}}}"


def conversion(document: Mapping[str, Any], is_read: Callable[[Any], bool]) -> str:
    """Return a command that turns a document into a dialog, with its own keys where they are sure.

    Args:
        document: The document, in no format that is read.
        is_read: Whether a part of it is in one.
    """
    for keys, whole in WHOLE_FILES.items():
        if keys <= set(document):
            return _guess(whole) + jq(whole, "-sc")
    if rows := _row(document, is_read):
        return jq(rows, "-sc")
    if program := _known(document) or _logged(document) or _inner(document, is_read):
        return _guess(program) + jq(EACH + program)
    if places := _nested(document, is_read):
        return _said(places) + jq(EACH + places[0][1])
    if program := _in_turn(document):
        return f"(the texts are taken in turn for the user's and the assistant's) {jq(EACH + program)}"
    if program := _text(document):
        return jq(EACH + program)
    if columns := of_columns(document):
        in_columns, left_out = columns
        return (f"(without {', '.join(map(field, left_out))}) " if left_out else "") + jq(EACH + in_columns)
    return f"(with your own keys for SYSTEM, USER and REPLY) {jq(f'{EACH}{{messages: [{PLACEHOLDERS}]}}')}"


def _row(document: Mapping[str, Any], is_read: Callable[[Any], bool]) -> str | None:
    """Return the program for a file whose rows are messages, of one dialog or of those that a key tells apart."""
    named = ROW_KEYS & set(document) and set(TEXT_KEYS) & set(document)
    message = "{role, content}" if {"role", "content"} <= set(document) else named and _message([document])
    if not message:
        return None
    shared = next((key for key in DIALOG_KEYS if not is_empty(document.get(key))), None)
    if shared is None:
        return "{messages: .}" if is_read([document]) else f"{{messages: [flatten[] | {message}]}}"
    return f"flatten | group_by({field(shared)})[] | {{id: .[0]{field(shared)}, messages: [.[] | {message}]}}"


def _guess(program: str) -> str:
    return "(what bots say is taken for the assistant's) " if SLACK in program else ""


def _said(places: list[tuple[str, str]]) -> str:
    """Say where messages stand, and which of them are read."""
    paths = [path for path, _ in places]
    if len(paths) == 1:
        return f"(its messages stand in {paths[0]}) "
    return f"(messages stand in {', '.join(paths[:-1])} and {paths[-1]}; this reads those of {paths[0]}) "


def _known(document: Mapping[str, Any]) -> str | None:
    """Return the program for a layout that is told by its keys."""
    prompt, state, chat = document.get("prompt"), document.get("state"), document.get("chat")
    if isinstance(document.get("mapping"), Mapping) and "current_node" in document:
        return CHATGPT
    if isinstance(prompt, Mapping) and {"text", "role"} <= set(prompt):
        return OASST_TREE
    if isinstance(document.get("message"), str) and {"chat_history", "preamble"} & set(document):
        return COHERE if is_empty(document.get("documents")) else None
    if isinstance(state, Mapping) and isinstance(state.get("messages"), list):
        return FASTCHAT
    if isinstance(chat, Mapping) and isinstance(chat.get("history"), Mapping):
        return OPEN_WEBUI
    if is_slack(document.get("messages")):
        return f"{{messages: [.messages[] | {SLACK}]}}"
    names = (name for _, key, value, _ in _inside(document) if key == ".attributes" for name in _names(value))
    if name := next((name for name in names if name in SPANS), None):
        return f"{ATTRIBUTES} | select(has({json.dumps(name)})) | {SPANS[name]}"
    inputs = document.get("inputs")
    batch = inputs.get("messages") if isinstance(inputs, Mapping) else None
    if isinstance(batch, list) and batch and isinstance(batch[0], list):
        return LANGSMITH
    return None


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


def _inner(document: Mapping[str, Any], is_read: Callable[[Any], bool]) -> str | None:
    """Return the program for a dialog under a key."""
    for key, value in document.items():
        if key not in METADATA and isinstance(value, Mapping) and is_read(value):
            return field(key)
    return None


def _text(document: Mapping[str, Any]) -> str | None:
    """Return the program for a text in which the turns stand."""
    texts = ((field(key), value) for key, value in document.items() if isinstance(value, str))
    program = next(filter(None, (splitting(key, text) for key, text in texts)), None)
    return program and f"{{id, messages: {program}}}"


def _inside(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield what stands in a document, what is further out first: jq's path to what holds it, its key, it, its holder.

    ``[]`` is the key of all parts of a list.
    """
    queue: deque[tuple[str, Any]] = deque([("", document)])
    for _ in range(MOST_PLACES):
        if not queue:
            return
        path, holder = queue.popleft()
        is_list = isinstance(holder, list)
        for key, value in (("[]", part) for part in holder) if is_list else ((field(k), v) for k, v in holder.items()):
            if isinstance(value, Mapping | list):
                step = key.replace(".[", "[", 1) if path else key
                yield path, step, value, holder
                queue.append((path + step, value))


def _nested(document: Mapping[str, Any], is_read: Callable[[Any], bool]) -> list[tuple[str, str]]:
    """Return where lists of messages stand in a document, and the programs for the dialogs that they are."""
    programs: dict[str, str] = {}
    for path, key, turns, holder in _inside(document):
        place = path + key
        if place in programs or not isinstance(turns, list):
            continue
        message = "" if is_read(turns) else _message(turns)
        if message is None:
            continue
        if path and is_read(holder) and isinstance(holder, Mapping):
            programs[place] = path
            continue
        each, mark, inner = place.rpartition("[]")
        inner = f".{inner}" if inner.startswith("[") else inner
        system = next((name for name in SYSTEM_KEYS if key != "[]" and not is_empty(holder.get(name))), None)
        prompt = "" if system is None else f"system: {inner.removesuffix(key).removesuffix('.')}{field(system)}, "
        said = f"[{inner or '.'}[] | {message}]" if message else inner or "."
        name = "id, " if inner else ""  # a list has none
        programs[place] = f"{each}{mark}{' | ' if mark else ''}{{{name}{prompt}messages: {said}}}"
    return list(programs.items())


def _message(turns: list[Any]) -> str | None:
    """Return the program for a message of a list of turns; None unless it is sure who says what."""
    if not turns or not all(isinstance(turn, Mapping) for turn in turns):
        return None
    shared = [name for name in turns[0] if all(isinstance(turn.get(name), str) for turn in turns)]
    roles = [name for name in shared if {plain_role(turn[name]) for turn in turns} <= set(ROLES)]
    if "role" in roles and all("content" in turn for turn in turns):
        more = sorted(key for key in READ - {"role", "content"} if any(not is_empty(turn.get(key)) for turn in turns))
        return f"{{{', '.join(['role', 'content', *more])}}}"
    texts = [name for name in shared if name in TEXT_KEYS] or [name for name in shared if name not in roles]
    if roles and texts and (len(texts) == 1 or texts[0] in TEXT_KEYS):
        return f"{{role: {field(roles[0])}, content: {field(texts[0])}}}"
    return None


def _in_turn(document: Mapping[str, Any]) -> str | None:
    """Return the program for texts in a list, which the user and the assistant say in turn."""
    lists = {key: value for key, value in document.items() if isinstance(value, list) and len(value) > 1}
    key = next((key for key, texts in lists.items() if all(isinstance(text, str) for text in texts)), None)
    role = 'if .key % 2 == 0 then "user" else "assistant" end'
    turns = f"to_entries[] | {{role: ({role}), content: .value}}"
    return None if key is None else f"{{id, messages: [{field(key)} | {turns}]}}"
