"""Records: what an audit writes down of each dialog, as soon as it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from audit_lit.answers.answer import Answer

DIGITS = 6


@dataclass(frozen=True)
class RecordedAnswer:
    """An answer's own values; what all answers about a dialog share stands in the record (see ``Answer``)."""

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
        low, high = answer.interval
        return cls(
            text=answer.text,
            score=round(answer.score, DIGITS),
            controls={name: round(value, DIGITS) for name, value in answer.controls.items()},
            lift=round(answer.lift, DIGITS),
            interval=(round(low, DIGITS), round(high, DIGITS)),
            samples=answer.samples,
            agreement=round(answer.agreement, DIGITS),
        )


@dataclass(frozen=True)
class DialogRecord:
    """A dialog that was read.

    Attributes:
        place: Its number among the dialogs of the audit, from 0.
        id: Its id.
        messages: Its messages.
        layers: Layers that were read.
        positions: Token positions that were read.
        tokens: The text of the tokens there.
        answers: The answer to each question, by the question's id.
        expected: What the answer would be where nothing is wrong; not for questions that only describe.
        scores: How unlikely the expected answer is, in nats per token: in the dialog, then in each of its twins.
    """

    place: int
    id: str
    messages: tuple[dict[str, Any], ...]
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: tuple[str, ...]
    answers: dict[str, RecordedAnswer]
    expected: dict[str, str]
    scores: dict[str, list[float]]


@dataclass(frozen=True)
class UnreadDialog:
    """A dialog that could not be read, and why."""

    place: int
    id: str
    error: str


Record = DialogRecord | UnreadDialog


def record_to_json(record: Record) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(asdict(record), ensure_ascii=False)


def record_from_dict(content: Mapping[str, Any]) -> Record:
    """Return the record that plain values describe.

    Raises:
        ValidationError: If they describe none.
    """
    return _adapter(UnreadDialog if "error" in content else DialogRecord).validate_python(content)


@cache
def _adapter(kind: type[Record]) -> TypeAdapter[Record]:
    return TypeAdapter(kind)
