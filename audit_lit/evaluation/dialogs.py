"""The dialogs that decoders are measured on: hidden prompts, matched or re-paired, and their neutral twins."""

from __future__ import annotations

import random
from collections.abc import Sequence

from audit_lit.chat.decoys import neutral_text
from audit_lit.chat.dialog import Dialog
from audit_lit.data.rows import Messages, Row
from audit_lit.decoder.config import DecoderConfig
from audit_lit.models.activations import Activations
from audit_lit.models.capture import capture_dialogs
from audit_lit.models.target import Target


def hidden_dialogs(rows: Sequence[Row], *, repaired: bool, seed: int = 0) -> list[Messages]:
    """Return the dialogs of rows with a hidden system prompt and a user line.

    *Re-paired*, the user lines are dealt out anew, so that the visible text gives nothing away. Otherwise each prompt
    keeps its own (*matched*), which gives it away in part.
    """
    if not repaired:
        return [row.messages for row in rows]
    others = derangement(len(rows), seed)
    return [(row.messages[0], rows[other].messages[1]) for row, other in zip(rows, others, strict=True)]


def derangement(n: int, seed: int) -> list[int]:
    """Return another index for each of ``n``, by a random cycle: none keeps its own."""
    order = random.Random(seed).sample(range(n), n)
    others = {index: order[rank - 1] for rank, index in enumerate(order)}
    return [others[index] for index in range(n)]


def default_twin(dialog: Messages) -> Messages:
    """Return the dialog without its system prompt: the chat template's default takes its place."""
    return dialog[1:]


def neutral_twin(dialog: Messages, rng: random.Random) -> Messages:
    """Return the dialog under a system prompt of about the same length that instructs nothing in particular."""
    text = neutral_text(len(dialog[0]["content"].split()), rng)
    return ({**dialog[0], "content": text}, *dialog[1:])


def read_dialogs(
    target: Target, config: DecoderConfig, dialogs: Sequence[Dialog], last_of_text: Sequence[bool] | None = None
) -> Activations:
    """Read each dialog's last visible turn where a decoder reads it, or, if flagged, the last token of its text."""
    rendered = [config.render(dialog, target.tokenizer) for dialog in dialogs]
    positions = []
    for dialog, is_last_alone in zip(rendered, last_of_text or [False] * len(rendered), strict=True):
        turn = next(turn for turn in reversed(dialog.turns) if not turn.hidden)
        positions.append((turn.text_end - 1,) if is_last_alone else config.select(dialog, turn.role))
    return capture_dialogs(target, rendered, positions, config.read_layers)
