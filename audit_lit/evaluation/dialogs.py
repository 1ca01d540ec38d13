"""The dialogs that decoders are measured on: hidden prompts, matched or re-paired, and their neutral twins."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from audit_lit.chat.dialog import RenderedDialog
from audit_lit.chat.neutral import neutral_text
from audit_lit.chat.rendering import render
from audit_lit.data.rows import Row
from audit_lit.decoder.config import DecoderConfig
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_dialogs
from audit_lit.models.target import Target

Messages = tuple[dict[str, Any], ...]


def hidden_dialogs(rows: Sequence[Row], *, repaired: bool, seed: int = 0) -> list[Messages]:
    """Return the dialogs of rows with a hidden system prompt.

    Args:
        rows: All with a system prompt and a user line.
        repaired: Deal the user lines out anew, so that the visible text gives nothing away; otherwise each prompt
            keeps its own (*matched*), which gives it away in part.
        seed: Of the dealing.
    """
    if not repaired:
        return [row.messages for row in rows]
    others = derangement(len(rows), seed)
    return [(row.messages[0], rows[other].messages[1]) for row, other in zip(rows, others, strict=True)]


def derangement(n: int, seed: int) -> list[int]:
    """Return for each of ``n`` another one, by a random cycle: nobody keeps its own."""
    order = random.Random(seed).sample(range(n), n)
    other = {one: order[rank - 1] for rank, one in enumerate(order)}
    return [other[one] for one in range(n)]


def default_twin(dialog: Messages) -> Messages:
    """Return the dialog without its system prompt: the chat template's default takes its place."""
    return dialog[1:]


def neutral_twin(dialog: Messages, rng: random.Random) -> Messages:
    """Return the dialog under a system prompt of about the same length that instructs nothing in particular."""
    text = neutral_text(len(dialog[0]["content"].split()), rng)
    return ({**dialog[0], "content": text}, *dialog[1:])


def read_dialogs(
    target: Target,
    config: DecoderConfig,
    dialogs: Sequence[Sequence[dict[str, Any]]],
    last_of_text: Sequence[bool] | None = None,
) -> Activations:
    """Read each dialog's last visible turn where the protocol wants it read.

    Args:
        target: The model to read.
        config: The decoder's.
        dialogs: What the target reads.
        last_of_text: Of which dialogs the last token of the text is read alone; None for none of them.
    """
    return read_rendered(target, config, [render(dialog, target.tokenizer) for dialog in dialogs], last_of_text)


def read_rendered(
    target: Target,
    config: DecoderConfig,
    rendered: Sequence[RenderedDialog],
    last_of_text: Sequence[bool] | None = None,
) -> Activations:
    """Read dialogs that are rendered already, as ``read_dialogs`` does."""
    ends = last_of_text or [False] * len(rendered)
    positions = [_places(config, dialog, end) for dialog, end in zip(rendered, ends, strict=True)]
    return capture_dialogs(target, rendered, positions, config.read_layers)


def _places(config: DecoderConfig, dialog: RenderedDialog, last_of_text: bool) -> tuple[int, ...]:
    last = next(turn for turn in reversed(dialog.turns) if not turn.hidden)
    return (last.text_end - 1,) if last_of_text else config.select(dialog, last.role)
