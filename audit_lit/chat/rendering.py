"""Render a dialog with a chat template, with a token span for each turn.

1. The chat template is rendered with a unique mark in place of each message, and split at the marks. That gives the
   template's own literal text before, between and after the messages, whatever the template.
2. A turn's span is its header, its text and its trailer. Text before the first header (BOS, a default system prompt)
   belongs to no turn and is never read. Tool calls belong to the text of a turn, and so does thinking, unless the
   template drops it, as many do in earlier turns: then the model does not see it, and no token belongs to it.
3. What the template says of the tools that the model may call belongs to no visible turn: it is what the template adds
   to its literal text when it gets the tools.
4. A token that touches a hidden turn, or what is said of tools, by a single character counts as hidden.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

from audit_lit.chat.dialog import Dialog, RenderedDialog, Turn, is_hidden
from audit_lit.chat.messages import Message, read_dialog
from audit_lit.chat.suggestions import jq
from audit_lit.chat.template import Template
from audit_lit.chat.tools import DROP
from audit_lit.errors import DialogError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int, int, int]
"""Where a turn starts, its text starts, its text ends and the turn ends (see ``Turn``), in characters."""
THINKING = re.compile(r".*(?:</think>|</thinking>|\[/THINK\]|<\|END_THINKING\|>)\n*", re.DOTALL)
"""What an assistant thought before it replied."""
CALLS_AS_TEXT = jq(
    "(..|objects|select(.tool_calls|arrays)) |= (.content = ([(.content // empty), (.tool_calls[].function|tojson)] | "
    'map(select(. != "")) | join("\\n")) | del(.tool_calls))'
)
"""The command that writes tool calls in OpenAI's form into the text of their messages."""


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
    messages = read_dialog(dialog)
    tools = [tool for message in messages for tool in message.get("tools", ())]
    template = Template(tokenizer, tools, enable_thinking)
    _, pieces = _marked(messages)
    literals, text = _literals(messages, template), template(messages)
    kept = _kept(text, pieces, literals)
    about_tools = _about_tools(messages, pieces, kept, literals, template) if template.tools else []
    if messages[-1].get("prefill"):
        text, literals[-1] = text.removesuffix(literals[-1]), ""
    spans = _char_spans(messages, pieces, kept, literals, template)
    rendered = _to_tokens(text, messages, spans, about_tools, tokenizer)
    return _with_bos(rendered, tokenizer) if show_bos else rendered


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


def _literals(messages: Sequence[Message], template: Template, generate: bool | None = None) -> list[str]:
    """Return the template's own text before, between and after the pieces of the messages."""
    marked, pieces = _marked(messages)
    text = template(marked, generate)
    marks = list(map(_mark, range(len(pieces))))
    rendered = re.findall("|".join(marks), text)
    if rendered == marks:
        return re.split("|".join(marks), text)
    dropped = [piece for mark, piece in zip(marks, pieces, strict=True) if mark not in rendered]
    if dropped and dropped[0].is_call:
        raise DialogError(
            f"message {dropped[0].message} (assistant) holds tool calls, which this chat template does not render; "
            "expected a target whose template does. Leave the dialog out, or end it before this message. To write the "
            f"calls as text: {CALLS_AS_TEXT}"
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


def _about_tools(
    messages: Sequence[Message],
    pieces: Sequence[_Piece],
    kept: Sequence[str],
    literals: Sequence[str],
    template: Template,
) -> list[tuple[int, int]]:
    """Return the spans, in characters, of what the template says of tools: where its text differs from that without."""
    bare = replace(template, tools=())
    plain = _literals(messages, bare)
    if plain == list(literals):
        raise DialogError(
            "the dialog comes with 'tools', which this chat template does not render, so that the target does not see "
            f"them; expected a target whose template does. {DROP}"
        )
    spans: list[tuple[int, int]] = []
    cursor = 0
    for row, (literal, without) in enumerate(zip(literals, plain, strict=True)):
        if literal != without:
            turns = messages[: pieces[row - 1].message + 1]
            start, end = _added(literal, without, _trailer(turns, without, bare) if row else 0)
            spans.append((cursor + start, cursor + end))
        cursor += len(literal) + (len(kept[row]) if row < len(kept) else 0)
    return spans


def _added(literal: str, without: str, border: int) -> tuple[int, int]:
    """Return where a text differs from one without what was added; at a border, where the two alone leave it open."""
    before = len(commonprefix([literal, without]))  # noqa: RUF071 - characters are meant
    after = len(commonprefix([literal[::-1], without[::-1]]))  # noqa: RUF071
    before = min(before, max(border, len(without) - after))
    return before, len(literal) - min(after, len(without) - before)


def _char_spans(
    messages: Sequence[Message],
    pieces: Sequence[_Piece],
    kept: Sequence[str],
    literals: Sequence[str],
    template: Template,
) -> list[Span]:
    """Return the span of each message in the text that its pieces and the literals make up."""
    spans: list[Span] = []
    trailers: dict[tuple[Any, ...], int] = {}
    cursor = len(literals[0])
    start = cursor - len(_first_header(messages[0]["role"], literals, template))
    for index, message in enumerate(messages):
        rows = [row for row, piece in enumerate(pieces) if piece.message == index]
        before, after = literals[rows[0]], literals[rows[-1] + 1]
        last = cursor + len("".join(kept[row] + literals[row + 1] for row in rows)) - len(after)
        text_start, text_end = cursor, last
        kind = (message["role"], "tool_calls" in message, bool(_thinking(message)), after)
        if kind not in trailers:
            trailers[kind] = _trailer(messages[: index + 1], after, template)
        end = last + trailers[kind]
        if _thinking(message) or "tool_calls" in message:
            headers = [before[len(before) - (cursor - start) :], _generation_prompt(template)]
            header = commonprefix(headers)  # noqa: RUF071 - characters are meant
            text_start = start + len(header)
        if "tool_calls" in message:
            text_end = end - len(_closing(after[: end - last], template))
        spans.append((start, text_start, text_end, end))
        start, cursor = end, last + len(after)
    return spans


def _trailer(messages: Sequence[Message], literal: str, template: Template) -> int:
    """Return the length of the part of ``literal`` that closes the last message; the next header follows it."""
    try:
        closed = _literals(messages, template, generate=False)[-1]
    except DialogError:  # a system prompt that the template puts inside the user turn cannot stand alone
        return len(literal)
    return len(closed) if literal.startswith(closed) else 0


def _sample(*roles: str) -> list[Message]:
    return [{"role": role, "content": role} for role in roles]


def _first_header(role: str, literals: Sequence[str], template: Template) -> str:
    """Return the first turn's header without what the template puts before it (BOS, a default system prompt)."""
    if role != "user":
        return ""
    before = _literals(_sample("user", "assistant"), template, generate=False)[-1]
    header = _literals(_sample("user", "assistant", "user"), template)[2].removeprefix(before)
    return header if literals[0].endswith(header) else ""


def _generation_prompt(template: Template) -> str:
    closed, opened = (_literals(_sample("user"), template, generate)[-1] for generate in (False, True))
    return opened.removeprefix(closed)


def _closing(literal: str, template: Template) -> str:
    """Return what closes an assistant's turn, where the literal ends with it."""
    closing = _literals(_sample("user", "assistant"), template, generate=False)[-1]
    return closing if literal.endswith(closing) else ""


def _to_tokens(
    text: str,
    messages: Sequence[Message],
    spans: Sequence[Span],
    about_tools: Sequence[tuple[int, int]],
    tokenizer: PreTrainedTokenizerBase,
) -> RenderedDialog:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]

    ends = list(accumulate((end for _, end in offsets), max))

    def position(char: int) -> int:
        return bisect_right(ends, char)

    turns = tuple(
        Turn(message["role"], text[span[1] : span[2]], is_hidden(message), *map(position, span))
        for message, span in zip(messages, spans, strict=True)
    )
    hidden = [(0, spans[0][0]), *(span for span in about_tools if span[0] < span[1])]
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
