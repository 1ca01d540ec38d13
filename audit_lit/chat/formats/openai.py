"""OpenAI's chat: requests, lines of a batch, fine-tuning files, and the messages alone; and Anthropic's requests."""

from __future__ import annotations

from typing import Any

from audit_lit.chat.formats.format import SYSTEM_KEYS, Format, read_turns
from audit_lit.chat.messages import Message, is_empty, read_dialog, words

REQUEST = words(
    "temperature top_p top_k max_tokens max_completion_tokens n stop stop_sequences stream stream_options seed "
    "presence_penalty frequency_penalty logit_bias logprobs top_logprobs tool_choice parallel_tool_calls store "
    "service_tier reasoning_effort anthropic_version"
)
"""Settings of a request, which are not part of the prompt."""
BATCH = words("custom_id method url")


def _messages(document: Any) -> bool:
    return isinstance(document, dict) and "messages" in document


def _is_anthropic(document: Any) -> bool:
    return _messages(document) and any(not is_empty(document.get(key)) for key in SYSTEM_KEYS)


def _is_openai(document: Any) -> bool:
    return _messages(document) or (isinstance(document, dict) and _messages(document.get("body")))


def _read(document: dict[str, Any]) -> tuple[Message, ...]:
    return read_turns(document, "messages", document["messages"], harmless=REQUEST)


def _read_openai(document: dict[str, Any]) -> tuple[Message, ...]:
    if "messages" in document:
        return _read(document)
    body = document["body"]
    return read_turns({**document, **body}, "messages", body["messages"], harmless={*REQUEST, *BATCH, "body"})


OPENAI = Format("openai", "OpenAI chat", '{"messages": [{"role": ..., "content": ...}]}', _is_openai, _read_openai)
ANTHROPIC = Format(
    "anthropic",
    "Anthropic chat",
    '{"system": ..., "messages": [{"role": ..., "content": ...}]}',
    _is_anthropic,
    _read,
)
MESSAGES = Format(
    "messages",
    "a list of messages",
    '[{"role": ..., "content": ...}]',
    lambda document: isinstance(document, list | tuple),
    read_dialog,
)
