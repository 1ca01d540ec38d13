"""From records to findings: what each question found over all dialogs, and whether it is enough to report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from audit_lit.answers.answer import is_supported, shortfall
from audit_lit.scan.finding import Evidence, Finding, JudgedAnswer
from audit_lit.scan.recipe import Question
from audit_lit.scan.records import DialogRecord, Record
from audit_lit.statistics.intervals import MIN_DIALOGS, Values, few_interval, mean_interval
from audit_lit.statistics.significance import conformal_p, corrected, exceedance_p
from audit_lit.statistics.text_overlap import most_alike

N_EVIDENCE = 3
"""Number of dialogs that a finding shows."""
N_COMPARED = 100
"""Number of supported answers among which the description is chosen."""
Records = Callable[[], Iterator[Record]]
"""Gives the records of an audit, one at a time, and again when called again."""


def findings(questions: Sequence[Question], records: Records, *, alpha: float, threshold: float) -> list[Finding]:
    """Judge every question over all records.

    A finding is raised where three things hold: the dialogs' scores are above nearly all neutral prompts' (at a false
    discovery rate of ``alpha`` among the questions), the answers are likelier than under their strongest control on
    average, by more than the threshold, and the interval of that lift is above zero. Questions that only describe need
    the last two.
    """
    columns = _columns(questions, records, threshold)
    ids = {column.ids[place] for column in columns for place in column.shown}
    evidence = {record.id: record for record in _read_dialogs(records) if record.id in ids}
    q_values = iter(corrected([column.p_value for column in columns if column.p_value is not None]))
    judged = [(column, None if column.p_value is None else next(q_values)) for column in columns]
    return [_finding(column, q_value, evidence, alpha) for column, q_value in judged]


def _read_dialogs(records: Records) -> Iterator[DialogRecord]:
    return (record for record in records() if isinstance(record, DialogRecord))


@dataclass(frozen=True)
class _Column:
    """What all dialogs gave for one question, in their order, and the figures that a finding takes from it."""

    question: Question
    ids: tuple[str, ...]
    answers: tuple[JudgedAnswer, ...]
    scores: Values | None
    """A row per dialog: its own score, then its twins'; None if the question only describes."""
    threshold: float

    @cached_property
    def p_value(self) -> float | None:
        return None if self.scores is None else exceedance_p(self.scores)

    @cached_property
    def dialog_p_values(self) -> list[float] | None:
        """For each dialog, the share of neutral scores that reach its own."""
        return None if self.scores is None else conformal_p(self.scores).tolist()

    @cached_property
    def best_first(self) -> list[int]:
        """The dialogs' places: supported answers first, then what stands out most, then the greatest lift."""
        p_values = self.dialog_p_values or [0.0] * len(self.answers)
        ranks = [(not row.supported, p, -row.lift) for row, p in zip(self.answers, p_values, strict=True)]
        return sorted(range(len(ranks)), key=lambda place: ranks[place])

    @cached_property
    def description(self) -> str:
        """The supported answer that agrees best with the others; the empty text if there are none."""
        supported = [self.answers[place].text for place in self.best_first if self.answers[place].supported]
        return most_alike(supported[:N_COMPARED])

    @cached_property
    def shown(self) -> list[int]:
        """The places of the dialogs that are shown: the best, among them one whose answer is the description."""
        best = self.best_first[:N_EVIDENCE]
        described = [place for place in self.best_first if self.answers[place].text == self.description]
        return [*best[:-1], described[0]] if described and described[0] not in best else best


def _columns(questions: Sequence[Question], records: Records, threshold: float) -> list[_Column]:
    """Return a column for each question; none if there is no record.

    What judging does not need of a record is dropped, so that memory does not grow with the texts.
    """
    slim = {record.id: _without_texts(record) for record in _read_dialogs(records)}
    rows = sorted(slim.values(), key=lambda record: record.place)
    return [_column(question, rows, threshold) for question in questions if rows]


def _without_texts(record: DialogRecord) -> DialogRecord:
    answers = {question: replace(answer, samples=()) for question, answer in record.answers.items()}
    return replace(record, answers=answers, messages=(), tokens=(), positions=())


def _column(question: Question, rows: Sequence[DialogRecord], threshold: float) -> _Column:
    answers = (JudgedAnswer.judge(row.answers[question.id], row.expected.get(question.id), threshold) for row in rows)
    scores = np.array([row.scores[question.id] for row in rows]) if question.expected else None
    return _Column(question, tuple(row.id for row in rows), tuple(answers), scores, threshold)


def _finding(column: _Column, q_value: float | None, records: Mapping[str, DialogRecord], alpha: float) -> Finding:
    answers, scores, p_values = column.answers, column.scores, column.dialog_p_values
    effects = None if scores is None else scores[:, 0] - scores[:, 1:].mean(1)
    controls = {name: float(np.mean([answer.controls[name] for answer in answers])) for name in answers[0].controls}
    finding = Finding(
        question=column.question,
        raised=False,
        reason="",
        description=column.description,
        n_dialogs=len(answers),
        n_supported=sum(answer.supported for answer in answers),
        n_standing_out=None if p_values is None else sum(p_value <= alpha for p_value in p_values),
        p_value=column.p_value,
        q_value=q_value,
        effect=None if effects is None else float(effects.mean()),
        effect_interval=None if effects is None else mean_interval(effects),
        score=float(np.mean([answer.score for answer in answers])),
        lift=float(np.mean([answer.lift for answer in answers])),
        lift_interval=_lift_interval(answers),
        controls=controls,
        strongest_control=max(controls, key=lambda name: controls[name]),
        threshold=column.threshold,
        scores=() if scores is None else tuple(np.sort(scores[:, 0]).tolist()),
        neutral_scores=() if scores is None else tuple(np.sort(scores[:, 1:].ravel()).tolist()),
        evidence=tuple(_evidence(column, place, records) for place in column.shown),
    )
    raised, reason = _decision(finding, alpha)
    return replace(finding, raised=raised, reason=reason)


def _lift_interval(answers: Sequence[JudgedAnswer]) -> tuple[float, float]:
    lifts = np.array([answer.lift for answer in answers])
    if len(lifts) >= MIN_DIALOGS:
        return mean_interval(lifts)
    return few_interval(lifts, np.array([answer.interval for answer in answers], dtype=float))


def _evidence(column: _Column, place: int, records: Mapping[str, DialogRecord]) -> Evidence:
    record = records[column.ids[place]]
    expected = record.expected.get(column.question.id)
    return Evidence(
        dialog=record.id,
        messages=record.messages,
        tokens=record.tokens,
        answer=JudgedAnswer.judge(record.answers[column.question.id], expected, column.threshold),
        p_value=None if column.dialog_p_values is None else column.dialog_p_values[place],
        expected=expected,
    )


def _decision(finding: Finding, alpha: float) -> tuple[bool, str]:
    """Return whether a finding is raised, and why."""
    q_value, control = finding.q_value, finding.strongest_control
    if q_value is not None and q_value > alpha:
        return False, f"the dialogs do not differ from their neutral twins (corrected p = {q_value:.2g})"
    if not is_supported(finding.lift, finding.lift_interval, finding.threshold):
        return False, shortfall(finding.lift, finding.lift_interval, finding.threshold, control)
    difference = "" if q_value is None else f"; unlike neutral twins (corrected p = {q_value:.2g})"
    return True, f"{finding.lift:+z.2f} nats per token over the strongest control ({control}){difference}"
