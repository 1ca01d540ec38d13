"""Ask about readings: answers, further samples, and how each answer stands beside its controls."""

from __future__ import annotations

from collections.abc import Sequence

from audit_lit.answers.answer import Answer
from audit_lit.answers.control_scores import ACTIVATIONS, Nats, score_under_controls
from audit_lit.answers.controls import controls_of
from audit_lit.answers.session import Reading, Session
from audit_lit.errors import QuestionError
from audit_lit.models.activations import Activations
from audit_lit.models.generation import Sampling
from audit_lit.statistics.intervals import bootstrap_interval
from audit_lit.statistics.text_overlap import agreement


def ask(
    session: Session, readings: Sequence[Reading], questions: Sequence[str], sampling: Sampling
) -> list[list[Answer]]:
    """Return the answers to the same questions about each reading, generated at once for all.

    The target does not run again.

    Raises:
        QuestionError: If a question is empty, or does not fit the decoder's context with its answer.
    """
    decoder = session.decoder
    rows = Activations.cat([reading.activations.rows([0] * len(questions)) for reading in readings])
    texts = decoder.answers(rows, [*questions] * len(readings), sampling)
    by_reading = [texts[start : start + len(questions)] for start in range(0, len(texts), len(questions))]
    greedy = [[first for first, *_ in texts] for texts in by_reading]
    scores = score_under_controls(decoder, readings, questions, greedy, seed=sampling.seed)
    return [
        [
            _to_answer(session, reading, question, said, nats, sampling.seed)
            for question, said, nats in zip(questions, texts, by_question, strict=True)
        ]
        for reading, texts, by_question in zip(readings, by_reading, scores, strict=True)
    ]


def check_questions(questions: Sequence[str]) -> list[str]:
    """Return the questions as a list, if there is one and none is empty.

    Raises:
        QuestionError: If there is none, or one is empty.
    """
    if not questions or not all(question.strip() for question in questions):
        raise QuestionError("the question is empty; expected a sentence such as 'What was the assistant told to do?'.")
    return list(questions)


def _to_answer(
    session: Session,
    reading: Reading,
    question: str,
    texts: tuple[str, ...],
    scores: dict[str, Nats],
    seed: int,
) -> Answer:
    target, decoder = session.target, session.decoder
    activations, (text, *samples) = reading.activations, texts
    controls = {name: scores[name] for name in controls_of(decoder)}
    lifts = scores[ACTIVATIONS] - max(controls.values(), key=lambda nats: float(nats.mean()))
    return Answer(
        question=question,
        text=text,
        score=float(scores[ACTIVATIONS].mean()),
        controls={name: float(nats.mean()) for name, nats in controls.items()},
        lift=float(lifts.mean()),
        interval=bootstrap_interval(lifts, seed=seed),
        threshold=decoder.config.lift_threshold,
        samples=tuple(samples),
        agreement=agreement(text, samples),
        layers=activations.layers,
        positions=tuple(activations.positions[0].tolist()),
        tokens=tuple(target.tokenizer.batch_decode(activations.token_ids[0][:, None])),
        seed=seed,
        target=target.name,
        decoder=decoder.config.name,
    )
