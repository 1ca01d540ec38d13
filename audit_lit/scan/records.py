"""Records: what an audit writes down of each dialog, as soon as it is finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from audit_lit.answers.answer import Answer
from audit_lit.chat.messages import read_dialog

DIGITS = 6
"""Decimal places of recorded figures."""
Nats = Annotated[float, Field(ge=-1e6, le=1e6)]
"""A figure in nats per token, of a size that a model can compute."""


def _checked(messages: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return read_dialog(messages)


Messages = Annotated[tuple[dict[str, Any], ...], AfterValidator(_checked)]
"""The messages of a dialog that can be read."""


@dataclass(frozen=True)
class RecordedAnswer:
    """An answer's own values (see ``Answer``); what all answers about a dialog share stands in the record."""

    text: str
    score: Nats
    controls: dict[str, Nats]
    lift: Nats
    interval: tuple[Nats, Nats]
    samples: tuple[str, ...]
    agreement: Annotated[float, Field(ge=0, le=1)]

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

    place: Annotated[int, Field(ge=0)]
    """Its number among the dialogs of the audit, from 0."""
    id: str
    messages: Messages
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: tuple[str, ...]
    answers: dict[str, RecordedAnswer]
    expected: dict[str, str]
    """The answers where nothing is wrong; questions that only describe have none."""
    scores: dict[str, list[Nats]]
    """How unlikely the expected answer is, in nats per token: in the dialog, then in each of its twins."""


@dataclass(frozen=True)
class UnreadDialog:
    """A dialog that could not be read, and why."""

    place: int
    id: str
    error: str


Record = DialogRecord | UnreadDialog
