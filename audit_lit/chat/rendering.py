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


def render(dialog: Dialog, tokenizer: PreTrainedTokenizerBase) -> RenderedDialog:
    """Render a dialog with the tokenizer's chat template, ready for the next assistant turn if a user spoke last.

    Raises:
        DialogError: If the dialog is malformed or the template cannot hold it.
    """
    check_dialog(dialog)
    literals = _literals([message["role"] for message in dialog], tokenizer)
    text = _template([{"role": m["role"], "content": m["content"]} for m in dialog], tokenizer)
    contents = _contents(text, [message["content"] for message in dialog], literals)
    spans = _char_spans(dialog, literals, contents, tokenizer)
    return _to_tokens(text, dialog, contents, spans, tokenizer)


def _template(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, generate: bool | None = None) -> str:
    if not tokenizer.chat_template:
        raise DialogError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; use an instruction-tuned model."
        )
    ready = messages[-1]["role"] == "user" if generate is None else generate
    try:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ready)
    except Exception as err:  # jinja2 errors: roles that must alternate, no system role, ...
        raise DialogError(f"the chat template refuses this order of roles: {err}.") from err
    return str(rendered)


def _literals(roles: list[str], tokenizer: PreTrainedTokenizerBase, generate: bool | None = None) -> list[str]:
    """The template's own text before, between and after the messages."""
    marks = [f"\u27e6turn{index}\u27e7" for index in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    text = _template(messages, tokenizer, generate)
    if re.findall("|".join(marks), text) != marks:
        raise DialogError("the chat template drops, repeats or reorders messages; expected each once, in order.")
    return re.split("|".join(marks), text)


def _contents(text: str, contents: list[str], literals: list[str]) -> list[str]:
    """The messages as they stand in the text: as given, or trimmed; some templates trim some roles only."""
    found: list[str] = []
    cursor = len(literals[0])
    for content, literal in zip(contents, literals[1:], strict=True):
        kept = content if text.startswith(content + literal, cursor) else content.strip()
        found.append(kept)
        cursor += len(kept + literal)
    if text != literals[0] + "".join(c + lit for c, lit in zip(found, literals[1:], strict=True)):
        raise DialogError(
            "the chat template rewrites this dialog, so no token can be attributed to a turn; "
            "expected a template that inserts messages as they are. Give the tokenizer another chat_template."
        )
    return found


def _char_spans(
    dialog: Dialog, literals: list[str], contents: list[str], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[int, int, int, int]]:
    """Per turn: start of header, start of text, end of text, end of trailer (characters)."""
    roles = [message["role"] for message in dialog]
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
    """Length of the part of ``literal`` that closes the last of ``roles``; the rest is the next turn's header."""
    try:
        closed = _literals(roles, tokenizer, generate=False)[-1]
    except DialogError:  # a system prompt that the template puts inside the user turn cannot stand alone
        return len(literal)
    return len(closed) if literal.startswith(closed) else 0


def _first_header(role: str, literals: list[str], tokenizer: PreTrainedTokenizerBase) -> str:
    """The header of a first turn without what the template puts before it (BOS, a default system prompt)."""
    if role != "user":
        return ""
    before = _literals(["user", "assistant"], tokenizer, generate=False)[-1]
    header = _literals(["user", "assistant", "user"], tokenizer)[2].removeprefix(before)
    return header if literals[0].endswith(header) else ""


def _to_tokens(
    text: str,
    dialog: Dialog,
    contents: list[str],
    spans: list[tuple[int, int, int, int]],
    tokenizer: PreTrainedTokenizerBase,
) -> RenderedDialog:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]

    def at(char: int) -> int:
        return next((index for index, (_, end) in enumerate(offsets) if end > char), len(offsets))

    turns = tuple(
        Turn(message["role"], content, is_hidden(message), *(at(char) for char in span))
        for message, content, span in zip(dialog, contents, spans, strict=True)
    )
    first, last = spans[0][0], spans[-1][3]
    secret = [(0, first)] + [(s[0], s[3]) for s, m in zip(spans, dialog, strict=True) if is_hidden(m)]
    # A token without a span (some tokenizers trim spaces) cannot be placed, so it is not shown.
    visible = tuple(start < end and not any(start < hi and end > lo for lo, hi in secret) for start, end in offsets)
    return RenderedDialog(text, tuple(encoded["input_ids"]), turns, visible, at(last))
