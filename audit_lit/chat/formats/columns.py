"""Columns of a table whose names say who speaks: the program that makes messages of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
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

    Several turns of a role are sure if all turns are numbered from 0 or 1 on, and no role speaks twice in a row.
    ``user`` may be a name: it is a text only beside a column that names the assistant, and no text without a speaker.
    """
    roles = _roles(document)
    if is_empty(document.get("user")):
        roles.pop("user", None)
    numbers = {key: int("".join(re.findall("[0-9]", key))[:9] or 0) for key in roles}
    order = list(WORDS)
    keys = sorted(roles, key=lambda key: (numbers[key], order.index(roles[key])))
    counted = {max(number, 1) for number in numbers.values()} if 1 not in numbers.values() else {*numbers.values()}
    in_a_row = any(roles[key] == roles[following] for key, following in pairwise(keys))
    if "user" not in roles.values() or in_a_row or max(counted) - min(counted) >= len(counted) or min(counted) > 1:
        return {}
    return {key: roles[key] for key in keys}


def _roles(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the roles that the names of columns promise."""
    texts = [key for key, value in document.items() if value is None or isinstance(value, str)]
    roles = {key: role for key in texts if key not in METADATA and (role := role_of(key))}
    names_assistant = any(role == "assistant" and not {*REPLIES} & {key} for key, role in roles.items())
    if "user" in texts and "user" not in roles.values() and names_assistant and not {*TEXTS} & {*texts}:
        roles["user"] = "user"
    return roles


def has_reply(document: Mapping[str, Any]) -> bool:
    """Return whether a key of a row holds a reply, though it is not one of ``REPLIES``."""
    return any(not is_empty(document[key]) for key, role in _roles(document).items() if role == "assistant")


def said_in(roles: Mapping[str, str]) -> str:
    """Return the program for the messages of a row by the roles of its keys; it leaves out those without a text."""
    turns = ", ".join(f'{{role: "{role}", content: {field(key)}}}' for key, role in roles.items())
    return f'({turns}) | select((.content // "") != "")'


def of_columns(document: Mapping[str, Any]) -> str | None:
    """Return the program for a row whose columns say who speaks; else None."""
    roles = speaking(document)
    kept = "" if is_empty(document.get("id")) else "id, "
    return f"{{{kept}messages: [{said_in(roles)}]}}" if roles else None
