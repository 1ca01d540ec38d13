"""Asking about readings: answers, further samples, and how each answer stands beside its controls."""

from __future__ import annotations

from collections.abc import Sequence

from audit_lit.activations import Activations
from audit_lit.answer import Answer, agreement, bootstrap_interval
from audit_lit.controls import controls_of
from audit_lit.decoder import Decoder
from audit_lit.judge import READ, Nats, judge
from audit_lit.reading import Reading
from audit_lit.target import Target


def ask_readings(
    target: Target,
    decoder: Decoder,
    readings: Sequence[Reading],
    questions: Sequence[str],
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
) -> list[list[Answer]]:
    """Return the answers to the same questions about each reading (see ``Auditor.ask``), written at once for all."""
    rows = Activations.cat([reading.activations.rows([0] * len(questions)) for reading in readings])
    asked = [*questions] * len(readings)
    flat = decoder.answers(rows, asked, samples=samples, max_new_tokens=max_new_tokens, seed=seed)
    written = [flat[start : start + len(questions)] for start in range(0, len(flat), len(questions))]
    scores = judge(decoder, readings, questions, [[some[0] for some in texts] for texts in written], seed=seed)
    return [
        [_to_answer(target, decoder, reading, *some, seed) for some in zip(questions, texts, judged, strict=True)]
        for reading, texts, judged in zip(readings, written, scores, strict=True)
    ]


def _to_answer(
    target: Target,
    decoder: Decoder,
    reading: Reading,
    question: str,
    texts: tuple[str, ...],
    scores: dict[str, Nats],
    seed: int,
) -> Answer:
    activations, (text, *samples) = reading.activations, texts
    controls = {name: scores[name] for name in controls_of(decoder)}
    lifts = scores[READ] - max(controls.values(), key=lambda score: float(score.mean()))
    return Answer(
        question=question,
        text=text,
        score=float(scores[READ].mean()),
        controls={name: float(score.mean()) for name, score in controls.items()},
        lift=float(lifts.mean()),
        interval=bootstrap_interval(lifts, seed=seed),
        threshold=decoder.protocol.lift_threshold,
        samples=tuple(samples),
        agreement=agreement(text, samples),
        layers=activations.layers,
        positions=tuple(activations.positions[0].tolist()),
        tokens=tuple(target.tokenizer.batch_decode(activations.token_ids[0][:, None])),
        seed=seed,
        target=target.name,
        decoder=decoder.protocol.name,
    )
