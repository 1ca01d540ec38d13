"""Columns of a table whose names say who speaks: the program that makes messages of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from audit_lit.chat.formats.format import METADATA
from audit_lit.chat.messages import is_empty, plain_role
from audit_lit.chat.suggestions import field

PROMPTS = ("instruction", "prompt", "question", "query", "input")
"""Keys of what the user says; the first that is there."""
REPLIES = ("output", "completion", "response", "answer", "reply")
TEXTS = ("message", "msg", "text", "content", "turn", "utterance")
"""Words beside a role that do not change who speaks."""
WORDS = {
    "system": {"prompt", "instruction", "instructions", *TEXTS},
    "user": {*PROMPTS, *TEXTS},
    "assistant": {*REPLIES, *TEXTS},
}
"""Words that may stand in the name of a column of each role, in the order in which they speak."""
ALONE = {"user": {*PROMPTS}, "assistant": {*REPLIES}}
"""Words that name the role where no other does."""


def role_of(name: str) -> str | None:
    """Return whose text the name of a column promises, such as ``user_prompt``; None if it is not sure."""
    words = re.findall("[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    for role, known in WORDS.items():
        own = [word for word in words if plain_role(word) == role or word in ALONE.get(role, ())]
        if own and all(word in own or word in known for word in words):
            return role
    return None


def speaking(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a row that hold turns, in the order of the turns, and their roles; none if that is not sure.

    Several turns of a role are sure if all turns are numbered. ``user`` is a text only beside a reply.
    """
    texts = [key for key, value in document.items() if value is None or isinstance(value, str)]
    roles = {key: role for key in texts if key not in METADATA and (role := role_of(key))}
    if "user" in texts and "user" not in roles.values() and "assistant" in roles.values():
        roles["user"] = "user"
    numbers = {key: int("".join(re.findall("[0-9]", key))[:9] or 0) for key in roles}
    turns = [(numbers[key], role) for key, role in roles.items()]
    if len(set(turns)) < len(turns) or "user" not in roles.values():
        return {}
    order = list(WORDS)
    return {key: roles[key] for key in sorted(roles, key=lambda key: (numbers[key], order.index(roles[key])))}


def has_reply(document: Mapping[str, Any]) -> bool:
    """Return whether a key of a row holds a reply, though it is not one of ``REPLIES``."""
    replies = (key for key, role in speaking(document).items() if role == "assistant")
    return any(not is_empty(document[key]) for key in replies)


def of_columns(document: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """Return the program for a row whose columns say who speaks, and the columns that it leaves out; else None."""
    roles = speaking(document)
    if not roles:
        return None
    turns = ", ".join(f'{{role: "{role}", content: {field(key)}}}' for key, role in roles.items())
    kept = "" if is_empty(document.get("id")) else "id, "
    program = f'{{{kept}messages: [({turns}) | select((.content // "") != "")]}}'
    return program, _left_out(document, roles)


def _left_out(document: Mapping[str, Any], read: Iterable[str]) -> list[str]:
    return [key for key, value in document.items() if key not in {*METADATA, *read} and not is_empty(value)]
