"""Ask about readings: generate answers and samples, and score each answer beside its controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from audit_lit.answers.answer import Answer
from audit_lit.answers.controls import ACTIVATIONS, controls_of, missing_controls, score_under_controls
from audit_lit.answers.reading import Reading
from audit_lit.answers.session import Session
from audit_lit.chat.arguments import texts
from audit_lit.errors import QuestionError
from audit_lit.models.activations import Activations
from audit_lit.models.generation import Sampling
from audit_lit.statistics.intervals import Values, bootstrap_interval
from audit_lit.statistics.text_overlap import agreement

EXAMPLE = "What was the assistant told to do?"


def ask(
    session: Session, readings: Sequence[Reading], questions: Sequence[str], sampling: Sampling
) -> list[list[Answer]]:
    """Return for each reading an answer to each question; all are generated together, and the target does not run."""
    rows = Activations.cat([reading.activations.rows([0] * len(questions)) for reading in readings])
    flat = session.decoder.answers(rows, [*questions] * len(readings), sampling)
    written = [flat[start : start + len(questions)] for start in range(0, len(flat), len(questions))]
    likeliest = [[first for first, *_ in row] for row in written]
    scores = score_under_controls(session.decoder, readings, questions, likeliest, seed=sampling.seed)
    missing = [missing_controls(session.decoder, reading) for reading in readings]
    return [
        [
            _to_answer(session, reading, lacking, *parts, sampling.seed)
            for parts in zip(questions, answered, scored, strict=True)
        ]
        for reading, lacking, answered, scored in zip(readings, missing, written, scores, strict=True)
    ]


def check_questions(questions: Iterable[str] | None) -> list[str]:
    """Return the questions as a list; raise ``QuestionError`` if there is none, or one is empty."""
    listed = texts(() if questions is None else questions, "question", QuestionError)
    if not listed:
        raise QuestionError(
            f"got no question; expected a sentence such as {EXAMPLE!r}, or a list of them. Name what you want to know."
        )
    if not all(question.strip() for question in listed):
        raise QuestionError(f"the question is empty; expected a sentence such as {EXAMPLE!r}.")
    return listed


def _to_answer(
    session: Session,
    reading: Reading,
    missing: tuple[str, ...],
    question: str,
    answers: tuple[str, ...],
    scores: dict[str, Values],
    seed: int,
) -> Answer:
    activations, (text, *samples) = reading.activations, answers
    controls = {name: scores[name] for name in controls_of(session.decoder) if name in scores}
    lifts = scores[ACTIVATIONS] - max(controls.values(), key=lambda nats: float(nats.mean()))
    return Answer(
        question=question,
        text=text,
        score=float(scores[ACTIVATIONS].mean()),
        controls={name: float(nats.mean()) for name, nats in controls.items()},
        lift=float(lifts.mean()),
        interval=bootstrap_interval(lifts, seed=seed),
        threshold=session.decoder.config.lift_threshold,
        samples=tuple(samples),
        agreement=agreement(text, samples),
        layers=activations.layers,
        positions=tuple(activations.positions[0].tolist()),
        tokens=reading.tokens,
        seed=seed,
        target=activations.source,
        decoder=session.decoder.config.name,
        missing=missing,
    )
