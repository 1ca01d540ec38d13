"""A dialog: messages, and their turns once they are rendered to tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit_lit.documents import check_text
from audit_lit.errors import DialogError

ROLES = ("system", "user", "assistant")
Dialog = Sequence[Mapping[str, Any]]
"""Messages ``{"role", "content"}``; ``"hidden": True`` runs in the target and is never shown to the decoder."""
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
        return max(0, self.visible.index(True) - 1) if any(self.visible) else 0


def check_dialog(dialog: Any) -> None:
    """Raise if a dialog is not a list of messages, or a message has an unknown role, an unknown key, or no text."""
    if not isinstance(dialog, list | tuple) or not all(isinstance(message, Mapping) for message in dialog):
        raise DialogError('the dialog is not a list of messages; expected [{"role": "user", "content": "..."}].')
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
        check_text(message["content"], f"message {index} ({message['role']})", DialogError)
        if unknown := set(message) - {"role", "content", "hidden"}:
            raise DialogError(f"message {index} has unknown keys {sorted(unknown)}; expected role, content and hidden.")


def is_hidden(message: Mapping[str, Any]) -> bool:
    """Return whether a message is hidden from the decoder: as it is marked; without a mark, system turns are."""
    return bool(message.get("hidden", message["role"] == "system"))


def with_system(dialog: Dialog, text: str) -> Dialog:
    """Return a dialog under a system prompt, which replaces its own if it has one."""
    return [{"role": "system", "content": text}, *(message for message in dialog if message["role"] != "system")]
