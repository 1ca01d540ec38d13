"""A dialog: messages, and their turns once they are rendered to tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Dialog = Sequence[Mapping[str, Any]]
"""Messages ``{"role", "content"}``; ``"hidden": True`` runs in the target and is never shown to the decoder.

See ``chat.messages.read_dialog`` for the other forms that messages may have.
"""
Reveal = str | Sequence[int]
"""``"user"``, ``"assistant"`` (the last such turn), ``"last:K"`` (last K visible tokens), or token positions."""


@dataclass(frozen=True)
class Turn:
    """A message and the positions of its tokens.

    ``start`` to ``text_start`` is its header, ``text_start`` to ``text_end`` its text, and ``text_end`` to ``end`` what
    closes it.
    """

    role: str
    content: str
    hidden: bool
    start: int
    text_start: int
    text_end: int
    end: int


@dataclass(frozen=True)
class RenderedDialog:
    """A dialog as the target reads it: the rendered chat template, and its tokens, to which no special one is added."""

    text: str
    token_ids: tuple[int, ...]
    turns: tuple[Turn, ...]
    visible: tuple[bool, ...]
    """For each token, whether the decoder may see its activation."""
    first_position: int | None = None
    """Position that a decoder's first slot receives where tokens before the visible ones are hidden; see WireFormat."""

    @property
    def visible_text(self) -> str:
        """The messages that are not hidden: what an observer of the conversation reads."""
        return "\n".join(f"{turn.role}: {turn.content}" for turn in self.turns if not turn.hidden)

    @property
    def visible_positions(self) -> list[int]:
        """The positions of the tokens whose activations the decoder may see."""
        return [position for position, visible in enumerate(self.visible) if visible]

    @property
    def n_hidden(self) -> int:
        """Number of tokens before the first visible one, BOS not counted."""
        if not any(self.visible[1:]) or (self.visible[0] and self.turns[0].start == 0):  # a turn starts at the first
            return 0
        return self.visible.index(True, 1) - 1

    def slot_positions(self, positions: Sequence[int]) -> Sequence[int]:
        """Return the positions whose activations a decoder's slots receive, for the visible ones that are revealed.

        They are the same, except that the first may be replaced by ``first_position``; a single one never is.
        """
        first = self.first_position
        return positions if first is None or first > self.n_hidden or len(positions) < 2 else [first, *positions[1:]]


def is_hidden(message: Mapping[str, Any]) -> bool:
    """Return whether a message is hidden from the decoder: as it is marked; without a mark, system turns are."""
    hidden = message.get("hidden")
    return message["role"] == "system" if hidden is None else bool(hidden)


def shown_text(message: Mapping[str, Any]) -> str:
    """Return what a message says, for a person: its text, and the tools that it calls."""
    calls = (call["function"] for call in message.get("tool_calls", ()))
    named = (f"{function['name']}({json.dumps(function['arguments'], ensure_ascii=False)})" for function in calls)
    return "\n".join(filter(None, (message["content"], *named)))


def with_system(dialog: Dialog, text: str) -> Dialog:
    """Return a dialog under a system prompt, which replaces its own if it has one."""
    return [{"role": "system", "content": text}, *(message for message in dialog if message["role"] != "system")]
