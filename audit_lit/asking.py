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

N_AT_ONCE = 64
"""Samples that are written together."""


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
    texts = decoder.answer(rows, asked, max_new_tokens=max_new_tokens)
    drawn = _samples(decoder, rows, asked, samples, max_new_tokens, seed)
    found = []
    for at, reading in enumerate(readings):
        part = slice(at * len(questions), (at + 1) * len(questions))
        own, decoys, text = reading.activations, reading.decoys, reading.rendered.visible_text
        scores = judge(decoder, own, decoys, text, questions, texts[part], seed=seed)
        parts = zip(questions, texts[part], scores, drawn[part], strict=True)
        found.append([_to_answer(target, decoder, reading, *some, seed) for some in parts])
    return found


def _samples(
    decoder: Decoder, rows: Activations, questions: Sequence[str], samples: int, max_new_tokens: int, seed: int
) -> list[tuple[str, ...]]:
    """Return further answers to each question at temperature 1."""
    if not samples:
        return [() for _ in questions]
    index = [row for row in range(len(questions)) for _ in range(samples)]
    drawn: list[str] = []
    for start in range(0, len(index), N_AT_ONCE):
        part = index[start : start + N_AT_ONCE]
        asked, given = [questions[row] for row in part], rows.rows(part)
        drawn += decoder.answer(given, asked, max_new_tokens=max_new_tokens, temperature=1.0, seed=seed + start)
    return [tuple(drawn[at : at + samples]) for at in range(0, len(drawn), samples)]


def _to_answer(
    target: Target,
    decoder: Decoder,
    reading: Reading,
    question: str,
    text: str,
    scores: dict[str, Nats],
    samples: tuple[str, ...],
    seed: int,
) -> Answer:
    activations = reading.activations
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
        samples=samples,
        agreement=agreement(text, samples),
        layers=activations.layers,
        positions=tuple(activations.positions[0].tolist()),
        tokens=tuple(target.tokenizer.batch_decode(activations.token_ids[0][:, None])),
        seed=seed,
        target=target.name,
        decoder=decoder.protocol.name,
    )
