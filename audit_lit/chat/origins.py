"""Messages as libraries write them, under the keys that OpenAI's have.

LangChain: ``{"type": "human", "data": {...}}`` or ``{"lc": 1, "kwargs": {"type": "human", ...}}``, with what is left of
a provider's message in ``additional_kwargs``. Vercel's AI SDK: ``parts``. LlamaIndex: ``blocks``. What a key holds
beside the content is read with it, unless it says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WRAPPERS = ("kwargs", "data")
"""Keys under which LangChain holds a message."""
PARTS = ("parts", "blocks")
WITHOUT_CONTENT = ("step-start",)
"""Types of the AI SDK's parts that hold nothing."""


def in_plain_keys(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message under ``role``, ``content`` and further keys of OpenAI's messages."""
    for key in WRAPPERS:
        if isinstance(message.get(key), Mapping) and "role" not in message and "content" in message[key]:
            message = {"type": message.get("type"), **message[key]}
    more = message.get("additional_kwargs")
    if isinstance(more, Mapping):
        message = {**more, **{key: value for key, value in message.items() if key != "additional_kwargs"}}
    fields = dict(message)
    fields["role"] = message.get("role") or message.get("type")
    for key in PARTS:
        if isinstance(parts := message.get(key), list) and parts:
            fields[key] = _read_once(fields, [_part(part) for part in parts])
    return {key: value for key, value in fields.items() if key not in PARTS or value}


def _read_once(fields: dict[str, Any], parts: list[Any]) -> list[Any]:
    """Put parts in the place of a content that is missing or the same; return what is left of them."""
    kept = [part for part in parts if not (isinstance(part, dict) and part.get("type") in WITHOUT_CONTENT)]
    texts = [part.get("text") for part in kept if isinstance(part, dict)]
    content = fields.get("content")
    if content and [content] != texts and "\n".join(map(str, texts)) != content:
        return kept
    fields["content"] = kept
    return []


def _part(part: Any) -> Any:
    """Return a part with its type under OpenAI's key."""
    if not isinstance(part, Mapping) or "block_type" not in part:
        return part
    return {"type": part["block_type"], **{key: value for key, value in part.items() if key != "block_type"}}
