"""From records to findings: what each question found over all dialogs, and whether it is enough to report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from audit_lit.answers.answer import is_supported
from audit_lit.answers.patching import Heatmap
from audit_lit.scan.questions import Question, Severity
from audit_lit.scan.records import DialogRecord, Record, RecordedAnswer
from audit_lit.statistics.intervals import MIN_DIALOGS, few_interval, mean_interval
from audit_lit.statistics.significance import conformal_p, corrected, exceedance_p
from audit_lit.statistics.text_overlap import most_alike
from audit_lit.statistics.values import Values

N_EVIDENCE = 3
N_COMPARED = 100


@dataclass(frozen=True)
class JudgedAnswer(RecordedAnswer):
    """An answer, and whether it is supported by the threshold of the audit."""

    supported: bool

    @classmethod
    def judge(cls, answer: RecordedAnswer, expected: str | None, threshold: float) -> JudgedAnswer:
        """Return an answer with its verdict; one that says what is expected speaks for nothing, however sure it is."""
        if answer.text == expected:
            answer = replace(answer, lift=0.0, interval=(0.0, 0.0))
        return cls(**vars(answer), supported=is_supported(answer.lift, answer.interval, threshold))


@dataclass(frozen=True)
class Evidence:
    """One dialog, and what the decoder says about it.

    Attributes:
        dialog: Its id.
        messages: Its messages.
        tokens: The tokens whose activations the decoder was given.
        answer: What the decoder says.
        p_value: Share of neutral scores like its own; None if the question only describes.
        heatmap: Where the evidence sits; None if it was not looked for.
        expected: What the answer would be where nothing is wrong; None if the question only describes.
    """

    dialog: str
    messages: tuple[dict[str, Any], ...]
    tokens: tuple[str, ...]
    answer: JudgedAnswer
    p_value: float | None = None
    heatmap: Heatmap | None = None
    expected: str | None = None


@dataclass(frozen=True)
class Finding:
    """What one question found.

    Attributes:
        question: What was asked.
        raised: Whether it is enough to report.
        reason: Why, or why not, in a sentence.
        description: The answer that agrees best with the others.
        n_dialogs: Number of dialogs that were asked about.
        n_supported: Number of those whose answer is supported.
        n_standing_out: Number of those whose score fewer than ``alpha`` of the neutral twins reach.
        p_value: Share of neutral prompts like the dialogs' own (see ``exceedance_p``); None if the question only
            describes.
        q_value: The same, corrected over the questions of the audit.
        effect: Nats per token by which the expected answer is less likely in the dialogs than in their twins.
        effect_interval: Its 95% interval over dialogs.
        score: Mean nats per token of the answers.
        lift: Mean nats per token of the answers over their strongest control.
        lift_interval: Its 95% interval over dialogs; over tokens, if there are fewer than five.
        controls: Mean nats per token of the answers under each control.
        strongest_control: The control that favours the answers most.
        threshold: Lift that is needed.
        scores: Of the dialogs, sorted: nats per token against the expected answer.
        neutral_scores: Of all twins, sorted.
        evidence: The dialogs that show it best.
    """

    question: Question
    raised: bool
    reason: str
    description: str
    n_dialogs: int
    n_supported: int
    n_standing_out: int | None
    p_value: float | None
    q_value: float | None
    effect: float | None
    effect_interval: tuple[float, float] | None
    score: float
    lift: float
    lift_interval: tuple[float, float]
    controls: dict[str, float]
    strongest_control: str
    threshold: float
    scores: tuple[float, ...] = field(repr=False)
    neutral_scores: tuple[float, ...] = field(repr=False)
    evidence: tuple[Evidence, ...] = field(repr=False)

    @property
    def severity(self) -> Severity:
        """The question's severity."""
        return self.question.severity


@dataclass(frozen=True)
class Column:
    """What all dialogs gave for one question, in the order of the dialogs: all that judging needs of them.

    Attributes:
        question: What was asked.
        ids: The dialogs.
        answers: What was said about each, without samples.
        scores: A row per dialog, its own score and then its twins'; None if the question only describes.
        threshold: Lift that is needed.
    """

    question: Question
    ids: tuple[str, ...]
    answers: tuple[JudgedAnswer, ...]
    scores: Values | None
    threshold: float

    @property
    def p_value(self) -> float | None:
        """Share of neutral prompts like the dialogs' own."""
        return None if self.scores is None else exceedance_p(self.scores)

    @property
    def p_of_dialogs(self) -> Values | None:
        """Share of neutral scores like each dialog's own."""
        return None if self.scores is None else conformal_p(self.scores)

    @property
    def lift_interval(self) -> tuple[float, float]:
        """The 95% interval of the mean lift."""
        lifts = np.array([answer.lift for answer in self.answers])
        if len(lifts) >= MIN_DIALOGS:
            return mean_interval(lifts)
        return few_interval(lifts, np.array([answer.interval for answer in self.answers], dtype=float))

    @property
    def best_first(self) -> list[int]:
        """The dialogs' places: supported answers first, then what stands out most, then the greatest lift."""
        p_of_dialogs = self.p_of_dialogs

        def rank(place: int) -> tuple[bool, float, float]:
            p_value = 0.0 if p_of_dialogs is None else float(p_of_dialogs[place])
            return (not self.answers[place].supported, p_value, -self.answers[place].lift)

        return sorted(range(len(self.answers)), key=rank)


Records = Callable[[], Iterator[Record]]
"""Gives the records of an audit, one at a time, and again when called again."""


def findings(questions: Sequence[Question], records: Records, *, alpha: float, threshold: float) -> list[Finding]:
    """Judge every question over all records.

    A finding is raised where three things hold: the dialogs' scores are above nearly all neutral prompts' (corrected
    over the questions), the answers are likelier than under their strongest control on average, by more than
    the threshold, and the interval of that lift is above zero. Questions that only describe need the last two.

    Args:
        questions: What was asked.
        records: What is known of each dialog.
        alpha: False discovery rate among the questions.
        threshold: Lift that is needed.
    """
    columns = _columns(questions, records, threshold)
    q_values = iter(corrected([column.p_value for column in columns if column.p_value is not None]))
    best = {column.question.id: column.best_first for column in columns}
    chosen = {column.ids[place] for column in columns for place in best[column.question.id][:N_EVIDENCE]}
    shown = {record.id: record for record in _read_dialogs(records) if record.id in chosen}
    return [
        _finding(column, best[column.question.id], None if column.scores is None else next(q_values), shown, alpha)
        for column in columns
    ]


def _read_dialogs(records: Records) -> Iterator[DialogRecord]:
    return (record for record in records() if isinstance(record, DialogRecord))


def _columns(questions: Sequence[Question], records: Records, threshold: float) -> list[Column]:
    # By id: a chunk that was cut off is measured again as a whole.
    slim = {record.id: _without_samples(record) for record in _read_dialogs(records)}
    rows = sorted(slim.values(), key=lambda record: record.place)
    return [_column(question, rows, threshold) for question in questions if rows]


def _without_samples(record: DialogRecord) -> DialogRecord:
    answers = {question: replace(answer, samples=()) for question, answer in record.answers.items()}
    return replace(record, answers=answers, messages=(), tokens=(), positions=())


def _column(question: Question, rows: Sequence[DialogRecord], threshold: float) -> Column:
    answers = (JudgedAnswer.judge(row.answers[question.id], row.expected.get(question.id), threshold) for row in rows)
    scores = np.array([row.scores[question.id] for row in rows]) if question.expected else None
    return Column(question, tuple(row.id for row in rows), tuple(answers), scores, threshold)


def _finding(
    column: Column, best: Sequence[int], q_value: float | None, records: Mapping[str, DialogRecord], alpha: float
) -> Finding:
    answers, scores, p_of_dialogs = column.answers, column.scores, column.p_of_dialogs
    controls = {name: float(np.mean([answer.controls[name] for answer in answers])) for name in answers[0].controls}
    strongest = max(controls, key=lambda name: controls[name])
    lift = float(np.mean([answer.lift for answer in answers]))
    effects = None if scores is None else scores[:, 0] - scores[:, 1:].mean(1)
    raised, reason = _decision(lift, column, strongest, q_value, alpha)
    supported = [answers[place].text for place in best if answers[place].supported]
    return Finding(
        question=column.question,
        raised=raised,
        reason=reason,
        description=most_alike(supported[:N_COMPARED]),
        n_dialogs=len(answers),
        n_supported=sum(answer.supported for answer in answers),
        n_standing_out=None if p_of_dialogs is None else int(np.sum(p_of_dialogs <= alpha)),
        p_value=column.p_value,
        q_value=q_value,
        effect=None if effects is None else float(effects.mean()),
        effect_interval=None if effects is None else mean_interval(effects),
        score=float(np.mean([answer.score for answer in answers])),
        lift=lift,
        lift_interval=column.lift_interval,
        controls=controls,
        strongest_control=strongest,
        threshold=column.threshold,
        scores=() if scores is None else tuple(np.sort(scores[:, 0]).tolist()),
        neutral_scores=() if scores is None else tuple(np.sort(scores[:, 1:].ravel()).tolist()),
        evidence=tuple(
            _evidence(records[column.ids[place]], column, None if p_of_dialogs is None else float(p_of_dialogs[place]))
            for place in best[:N_EVIDENCE]
        ),
    )


def _evidence(record: DialogRecord, column: Column, p_value: float | None) -> Evidence:
    question = column.question.id
    expected = record.expected.get(question)
    return Evidence(
        dialog=record.id,
        messages=record.messages,
        tokens=record.tokens,
        answer=JudgedAnswer.judge(record.answers[question], expected, column.threshold),
        p_value=p_value,
        expected=expected,
    )


def _decision(lift: float, column: Column, strongest: str, q_value: float | None, alpha: float) -> tuple[bool, str]:
    """Return whether a finding is raised, and why."""
    if q_value is not None and q_value > alpha:
        return False, f"the dialogs do not differ from their neutral twins (corrected p = {q_value:.2g})"
    if not is_supported(lift, column.lift_interval, column.threshold):
        return False, (
            f"the answers are not likelier enough than under {strongest} ({lift:+.2f} nats per token; needed: "
            f"{column.threshold:.2f}, with an interval above zero)"
        )
    differ = "" if q_value is None else f"; unlike neutral twins (corrected p = {q_value:.2g})"
    return True, f"{lift:+.2f} nats per token over the strongest control ({strongest}){differ}"
