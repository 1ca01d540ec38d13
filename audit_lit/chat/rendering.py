"""Render a dialog with a chat template, with a token span for each turn.

1. The chat template is rendered with a unique mark in place of each message, and split at the marks. That gives the
   template's own literal text before, between and after the messages, whatever the template.
2. A turn's span is its header, its text and its trailer. Text before the first header (BOS, a default system prompt)
   belongs to no turn and is never read. Tool calls belong to the text of a turn, and so does thinking, unless the
   template drops it, as many do in earlier turns: then the model does not see it, and no token belongs to it.
3. A token that touches a hidden turn by a single character counts as hidden.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

from audit_lit.chat.dialog import Dialog, RenderedDialog, Turn, is_hidden
from audit_lit.chat.messages import Message, read_dialog
from audit_lit.errors import DialogError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int, int, int]
"""Where a turn starts, its text starts, its text ends and the turn ends (see ``Turn``), in characters."""
THINKING = re.compile(r".*(?:</think>|</thinking>|\[/THINK\]|<\|END_THINKING\|>)\n*", re.DOTALL)
"""What an assistant thought before it replied."""


@dataclass(frozen=True)
class _Piece:
    """What a mark stands for: the text of a message without its thinking, or the name of a tool that it calls."""

    message: int
    text: str
    is_call: bool = False


def render(
    dialog: Dialog, tokenizer: PreTrainedTokenizerBase, *, enable_thinking: bool | None = None, show_bos: bool = False
) -> RenderedDialog:
    """Render a dialog with the tokenizer's chat template.

    It is ready for the next assistant turn if a user or a tool spoke last. A last turn that is marked as a prefill
    stays open: nothing follows its text.

    Args:
        dialog: The messages.
        tokenizer: The target's tokenizer.
        enable_thinking: The template's setting of this name; None leaves it to the template.
        show_bos: Whether the decoder may see the first token, if it is BOS: no text stands before it, so its activation
            is the same in every dialog.
    """
    if enable_thinking is not None:
        tokenizer = _with_settings(tokenizer, enable_thinking=enable_thinking)
    messages = read_dialog(dialog)
    _, pieces = _marked(messages)
    literals, text = _literals(messages, tokenizer), _template(messages, tokenizer)
    kept = _kept(text, pieces, literals)
    if messages[-1].get("prefill"):
        text, literals[-1] = text.removesuffix(literals[-1]), ""
    spans = _char_spans(messages, pieces, kept, literals, tokenizer)
    rendered = _to_tokens(text, messages, spans, tokenizer)
    return _with_bos(rendered, tokenizer) if show_bos else rendered


def _with_settings(tokenizer: PreTrainedTokenizerBase, **settings: Any) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer that gives these settings to its chat template."""
    changed: Any = copy.copy(tokenizer)
    changed.apply_chat_template = partial(tokenizer.apply_chat_template, **settings)
    return changed  # type: ignore[no-any-return]


def _template(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, generate: bool | None = None) -> str:
    if not tokenizer.chat_template:
        raise DialogError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no chat template; use an instruction-tuned model."
        )
    if generate is None:
        generate = messages[-1]["role"] in ("user", "tool")
    shown = [{key: message[key] for key in message if key not in ("hidden", "prefill")} for message in messages]
    try:
        rendered = tokenizer.apply_chat_template(shown, tokenize=False, add_generation_prompt=generate)
    except Exception as err:  # jinja2 errors: roles that must alternate, no system role, ...
        raise DialogError(f"the chat template refuses this order of roles: {err}.") from err
    return str(rendered)


def _marked(messages: Sequence[Message]) -> tuple[list[Message], list[_Piece]]:
    """Return the messages with a mark in place of each piece, and the pieces in their order."""
    pieces: list[_Piece] = []

    def mark(piece: _Piece) -> str:
        pieces.append(piece)
        return _mark(len(pieces) - 1)

    marked = []
    for index, message in enumerate(messages):
        changed, content = dict(message), message["content"]
        if content:
            thinking = _thinking(message)
            changed["content"] = thinking + mark(_Piece(index, content[len(thinking) :]))
        if "tool_calls" in message:
            functions = [call["function"] for call in message["tool_calls"]]
            renamed = [{**function, "name": mark(_Piece(index, function["name"], True))} for function in functions]
            calls = zip(message["tool_calls"], renamed, strict=True)
            changed["tool_calls"] = [{**call, "function": function} for call, function in calls]
        marked.append(changed)
    return marked, pieces


def _mark(number: int) -> str:
    return f"\u27e6turn{number}\u27e7"


def _thinking(message: Message) -> str:
    """Return what an assistant thought, with the mark that ends it."""
    match = THINKING.match(message["content"]) if message["role"] == "assistant" else None
    return match[0] if match else ""


def _literals(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, generate: bool | None = None
) -> list[str]:
    """Return the template's own text before, between and after the pieces of the messages."""
    marked, pieces = _marked(messages)
    text = _template(marked, tokenizer, generate)
    marks = list(map(_mark, range(len(pieces))))
    rendered = re.findall("|".join(marks), text)
    if rendered == marks:
        return re.split("|".join(marks), text)
    dropped = [piece for mark, piece in zip(marks, pieces, strict=True) if mark not in rendered]
    if dropped and dropped[0].is_call:
        raise DialogError(
            f"message {dropped[0].message} (assistant) holds tool calls, which this chat template does not render; "
            "expected a target whose template does. Leave the dialog out, or end it before this message."
        )
    raise DialogError("the chat template drops, repeats or reorders messages; expected each once, in order.")


def _kept(text: str, pieces: Sequence[_Piece], literals: Sequence[str]) -> list[str]:
    """Return the pieces as they stand in the text: unchanged or trimmed; some templates trim some roles only."""
    kept: list[str] = []
    cursor = len(literals[0])
    for piece, literal in zip(pieces, literals[1:], strict=True):
        kept.append(piece.text if text.startswith(piece.text + literal, cursor) else piece.text.strip())
        cursor += len(kept[-1] + literal)
    if text != literals[0] + "".join(piece + literal for piece, literal in zip(kept, literals[1:], strict=True)):
        raise DialogError(
            "the chat template rewrites this dialog, so no token can be attributed to a turn; "
            "expected a template that inserts messages as they are. Give the tokenizer another chat_template."
        )
    return kept


def _char_spans(
    messages: Sequence[Message],
    pieces: Sequence[_Piece],
    kept: Sequence[str],
    literals: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Span]:
    """Return the span of each message in the text that its pieces and the literals make up."""
    spans: list[Span] = []
    cursor = len(literals[0])
    start = cursor - len(_first_header(messages[0]["role"], literals, tokenizer))
    for index, message in enumerate(messages):
        rows = [row for row, piece in enumerate(pieces) if piece.message == index]
        before, after = literals[rows[0]], literals[rows[-1] + 1]
        last = cursor + len("".join(kept[row] + literals[row + 1] for row in rows)) - len(after)
        text_start, text_end = cursor, last
        end = last + _trailer(messages[: index + 1], after, tokenizer)
        if _thinking(message) or "tool_calls" in message:
            headers = [before[len(before) - (cursor - start) :], _generation_prompt(tokenizer)]
            header = commonprefix(headers)  # noqa: RUF071 - characters are meant
            text_start = start + len(header)
        if "tool_calls" in message:
            text_end = end - len(_closing(after[: end - last], tokenizer))
        spans.append((start, text_start, text_end, end))
        start, cursor = end, last + len(after)
    return spans


def _trailer(messages: Sequence[Message], literal: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the length of the part of ``literal`` that closes the last message; the next header follows it."""
    try:
        closed = _literals(messages, tokenizer, generate=False)[-1]
    except DialogError:  # a system prompt that the template puts inside the user turn cannot stand alone
        return len(literal)
    return len(closed) if literal.startswith(closed) else 0


def _sample(*roles: str) -> list[Message]:
    return [{"role": role, "content": role} for role in roles]


def _first_header(role: str, literals: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the first turn's header without what the template puts before it (BOS, a default system prompt)."""
    if role != "user":
        return ""
    before = _literals(_sample("user", "assistant"), tokenizer, generate=False)[-1]
    header = _literals(_sample("user", "assistant", "user"), tokenizer)[2].removeprefix(before)
    return header if literals[0].endswith(header) else ""


def _generation_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    closed, opened = (_literals(_sample("user"), tokenizer, generate)[-1] for generate in (False, True))
    return opened.removeprefix(closed)


def _closing(literal: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what closes an assistant's turn, where the literal ends with it."""
    closing = _literals(_sample("user", "assistant"), tokenizer, generate=False)[-1]
    return closing if literal.endswith(closing) else ""


def _to_tokens(
    text: str, messages: Sequence[Message], spans: list[Span], tokenizer: PreTrainedTokenizerBase
) -> RenderedDialog:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]

    def position(char: int) -> int:
        return next((index for index, (_, end) in enumerate(offsets) if end > char), len(offsets))

    turns = tuple(
        Turn(message["role"], text[span[1] : span[2]], is_hidden(message), *map(position, span))
        for message, span in zip(messages, spans, strict=True)
    )
    hidden = [(0, spans[0][0])]
    hidden += [(start, end) for (start, *_, end), turn in zip(spans, turns, strict=True) if turn.hidden]
    visible = tuple(  # a token without a character (some tokenizers trim spaces) cannot be placed, so it is not shown
        start < end and not any(start < hidden_end and end > hidden_start for hidden_start, hidden_end in hidden)
        for start, end in offsets
    )
    return RenderedDialog(text, tuple(encoded["input_ids"]), turns, visible)


def _with_bos(rendered: RenderedDialog, tokenizer: PreTrainedTokenizerBase) -> RenderedDialog:
    """Return a dialog whose first token may be seen, if it is BOS and belongs to no turn."""
    is_bos = rendered.token_ids[:1] == (tokenizer.bos_token_id,) and rendered.turns[0].start > 0
    return replace(rendered, visible=(True, *rendered.visible[1:])) if is_bos else rendered
