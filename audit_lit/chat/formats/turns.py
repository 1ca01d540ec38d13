"""Turns under keys of their own: the program of jq that makes messages of them, as far as it is sure who says what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit_lit.chat.formats.columns import said_in, speaking
from audit_lit.chat.formats.places import may_be_content, step, union
from audit_lit.chat.messages import HARMLESS, READ, ROLES, is_empty, plain_role
from audit_lit.chat.suggestions import field

TEXT_KEYS = ("content", "value", "text", "message", "utterance", "body", "mes")
"""Names that data sets give to what a turn says."""
NAME_KEYS = ("role", "from", "speaker", "sender", "author", "source", "name", "username")
"""Names that data sets give to who says it."""
IS_USER = re.compile(r"\.(?:is|from)_?(?:user|human|me)", re.IGNORECASE)
IS_ASSISTANT = re.compile(r"\.is_?(?:bot|ai|assistant|model)", re.IGNORECASE)
"""How keys end that hold true where the user, or the assistant, speaks."""
ROLE_OF = 'if {} then "{}" else "{}" end'


@dataclass(frozen=True)
class Turn:
    """How to make messages of a turn.

    Attributes:
        program: The program of jq, which may yield several messages, or none.
        said: What a person must know of it.
        left_out: Keys of the turn that may hold content and that it leaves out.
        is_sure: Whether roles are known from values, rather than from the names of columns.
    """

    program: str
    said: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    is_sure: bool = True


def message_of(turns: list[Any]) -> Turn | None:
    """Return how to make messages of turns; None if they are none."""
    if turns and all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        return _of_pairs(turns)
    if not turns or not all(isinstance(turn, Mapping) for turn in turns):
        return None
    joined = union(turns)
    if all({"role", "content"} <= set(turn) for turn in turns) and _are_roles([turn["role"] for turn in turns]):
        more = sorted(key for key in READ - {"role", "content"} if not is_empty(joined.get(key)))
        read = ["role", "content", *more]
        return Turn(f"{{{', '.join(read)}}}", left_out=_left_out(joined, read))
    if speakers := _of_speakers(turns, joined):
        return speakers
    columns = speaking(joined)
    if len(set(columns.values()) & {"user", "assistant"}) == 2:
        return Turn(said_in(columns), left_out=_left_out(joined, columns), is_sure=False)
    return None


def _of_pairs(turns: list[Any]) -> Turn | None:
    if not all(text is None or isinstance(text, str) for turn in turns for text in turn):
        return None
    sides = '({role: "user", content: .[0]}, {role: "assistant", content: .[1]})'
    return Turn(f'{sides} | select((.content // "") != "")', ("each pair is taken for the user's text and the reply",))


def _of_speakers(turns: list[Any], joined: Mapping[str, Any]) -> Turn | None:
    """Return how to make messages of turns that name their speaker, where those with a text do."""
    text = next((key for key in TEXT_KEYS if isinstance(joined.get(key), str | list)), None)
    speaking_turns = [turn for turn in turns if text is None or not is_empty(turn.get(text))]
    values = [dict(_values(turn)) for turn in speaking_turns]
    shared = [path for path in values[0] if all(path in others for others in values)] if values else []
    role, said = _role(shared, values)
    if role is None or (said and text is None):
        return None
    path = next(path for path in shared if path in role)
    if text is None:
        texts = [key for key in joined if field(key) in shared and field(key) != path]
        if len(texts) != 1:
            return None
        text = texts[0]
    content = field(text)
    if any(isinstance(turn.get(text), list) for turn in speaking_turns):
        content = f'({content} | if type == "array" then map(.text? // .) | join("") else . end)'
    some = "" if len(speaking_turns) == len(turns) else f'select(({field(text)} // "") != "") | '
    keys = {text, *(key for key in joined if path.startswith(field(key)))}
    return Turn(f"{some}{{role: {role}, content: {content}}}", said, _left_out(joined, keys))


def _role(paths: list[str], values: list[dict[str, Any]]) -> tuple[str | None, tuple[str, ...]]:
    """Return jq's expression for the role of a turn, and what is said: by known names, a flag, or a blank."""
    texts = [path for path in paths if all(isinstance(turn[path], str) for turn in values)]
    for path in texts:
        if _are_roles([turn[path] for turn in values]):
            return path, ()
    for path in paths:
        if all(isinstance(turn[path], bool) for turn in values):
            if IS_USER.search(path):
                return f"({ROLE_OF.format(path, 'user', 'assistant')})", ()
            if IS_ASSISTANT.search(path):
                return f"({ROLE_OF.format(path, 'assistant', 'user')})", ()
    names = [path for key in NAME_KEYS for path in texts if path == f".{key}" or path.endswith((".name", ".username"))]
    if not names:
        return None, ()
    role = ROLE_OF.format(f"{names[0]} == $USER", "user", "assistant")
    return f"({role})", (f"with the user's name in {names[0]}, in quotes, for $USER",)


def _are_roles(names: list[Any]) -> bool:
    return all(plain_role(name) in ROLES for name in names)


def _values(turn: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the texts and flags of a turn, and of what it holds, by jq's paths."""
    for key, value in turn.items():
        place = path + step(path, field(key))
        if isinstance(value, str | bool):
            yield place, value
        elif isinstance(value, Mapping) and not path:
            yield from _values(value, place)


def _left_out(joined: Mapping[str, Any], read: Any) -> tuple[str, ...]:
    return tuple(field(key) for key in may_be_content(joined) if key not in {*read, *HARMLESS})
