"""Render a dialog with a chat template, with a token span for each turn.

1. The chat template is rendered with a unique mark in place of each message, and split at the marks. That gives the
   template's own literal text before, between and after the messages, whatever the template.
2. A turn's span is its header, its text and its trailer. Text before the first header (BOS, a default system prompt)
   belongs to no turn and is never read.
3. A token that touches a hidden turn by a single character counts as hidden.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from audit_lit.chat.dialog import Dialog, RenderedDialog, Turn, check_dialog, is_hidden
from audit_lit.errors import DialogError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int, int, int]
"""Where a turn starts, its text starts, its text ends and the turn ends (see ``Turn``), in characters."""


def render(dialog: Dialog, tokenizer: PreTrainedTokenizerBase) -> RenderedDialog:
    """Render a dialog with the tokenizer's chat template, ready for the next assistant turn if a user spoke last."""
    check_dialog(dialog)
    roles = [message["role"] for message in dialog]
    literals = _literals(roles, tokenizer)
    text = _template([{"role": message["role"], "content": message["content"]} for message in dialog], tokenizer)
    contents = _contents(text, [message["content"] for message in dialog], literals)
    spans = _char_spans(roles, literals, contents, tokenizer)
    return _to_tokens(text, dialog, contents, spans, tokenizer)


def _template(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, generate: bool | None = None) -> str:
    if not tokenizer.chat_template:
        raise DialogError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; use an instruction-tuned model."
        )
    if generate is None:
        generate = messages[-1]["role"] == "user"
    try:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
    except Exception as err:  # jinja2 errors: roles that must alternate, no system role, ...
        raise DialogError(f"the chat template refuses this order of roles: {err}.") from err
    return str(rendered)


def _literals(roles: list[str], tokenizer: PreTrainedTokenizerBase, generate: bool | None = None) -> list[str]:
    """Return the template's own text before, between and after the messages."""
    marks = [f"\u27e6turn{index}\u27e7" for index in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    text = _template(messages, tokenizer, generate)
    if re.findall("|".join(marks), text) != marks:
        raise DialogError("the chat template drops, repeats or reorders messages; expected each once, in order.")
    return re.split("|".join(marks), text)


def _contents(text: str, contents: list[str], literals: list[str]) -> list[str]:
    """Return the messages as they stand in the text: unchanged or trimmed; some templates trim some roles only."""
    kept: list[str] = []
    cursor = len(literals[0])
    for content, literal in zip(contents, literals[1:], strict=True):
        kept.append(content if text.startswith(content + literal, cursor) else content.strip())
        cursor += len(kept[-1] + literal)
    if text != literals[0] + "".join(content + literal for content, literal in zip(kept, literals[1:], strict=True)):
        raise DialogError(
            "the chat template rewrites this dialog, so no token can be attributed to a turn; "
            "expected a template that inserts messages as they are. Give the tokenizer another chat_template."
        )
    return kept


def _char_spans(
    roles: list[str], literals: list[str], contents: list[str], tokenizer: PreTrainedTokenizerBase
) -> list[Span]:
    spans, cursor = [], len(literals[0])
    previous_end = cursor - len(_first_header(roles[0], literals, tokenizer))
    for index, content in enumerate(contents):
        text_end = cursor + len(content)
        end = text_end + _trailer(roles[: index + 1], literals[index + 1], tokenizer)
        spans.append((previous_end, cursor, text_end, end))
        previous_end = end
        cursor = text_end + len(literals[index + 1])
    return spans


def _trailer(roles: list[str], literal: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the length of the part of ``literal`` that closes the last of ``roles``; the next header follows it."""
    try:
        closed = _literals(roles, tokenizer, generate=False)[-1]
    except DialogError:  # a system prompt that the template puts inside the user turn cannot stand alone
        return len(literal)
    return len(closed) if literal.startswith(closed) else 0


def _first_header(role: str, literals: list[str], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the first turn's header without what the template puts before it (BOS, a default system prompt)."""
    if role != "user":
        return ""
    before = _literals(["user", "assistant"], tokenizer, generate=False)[-1]
    header = _literals(["user", "assistant", "user"], tokenizer)[2].removeprefix(before)
    return header if literals[0].endswith(header) else ""


def _to_tokens(
    text: str, dialog: Dialog, contents: list[str], spans: list[Span], tokenizer: PreTrainedTokenizerBase
) -> RenderedDialog:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]

    def position(char: int) -> int:
        return next((index for index, (_, end) in enumerate(offsets) if end > char), len(offsets))

    turns = tuple(
        Turn(message["role"], content, is_hidden(message), *map(position, span))
        for message, content, span in zip(dialog, contents, spans, strict=True)
    )
    hidden = [(0, spans[0][0])]
    hidden += [(start, end) for (start, *_, end), turn in zip(spans, turns, strict=True) if turn.hidden]
    visible = tuple(  # a token without a character (some tokenizers trim spaces) cannot be placed, so it is not shown
        start < end and not any(start < hidden_end and end > hidden_start for hidden_start, hidden_end in hidden)
        for start, end in offsets
    )
    return RenderedDialog(text, tuple(encoded["input_ids"]), turns, visible)
