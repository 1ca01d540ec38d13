"""What a calibration is measured on: how many neutral dialogs and planted prompts, and by which seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit.chat.decoys import neutral_twins
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.errors import SettingsError
from audit_lit.recipes import neutral_lines
from audit_lit.settings import MAX_SEED, explain

QUESTIONS = (LABEL_QUESTION, PROMPT_QUESTION)
MIN_DIALOGS, MAX_DIALOGS = 8, 200
"""Most are two for each neutral line: one without a system prompt, and one with a neutral one."""


class CalibrationSettings(BaseModel):
    """How a calibration is measured.

    Attributes:
        dialogs: Number of neutral dialogs. The decoder answers four times about each: three kinds of nothing, and the
            dialog itself.
        batch_size: Number of dialogs, claims or requests that are measured at once, and kept together.
        seed: Decides the order of the lines, the neutral prompts and the random activations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialogs: int = Field(default=100, ge=MIN_DIALOGS, le=MAX_DIALOGS)
    batch_size: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def __init__(self, /, **fields: Any) -> None:
        """Check the fields; raise ``SettingsError`` for an unknown or a wrong one."""
        try:
            super().__init__(**fields)
        except ValidationError as err:
            raise SettingsError(
                f"a setting of the calibration is wrong ({explain(err, CalibrationSettings)})."
            ) from err


@dataclass(frozen=True)
class NeutralDialog:
    """A dialog that hides nothing, the question about it, and the half of the dialogs that it is in."""

    messages: Dialog
    question: str
    held_out: bool
    """Whether rates are counted on it; else the threshold is measured on it."""


def neutral_dialogs(settings: CalibrationSettings) -> list[NeutralDialog]:
    """Return the neutral dialogs; both dialogs of a line are in the same half."""
    rng = random.Random(f"{settings.seed} neutral")
    lines = rng.sample(neutral_lines(), len(neutral_lines()))
    return [_neutral_dialog(lines, place, rng) for place in range(settings.dialogs)]


def _neutral_dialog(lines: Sequence[str], place: int, rng: random.Random) -> NeutralDialog:
    again, index = divmod(place, len(lines))
    twins = neutral_twins([{"role": "user", "content": lines[index]}], 2, rng)
    by_question = (index // 2 + again) % 2
    return NeutralDialog(twins[(index // 4 + again) % 2], QUESTIONS[by_question], held_out=index % 2 == 1)
