"""A dialog, rendered to tokens with a span per turn, and the positions that a decoder may see.

1. The chat template is rendered with a unique mark in place of each message, and split at the marks: that gives the
   template's own literal text before, between and after the messages, whatever the template.
2. A turn's span is its header, its text and its trailer; text before the first header (BOS, a default system
   prompt) belongs to no turn and is never read.
3. A token that touches a hidden turn by a single character counts as hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audit_lit.errors import DialogError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")

Dialog = Sequence[Mapping[str, Any]]
"""Messages ``{"role", "content"}``; ``"hidden": True`` runs in the target and is never shown to the decoder."""

Reveal = str | Sequence[int]
"""``"user"``, ``"assistant"`` (the last such turn), ``"last:K"`` (last K visible tokens), or token positions."""


@dataclass(frozen=True)
class Turn:
    """One message and where its tokens are: ``start <= text_start < text_end <= end`` (token positions)."""

    role: str
    content: str
    hidden: bool
    start: int
    text_start: int
    text_end: int
    end: int


@dataclass(frozen=True)
class Rendered:
    """A dialog as the target reads it.

    Attributes:
        text: The rendered chat template.
        token_ids: Its tokens, no special token added.
        turns: The messages with their token spans.
        visible: Per token, whether the decoder may see its activation.
        generation_start: Position of the generation prompt; the number of tokens if there is none.
    """

    text: str
    token_ids: tuple[int, ...]
    turns: tuple[Turn, ...]
    visible: tuple[bool, ...]
    generation_start: int

    @property
    def visible_text(self) -> str:
        """What an observer of the conversation reads: the messages that are not hidden."""
        return "\n".join(f"{turn.role}: {turn.content}" for turn in self.turns if not turn.hidden)

    @property
    def n_hidden(self) -> int:
        """Number of tokens before the first visible one, BOS not counted."""
        return max(0, self.visible.index(True) - 1) if any(self.visible) else 0


def check_dialog(dialog: Any) -> None:
    """Raise if a dialog is not a list of messages.

    Raises:
        DialogError: If it is empty, has an unknown role, a text that is no string, or only empty texts.
    """
    if not isinstance(dialog, list | tuple) or not all(isinstance(message, Mapping) for message in dialog):
        raise DialogError('got something else than a list of messages; expected [{"role": "user", "content": "..."}].')
    if not dialog:
        raise DialogError(
            'the dialog is empty; expected at least one message such as {"role": "user", "content": "Hi"}.'
        )
    for index, message in enumerate(dialog):
        if message.get("role") not in ROLES:
            raise DialogError(f"message {index} has role {message.get('role')!r}; expected one of {', '.join(ROLES)}.")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise DialogError(
                f"message {index} ({message['role']}) has no text; expected a non-empty string in 'content'."
            )
        if extra := set(message) - {"role", "content", "hidden"}:
            raise DialogError(f"message {index} has unknown keys {sorted(extra)}; expected role, content and hidden.")


def is_hidden(message: Mapping[str, Any]) -> bool:
    """Return whether a message is kept from the decoder: as marked, else system turns are."""
    return bool(message.get("hidden", message["role"] == "system"))


def render(dialog: Dialog, tokenizer: PreTrainedTokenizerBase) -> Rendered:
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
) -> Rendered:
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
    return Rendered(text, tuple(encoded["input_ids"]), turns, visible, at(last))


def reveal_positions(rendered: Rendered, reveal: Reveal = "user") -> tuple[int, ...]:
    """Return the token positions that ``reveal`` names, hidden ones never among them.

    A user turn takes the header of the reply with it, and a turn that ends the dialog the generation prompt: the
    model's state right before it speaks.

    Raises:
        DialogError: If nothing is selected, the name is unknown, or a position is hidden or out of range.
    """
    if not isinstance(reveal, str):
        return _explicit(rendered, reveal)
    chosen: Sequence[int]
    if reveal in ("user", "assistant"):
        turn = next((turn for turn in reversed(rendered.turns) if turn.role == reveal and not turn.hidden), None)
        chosen = range(turn.start, _end_with_header(rendered, turn)) if turn else range(0)
    elif match := re.fullmatch(r"last:(\d+)", reveal):
        shown = [index for index, visible in enumerate(rendered.visible) if visible]
        chosen = shown[-int(match[1]) :] if int(match[1]) else []
    else:
        raise DialogError(f"reveal={reveal!r} is unknown; expected 'user', 'assistant', 'last:K' or token positions.")
    positions = tuple(index for index in chosen if rendered.visible[index])
    if not positions:
        roles = ", ".join(f"{turn.role}{' (hidden)' if turn.hidden else ''}" for turn in rendered.turns)
        raise DialogError(
            f"reveal={reveal!r} selects nothing; the dialog has the turns: {roles}. Reveal a visible one."
        )
    return positions


def _end_with_header(rendered: Rendered, turn: Turn) -> int:
    """Return where a turn ends, with the header of an assistant turn that follows it, or the generation prompt."""
    after = rendered.turns[rendered.turns.index(turn) + 1 :]
    if not after:
        return len(rendered.token_ids)
    return after[0].text_start if (turn.role, after[0].role) == ("user", "assistant") else turn.end


def _explicit(rendered: Rendered, positions: Sequence[int]) -> tuple[int, ...]:
    n_tokens = len(rendered.token_ids)
    if not positions:
        raise DialogError(f"reveal names no position and so selects nothing; expected some of 0-{n_tokens - 1}.")
    for position in positions:
        if not -n_tokens <= position < n_tokens:
            raise DialogError(f"position {position} is outside the dialog's {n_tokens} tokens; use 0-{n_tokens - 1}.")
        if not rendered.visible[position]:
            raise DialogError(
                f"position {position} is in a hidden turn, which the decoder must not see; reveal another."
            )
    return tuple(sorted({position % n_tokens for position in positions}))
