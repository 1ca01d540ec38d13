"""One prompt and its reply under keys of their own: instruction and output (Alpaca), prompt and completion, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit_lit.chat.formats.columns import PROMPTS, REPLIES, has_reply
from audit_lit.chat.formats.format import REQUEST, Format, read_turns
from audit_lit.chat.formats.rendered import RENDERED, splitting
from audit_lit.chat.messages import Message, is_empty
from audit_lit.chat.suggestions import EACH, field, jq
from audit_lit.errors import DialogError

INPUTS = ("input", "context")
"""Keys of what an instruction is about, which follows it."""


def _matches(document: Any) -> bool:
    if not isinstance(document, Mapping) or not _given(document, PROMPTS):
        return False
    n_replies = len(_given(document, REPLIES))
    return n_replies == 1 or (n_replies == 0 and not has_reply(document))


def _given(document: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    """Return those of some keys that hold text or messages."""
    return [key for key in keys if isinstance(document.get(key), str | list) and not is_empty(document[key])]


def _read(document: Mapping[str, Any]) -> tuple[Message, ...]:
    prompt = _given(document, PROMPTS)[0]
    inputs = [key for key in _given(document, INPUTS) if prompt == "instruction"]
    replies = _given(document, REPLIES)
    turns = _turns(document, "user", [prompt, *inputs])
    if replies:
        turns += _turns(document, "assistant", replies)
    history = _history(document.get("history"))
    harmless = {*REQUEST, *inputs, *replies, "history"}
    return read_turns(document, prompt, [*history, *turns], harmless=harmless)


def _turns(document: Mapping[str, Any], role: str, keys: list[str]) -> list[Any]:
    """Return the messages under a key, or a message of a role with the texts under some keys."""
    if isinstance(document[keys[0]], list):
        return [message for key in keys for message in document[key]]
    text = "\n".join(str(document[key]) for key in keys)
    if mark := RENDERED.search(text):
        raise DialogError(
            f"{keys[0]!r} holds {mark[0]!r}: it is rendered by a chat template, so that a hidden prompt in it would be "
            f"shown; expected plain text. {_way_out(document, keys[0])}"
        )
    return [{"role": role, "content": text}]


def _way_out(document: Mapping[str, Any], key: str) -> str:
    """Say how to get the messages of a text that a chat template rendered."""
    turns = splitting(field(key), document[key])
    if turns is None or key in REPLIES:
        return "Give the messages that it was rendered from."
    replies = _given(document, REPLIES)
    said = ", ".join(f'{{role: "assistant", content: {field(reply)}}}' for reply in replies)
    split = f". + {{messages: ({turns} + [{said}])}} | del({', '.join(map(field, [key, *replies]))})"
    return f"To split it: {jq(EACH + split)}"


def _history(pairs: Any) -> list[Message]:
    """Return the earlier turns: pairs of what the user said and the reply."""
    if is_empty(pairs):
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise DialogError(f"'history' is {str(pairs)[:60]!r}; expected pairs of what the user said and the reply.")
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]


PAIRS = Format("pairs", "a prompt and its reply", '{"instruction": ..., "output": ...}', _matches, _read)
