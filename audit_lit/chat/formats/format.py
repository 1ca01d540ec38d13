"""What a format is: how its documents are told from others, and how their messages are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from audit_lit.chat.messages import Message, is_empty, read_dialog, read_system, with_tools, words
from audit_lit.chat.suggestions import without
from audit_lit.chat.tools import KEYS, read_tools
from audit_lit.errors import DialogError

SYSTEM_KEYS = ("system", "system_prompt", "system_message", "systemPrompt")
"""Keys beside the messages that hold a system prompt."""
REQUEST = words(
    "temperature top_p top_k min_p max_tokens max_completion_tokens max_output_tokens max_tool_calls n stop "
    "stop_sequences stream stream_options seed random_seed presence_penalty frequency_penalty repetition_penalty "
    "logit_bias logprobs top_logprobs tool_choice function_call parallel_tool_calls store service_tier "
    "reasoning_effort verbosity prompt_cache_key prompt_cache_retention safety_identifier safe_prompt "
    "anthropic_version betas max_tokens_to_sample keep_alive inferenceConfig guardrailConfig modelId"
)
"""Settings of a request, which are not part of the prompt."""
METADATA = words(
    "id uuid _id idx index key custom_id conversation_id conversation_hash dialog_id prompt_id sample_id question_id "
    "weight metadata meta extra info source dataset subset split domain category topic task task_name tags tag labels "
    "label type kind title url license version model model_name model_a lang language timestamp created created_at "
    "date time updated_at turn num_turns n_turns num_tokens tokens length token_count score rating quality reward "
    "user_id user name author country state hashed_ip header toxic redacted openai_moderation detoxify_moderation "
    "toxicity uid guid hash qid conv_id session_id thread_id trace_id run_id request_id message_id chat_id example_id "
    "row_id batch_id dialogue_id conversationId sessionId chatId requestId createdAt updatedAt object avatarUrl views "
    "usage finish_reason model_b model_name dataset_name original_id source_id winner judge anony "
    "skip_prompt_formatting trigger"
)
"""Keys beside the messages that say where a dialog comes from, and nothing that the model read."""


@dataclass(frozen=True)
class Format:
    """A layout in which people have dialogs.

    Attributes:
        name: What ``--format`` calls it.
        title: What a person calls it.
        expected: What a document looks like, for error messages.
        matches: Whether a JSON document is one.
        read: Returns its messages; raises ``DialogError`` for content that is not read.
    """

    name: str
    title: str
    expected: str
    matches: Callable[[Any], bool]
    read: Callable[[Any], tuple[Message, ...]]


def read_turns(
    document: Mapping[str, Any], key: str, turns: Any, *, harmless: Iterable[str] = (), system: Iterable[str] = ()
) -> tuple[Message, ...]:
    """Return the messages of the turns that stand under a key of a document, after the system prompt beside them.

    Raises:
        DialogError: If another key holds what may be content: one that is not empty, not in ``METADATA``, not in
            ``harmless``, and whose text does not stand in a message already.
    """
    messages = read_dialog(turns)
    tool_keys = [name for name in KEYS if name not in harmless and not is_empty(document.get(name))]
    prompts = [name for name in (*SYSTEM_KEYS, *system) if not is_empty(document.get(name))]
    if prompts:
        prompt = read_system(document[prompts[0]])
        messages = messages if prompt and prompt[0] in messages else (*prompt, *messages)
    refuse_unread(document, {key, *prompts[:1], *tool_keys}, harmless, messages)
    return with_tools(messages, [tool for name in tool_keys for tool in read_tools(document[name], f"the {name}")])


def refuse_unread(
    document: Mapping[str, Any], read: Iterable[str], harmless: Iterable[str], messages: Iterable[Message]
) -> None:
    """Raise ``DialogError`` if a key of a document holds what may be content, and was not read."""
    texts = {message["content"].strip() for message in messages}
    unread = [
        name
        for name, value in document.items()
        if name not in {*read, *harmless, *METADATA}
        and not is_empty(value)
        and not (name == "response_format" and is_plain(value))
        and not (name == "options" and isinstance(value, Mapping))  # Ollama's settings
        and not (isinstance(value, str) and value.strip() in texts)
    ]
    if unread:
        raise DialogError(
            f"the keys {unread} beside {', '.join(sorted(read))} are not read; expected none that the model may have "
            f"read. Put what it read into the messages. If it read none of it: {without(unread)}"
        )


def is_plain(response_format: Any) -> bool:
    """Return whether the form of a reply is asked for without a schema, which may hold words."""
    return isinstance(response_format, Mapping) and response_format.get("type") in ("text", "json_object")
