"""Records: what an audit writes down of each dialog, as soon as it is finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audit_lit.answers.answer import Answer

DIGITS = 6
"""Decimal places of recorded figures."""


@dataclass(frozen=True)
class RecordedAnswer:
    """An answer's own values (see ``Answer``); what all answers about a dialog share stands in the record."""

    text: str
    score: float
    controls: dict[str, float]
    lift: float
    interval: tuple[float, float]
    samples: tuple[str, ...]
    agreement: float

    @classmethod
    def of(cls, answer: Answer) -> RecordedAnswer:
        """Return the part of an answer that is recorded, with its numbers rounded."""
        return cls(
            text=answer.text,
            score=round(answer.score, DIGITS),
            controls={name: round(value, DIGITS) for name, value in answer.controls.items()},
            lift=round(answer.lift, DIGITS),
            interval=(round(answer.interval[0], DIGITS), round(answer.interval[1], DIGITS)),
            samples=answer.samples,
            agreement=round(answer.agreement, DIGITS),
        )


@dataclass(frozen=True)
class DialogRecord:
    """A dialog that was read, with what was found in it, by the id of each question."""

    place: int
    """Its number among the dialogs of the audit, from 0."""
    id: str
    messages: tuple[dict[str, Any], ...]
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: tuple[str, ...]
    answers: dict[str, RecordedAnswer]
    expected: dict[str, str]
    """The answers where nothing is wrong; questions that only describe have none."""
    scores: dict[str, list[float]]
    """How unlikely the expected answer is, in nats per token: in the dialog, then in each of its twins."""


@dataclass(frozen=True)
class UnreadDialog:
    """A dialog that could not be read, and why."""

    place: int
    id: str
    error: str


Record = DialogRecord | UnreadDialog
