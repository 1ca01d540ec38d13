"""A dialog: messages, and their turns once they are rendered to tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit_lit.errors import DialogError

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
class RenderedDialog:
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


def with_system(dialog: Dialog, text: str) -> Dialog:
    """Return a dialog under a system prompt, in place of its own if it has one."""
    rest = [message for message in dialog if message["role"] != "system"]
    return [{"role": "system", "content": text}, *rest]
