"""Commands that turn documents of layouts that are not read into dialogs: what a public layout means, or a guess."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from audit_lit.chat.formats.columns import PROMPTS, of_columns
from audit_lit.chat.formats.format import METADATA, SYSTEM_KEYS
from audit_lit.chat.formats.layouts import Conversion, known, whole_file
from audit_lit.chat.formats.pairs import INPUTS
from audit_lit.chat.formats.places import held, may_be_content, step, union
from audit_lit.chat.formats.rendered import splitting
from audit_lit.chat.formats.turns import IS_USER, TEXT_KEYS, Turn, message_of
from audit_lit.chat.messages import is_empty, plain_role
from audit_lit.chat.suggestions import EACH, field

IsRead = Callable[[Any], bool]
DIALOG_KEYS = (
    *("conversation_id", "conversationId", "conv_id", "dialog_id", "dialogue_id", "chat_id", "chatId"),
    *("session_id", "sessionId", "thread_id"),
)
"""Names that data sets give to what the messages of one dialog share."""
ROW_KEYS = {"role", "from", "speaker", "sender", "author"}
"""Names that data sets give to who says a message that is a row of its own."""
REPLY_PAIRS = (("chosen", "rejected"), ("response_a", "response_b"), ("answer_a", "answer_b"))
"""Names that data sets give to two replies, of which one is preferred."""
TEMPLATE = Conversion(
    "{messages: ["
    + ", ".join(
        f'{{role: "{role}", content: ${key}}}'
        for role, key in (("system", "SYSTEM"), ("user", "USER"), ("assistant", "REPLY"))
    )
    + "]}",
    ("with your own keys, such as .text, for $SYSTEM, $USER and $REPLY",),
)
"""For documents of which nothing is sure. It does not run before it is filled in."""


def preference(document: Mapping[str, Any]) -> str | None:
    """Say how to choose one of two replies, if a row prefers one to the other."""
    for first, second in REPLY_PAIRS:
        if not is_empty(document.get(first)) and not is_empty(document.get(second)):
            made = _with_left_out(Conversion(_chosen(document, first)), {**document, second: None})
            which = "the chosen one" if first == "chosen" else f"{first!r}"
            said = f"holds two replies, {first!r} and {second!r}, of which a dialog has one."
            return f"{said} To read {which}: {made.command}"
    return None


def _chosen(document: Mapping[str, Any], key: str) -> str:
    chosen, prompt = document[key], document.get("prompt")
    if isinstance(chosen, str) and (split := splitting(f".{key}", chosen)):
        return f"{{messages: {split}}}"
    if isinstance(chosen, list) and isinstance(prompt, list) and all(isinstance(text, str) for text in prompt):
        sides = '({role: "user", content: .[0]}, {role: "assistant", content: .[1]})'
        return f"{{id, messages: [[.prompt, .{key}] | transpose[] | {sides}]}}"
    turns = chosen if isinstance(chosen, list) else []
    is_whole = any(
        plain_role(turn.get("role", turn.get("from"))) == "user" for turn in turns if isinstance(turn, Mapping)
    )
    kept = [key for key in document if key in ("id", *SYSTEM_KEYS) and not is_empty(document[key])]
    if is_whole:
        return f"{{{', '.join([*kept, f'messages: .{key}'])}}}"
    if isinstance(chosen, Mapping):
        return f"{{{', '.join([*kept, f'conversations: (.conversations + [.{key}])'])}}}"
    asked = [key for key in document if key in {*PROMPTS, *INPUTS, "history"} and not is_empty(document[key])]
    return f"{{{', '.join([*kept, *(asked or ['prompt: $USER']), f'completion: .{key}'])}}}"


def conversion(rows: Iterable[Mapping[str, Any]], is_read: IsRead) -> str:
    """Return a command that turns documents of one layout into dialogs, with their own keys where they are sure.

    It says which keys it leaves out that may hold content.

    Args:
        rows: Documents in no format that is read.
        is_read: Whether a part of one is in a format.
    """
    rows = list(rows)
    document = union(rows)
    if (whole := whole_file(document)) or (whole := _rows(rows, document, is_read)):
        return whole.command
    if found := known(document):
        return _with_left_out(found, document).command
    if found := _inner(document, is_read) or _nested(rows, is_read):
        return found.command
    if program := _in_turn(document):
        said = "the texts are taken in turn for the user's and the assistant's"
        return _with_left_out(Conversion(program, (said,)), document).command
    if program := _text(document) or of_columns(document):
        return _with_left_out(Conversion(program), document).command
    return TEMPLATE.command


def of_turns(turns: list[Any]) -> str:
    """Return the command that makes one dialog of an array of turns; an empty text if they are none."""
    turn = message_of(turns)
    return "" if turn is None else _made(f"{{messages: [.[] | {turn.program}]}}", turn).command


def _made(program: str, turn: Turn, said: tuple[str, ...] = (), each: str = "", options: str = "-c") -> Conversion:
    left_out = _without(f"{key} of messages" for key in turn.left_out)
    return Conversion(program, (*said, *turn.said, *left_out), each, options)


def _without(keys: Iterable[str]) -> tuple[str, ...]:
    listed = ", ".join(keys)
    return (f"without {listed}",) if listed else ()


def _with_left_out(made: Conversion, document: Mapping[str, Any]) -> Conversion:
    """Return a conversion that says which keys of a document its program does not name."""
    left_out = [field(key) for key in may_be_content(document) if not _names(made.program, key)]
    return Conversion(made.program, (*made.said, *_without(left_out)), made.each, made.options)


def _names(program: str, key: str) -> bool:
    """Return whether a program names a key, as a word of its own."""
    return bool(re.search(rf"(?<!\w){re.escape(field(key).removeprefix('.'))}(?!\w)", program))


def _rows(rows: list[Any], document: Mapping[str, Any], is_read: IsRead) -> Conversion | None:
    """Return the conversion of a file whose rows are messages, of one dialog or of those that a key tells apart."""
    is_named = ROW_KEYS & set(document) or any(IS_USER.fullmatch(field(key)) for key in document)
    turns = [row for row in rows if set(TEXT_KEYS) & set(row)]
    turn = message_of(turns) if is_named and turns else None
    if turn is None or not turn.is_sure:
        return None
    message = turn.program if len(turns) == len(rows) else f"objects | select({_any_text(turns)}) | {turn.program}"
    shared = next((key for key in DIALOG_KEYS if not is_empty(document.get(key))), None)
    if shared is not None:
        program = f"flatten | group_by({field(shared)})[] | {{id: .[0]{field(shared)}, messages: [.[] | {message}]}}"
    elif is_read([document]):
        return Conversion("{messages: .}", (), "", "-sc")
    else:
        program = f"{{messages: [flatten[] | {message}]}}"
    return _made(program, turn, options="-sc")


def _any_text(turns: list[Any]) -> str:
    """Return jq's expression for whether a row holds what turns say."""
    return " or ".join(f"has({json.dumps(key)})" for key in TEXT_KEYS if any(key in turn for turn in turns))


def _inner(document: Mapping[str, Any], is_read: IsRead) -> Conversion | None:
    """Return the conversion of a dialog under a key, with a system prompt beside it."""
    for key, value in document.items():
        if key in METADATA or not isinstance(value, Mapping) or not is_read(value):
            continue
        beside = _prompt(document)
        carried = beside is not None and _prompt(value) is None
        program = f"{{{beside}: .{beside}}} + {field(key)}" if carried else field(key)
        left_out = [
            field(name) for name in may_be_content(document) if name != key and not (carried and name == beside)
        ]
        return Conversion(program, _without(left_out))
    return None


def _prompt(holder: Mapping[str, Any]) -> str | None:
    """Return the key of a system prompt that stands in what holds messages, or further out."""
    return next((name for name in SYSTEM_KEYS if not is_empty(holder.get(name))), None)


def _nested(rows: list[Any], is_read: IsRead) -> Conversion | None:
    """Return the conversion of lists of messages that stand anywhere in documents."""
    holders: dict[str, list[Any]] = {}
    for path, holder in held(rows):
        holders.setdefault(path, []).append(holder)
    made = {path: found for path in holders if path and (found := _of_place(path, holders, is_read))}
    if not made:
        return None
    paths, first = list(made), next(iter(made.values()))
    said = f"its messages stand in {paths[0]}"
    if len(paths) > 1:
        said = f"messages stand in {', '.join(paths[:-1])} and {paths[-1]}; this reads those of {paths[0]}"
    return Conversion(first.program, (said, *first.said))


def _of_place(place: str, holders: Mapping[str, list[Any]], is_read: IsRead) -> Conversion | None:
    """Return the conversion of the lists of messages at a place, with the nearest system prompt further out."""
    lists = [turns for turns in holders[place] if isinstance(turns, list) and turns]
    joined = [turn for turns in lists for turn in turns]
    turn = Turn("") if lists and all(map(is_read, lists)) else message_of(joined)
    if turn is None:
        return None
    objects = {path: union(each) for path in holders if _is_outside(path, place) and (each := _mappings(holders[path]))}
    outer = max(objects, key=len)
    base = max((path for path in objects if _prompt(objects[path])), key=len, default="")
    is_whole = bool(outer) and not turn.program and all(map(is_read, _mappings(holders[outer])))
    prompt = None if is_whole and base == outer else _prompt(objects[base])
    base = base if prompt else ""
    program = _program(place, outer if is_whole else None, turn.program, base)
    if prompt:
        program = f"{f'{base} | ' if base else ''}{{{prompt}: .{prompt}}} + ({program})"
    kept = (place, base + step(base, field(prompt or "id")))
    left_out = [
        key_path
        for path, document in objects.items()
        for key_path in (path + step(path, field(key)) for key in may_be_content(document))
        if key_path not in kept and not _is_outside(key_path, place) and not (is_whole and path == outer)
    ]
    return _made(program, turn, _without(left_out), EACH)


def _mappings(values: list[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, Mapping)]


def _is_outside(path: str, place: str) -> bool:
    """Return whether a path leads to what holds a place."""
    return place.startswith(path) and place != path and (not path or place[len(path)] in ".[")


def _program(place: str, whole: str | None, message: str, base: str) -> str:
    """Return the program, from a path on, for the messages of a place, or for the whole objects that hold them."""
    if whole is not None:
        return _rest(whole, base)
    each, mark, _ = place.rpartition("[]")
    opened = max(each + mark, base, key=len)
    inner = _rest(place, opened)
    turns = f"[{inner or '.'}[] | {message}]" if message else inner or "."
    made = f"{{{'id, ' if inner else ''}messages: {turns}}}"  # a list has no id
    return made if opened == base else f"{_rest(opened, base)} | {made}"


def _rest(path: str, base: str) -> str:
    """Return a path of jq from a place on."""
    rest = path[len(base) :]
    return f".{rest}" if rest.startswith("[") else rest


def _text(document: Mapping[str, Any]) -> str | None:
    """Return the program for a text in which the turns stand."""
    texts = ((field(key), value) for key, value in document.items() if isinstance(value, str))
    program = next(filter(None, (splitting(key, text) for key, text in texts)), None)
    return program and f"{{id, messages: {program}}}"


def _in_turn(document: Mapping[str, Any]) -> str | None:
    """Return the program for texts in a list, which the user and the assistant say in turn."""
    lists = {key: value for key, value in document.items() if isinstance(value, list) and len(value) > 1}
    key = next((key for key, texts in lists.items() if all(isinstance(text, str) for text in texts)), None)
    role = 'if .key % 2 == 0 then "user" else "assistant" end'
    turns = f"to_entries[] | {{role: ({role}), content: .value}}"
    return None if key is None else f"{{id, messages: [{field(key)} | {turns}]}}"
