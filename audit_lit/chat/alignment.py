"""Find the same visible tokens in two dialogs that differ in their hidden part."""

from __future__ import annotations

from collections.abc import Sequence

from audit_lit.chat.dialog import RenderedDialog
from audit_lit.errors import DialogError


def aligned_positions(positions: Sequence[int], source: RenderedDialog, other: RenderedDialog) -> tuple[int, ...]:
    """Return where the same visible tokens are in a dialog that differs in its hidden part, or by a visible decoy.

    A visible decoy is skipped: what stands before it keeps its place, and what follows is moved by its length.

    Raises:
        DialogError: If one is hidden there.
    """
    placed = _places(source, other)
    if missing := [position for position in positions if position not in placed]:
        raise DialogError(
            f"position {missing[0]} has no counterpart where something is hidden: the chat template puts a system "
            "prompt into the user's turn. Read tokens after it, such as reveal='last:4'."
        )
    return tuple(placed[position] for position in positions)


def shared_positions(
    positions: Sequence[int], source: RenderedDialog, others: Sequence[RenderedDialog]
) -> tuple[int, ...]:
    """Return the positions whose tokens are visible in all of the others, too."""
    places = [_places(source, other) for other in others]
    return tuple(position for position in positions if all(position in some for some in places))


def _places(source: RenderedDialog, other: RenderedDialog) -> dict[int, int]:
    """Map each visible position to that of the same token in the other dialog, if it is visible there.

    Both begin and end alike; what one of them has in between, the other lacks.
    """
    ours, theirs = _visible(source), _visible(other)
    added, shorter = len(theirs) - len(ours), min(len(ours), len(theirs))
    tokens = zip(ours[:shorter], theirs[:shorter], strict=True)
    before = next((at for at, (a, b) in enumerate(tokens) if source.token_ids[a] != other.token_ids[b]), shorter)
    after = {ours[at]: theirs[at + added] for at in range(max(before, before - added), len(ours))}
    return dict(zip(ours[:before], theirs[:before], strict=True)) | after


def _visible(rendered: RenderedDialog) -> list[int]:
    return [index for index, visible in enumerate(rendered.visible) if visible]
