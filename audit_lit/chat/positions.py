"""Token positions: those that the decoder may see, and those of the same tokens where something else is hidden."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral

from audit_lit.chat.dialog import RenderedDialog, Reveal, Turn
from audit_lit.errors import DialogError

ROLES = ("user", "assistant")
LAST = re.compile(r"last:[0-9]{1,9}")
"""What ``reveal`` may name: the last turn of a role, or the last tokens."""


def reveal_positions(rendered: RenderedDialog, reveal: Reveal = "user") -> tuple[int, ...]:
    """Return the token positions that ``reveal`` names; hidden ones are never among them.

    A user turn takes the header of the reply with it, and a turn that ends the dialog takes the generation prompt with
    it: there is the model's state right before it speaks.
    """
    if not isinstance(reveal, str):
        return _explicit(rendered, reveal)
    check_reveal(reveal)
    chosen: Sequence[int]
    if reveal in ROLES:
        turn = next((turn for turn in reversed(rendered.turns) if turn.role == reveal and not turn.hidden), None)
        chosen = range(turn.start, _end_with_header(rendered, turn)) if turn else range(0)
    else:
        n_last = int(reveal.partition(":")[2])
        chosen = rendered.visible_positions[-n_last:] if n_last else []
    positions = tuple(position for position in chosen if rendered.visible[position])
    if not positions:
        roles = ", ".join(f"{turn.role}{' (hidden)' if turn.hidden else ''}" for turn in rendered.turns)
        raise DialogError(
            f"reveal={reveal!r} selects nothing; the dialog has the turns: {roles}. Reveal a visible one."
        )
    return positions


def check_reveal(reveal: Reveal) -> None:
    """Raise ``DialogError`` for text that names nothing to reveal in any dialog."""
    if isinstance(reveal, str) and reveal not in ROLES and not LAST.fullmatch(reveal):
        raise DialogError(f"reveal={reveal!r} is unknown; expected 'user', 'assistant', 'last:K' or token positions.")


def _end_with_header(rendered: RenderedDialog, turn: Turn) -> int:
    """Return where a turn ends, with the header of an assistant turn that follows it, or the generation prompt."""
    following = rendered.turns[rendered.turns.index(turn) + 1 :]
    if not following:
        return len(rendered.token_ids)
    return following[0].text_start if (turn.role, following[0].role) == ("user", "assistant") else turn.end


def _explicit(rendered: RenderedDialog, positions: Sequence[int]) -> tuple[int, ...]:
    n_tokens = len(rendered.token_ids)
    if not isinstance(positions, Sequence) or not all(isinstance(position, Integral) for position in positions):
        raise DialogError(f"reveal={positions!r:.80} names no positions; expected whole numbers in 0-{n_tokens - 1}.")
    if not positions:
        raise DialogError(f"reveal names no position and so selects nothing; expected positions in 0-{n_tokens - 1}.")
    for position in positions:
        if not -n_tokens <= position < n_tokens:
            raise DialogError(f"position {position} is outside the dialog's {n_tokens} tokens; use 0-{n_tokens - 1}.")
        if not rendered.visible[position]:
            raise DialogError(
                f"position {position} is in a hidden turn, which the decoder must not see; reveal another."
            )
    return tuple(sorted({position % n_tokens for position in positions}))


def aligned_positions(positions: Sequence[int], source: RenderedDialog, other: RenderedDialog) -> tuple[int, ...]:
    """Return the positions of the same visible tokens in a dialog that differs in its hidden part, or by a decoy.

    A visible decoy is skipped: what stands before it keeps its place, and what follows is moved by its length.
    """
    counterparts = _counterparts(source, other)
    if missing := [position for position in positions if position not in counterparts]:
        raise DialogError(
            f"position {missing[0]} has no counterpart where something is hidden: the chat template puts a system "
            "prompt into the user's turn. Read tokens after it, such as reveal='last:4'."
        )
    return tuple(counterparts[position] for position in positions)


def shared_positions(
    positions: Sequence[int], source: RenderedDialog, others: Sequence[RenderedDialog]
) -> tuple[int, ...]:
    """Return the positions whose tokens are visible in all of the other dialogs, too."""
    counterparts = [_counterparts(source, other) for other in others]
    return tuple(position for position in positions if all(position in there for there in counterparts))


def _counterparts(source: RenderedDialog, other: RenderedDialog) -> dict[int, int]:
    """Map each visible position to that of the same token in the other dialog, if the token is visible there.

    Both dialogs begin and end alike; what one of them has in between, the other lacks.
    """
    ours, theirs = source.visible_positions, other.visible_positions
    n_added = len(theirs) - len(ours)
    pairs = enumerate(zip(ours, theirs, strict=False))
    differing = (row for row, (left, right) in pairs if source.token_ids[left] != other.token_ids[right])
    start = next(differing, min(len(ours), len(theirs)))
    counterparts = dict(zip(ours[:start], theirs[:start], strict=True))
    for index in range(max(start, start - n_added), len(ours)):
        counterparts[ours[index]] = theirs[index + n_added]
    return counterparts
