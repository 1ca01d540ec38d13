"""Commands that turn documents of layouts that are not read into dialogs: what a public layout means, or a guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from audit_lit.chat.formats.format import METADATA, SYSTEM_KEYS
from audit_lit.chat.formats.pairs import INPUTS, PROMPTS
from audit_lit.chat.formats.rendered import splitting
from audit_lit.chat.messages import ROLES, is_empty, plain_role
from audit_lit.chat.suggestions import EACH, field, jq

TEXT_KEYS = ("content", "value", "text", "message", "utterance", "body")
"""Names that data sets give to what a turn says."""
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
WHOLE_FILES = {
    frozenset({"role", "content"}): "{messages: .}",
    frozenset({"message_id", "parent_id", "role", "text"}): OASST_ROWS,
    frozenset({"sessionId", "type"}): CLAUDE_CODE,
}
"""Programs for files of which each line holds a message, by keys of a line."""
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
            return jq(whole, "-sc")
    program = _known(document) or _logged(document) or _inner(document, is_read) or _lists(document) or _text(document)
    if program is None:
        return f"(with your own keys for SYSTEM, USER and REPLY) {jq(f'{EACH}{{messages: [{PLACEHOLDERS}]}}')}"
    in_turn = "(the texts are taken in turn for the user's and the assistant's) " if "to_entries" in program else ""
    return in_turn + jq(EACH + program)


def _known(document: Mapping[str, Any]) -> str | None:
    """Return the program for a layout that is told by its keys."""
    prompt, state = document.get("prompt"), document.get("state")
    if isinstance(document.get("mapping"), Mapping) and "current_node" in document:
        return CHATGPT
    if isinstance(prompt, Mapping) and {"text", "role"} <= set(prompt):
        return OASST_TREE
    if isinstance(document.get("message"), str) and {"chat_history", "preamble"} & set(document):
        return COHERE if is_empty(document.get("documents")) else None
    if isinstance(state, Mapping) and isinstance(state.get("messages"), list):
        return FASTCHAT
    inputs = document.get("inputs")
    batch = inputs.get("messages") if isinstance(inputs, Mapping) else None
    if isinstance(batch, list) and batch and isinstance(batch[0], list):
        return LANGSMITH
    return None


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
        if key not in METADATA and isinstance(value, Mapping | list) and is_read(value):
            return field(key) if isinstance(value, Mapping) else f"{{id, messages: {field(key)}}}"
    return None


def _text(document: Mapping[str, Any]) -> str | None:
    """Return the program for a text in which the turns stand."""
    texts = ((field(key), value) for key, value in document.items() if isinstance(value, str))
    program = next(filter(None, (splitting(key, text) for key, text in texts)), None)
    return program and f"{{id, messages: {program}}}"


def _lists(document: Mapping[str, Any]) -> str | None:
    return next(filter(None, (_of_list(field(key), turns) for key, turns in document.items())), None)


def _of_list(key: str, turns: Any) -> str | None:
    """Return the program for messages in a list of turns; None unless it is sure who says what."""
    if not isinstance(turns, list) or not turns:
        return None
    if len(turns) > 1 and all(isinstance(turn, str) for turn in turns):
        role = 'if .key % 2 == 0 then "user" else "assistant" end'
        return f"{{messages: [{key} | to_entries[] | {{role: ({role}), content: .value}}]}}"
    if not all(isinstance(turn, Mapping) for turn in turns):
        return None
    shared = [name for name in turns[0] if all(isinstance(turn.get(name), str) for turn in turns)]
    roles = [name for name in shared if {plain_role(turn[name]) for turn in turns} <= set(ROLES)]
    texts = [name for name in shared if name in TEXT_KEYS] or [name for name in shared if name not in roles]
    if roles and texts and (len(texts) == 1 or texts[0] in TEXT_KEYS):
        return f"{{messages: [{key}[] | {{role: {field(roles[0])}, content: {field(texts[0])}}}]}}"
    return None
