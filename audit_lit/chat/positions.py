"""Token positions that the decoder may see."""

from __future__ import annotations

import re
from collections.abc import Sequence

from audit_lit.chat.dialog import RenderedDialog, Reveal, Turn
from audit_lit.errors import DialogError


def reveal_positions(rendered: RenderedDialog, reveal: Reveal = "user") -> tuple[int, ...]:
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


def _end_with_header(rendered: RenderedDialog, turn: Turn) -> int:
    """Return where a turn ends, with the header of an assistant turn that follows it, or the generation prompt."""
    after = rendered.turns[rendered.turns.index(turn) + 1 :]
    if not after:
        return len(rendered.token_ids)
    return after[0].text_start if (turn.role, after[0].role) == ("user", "assistant") else turn.end


def _explicit(rendered: RenderedDialog, positions: Sequence[int]) -> tuple[int, ...]:
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
