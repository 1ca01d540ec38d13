"""From records to findings: what each question found over all dialogs, and whether it is enough to report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from audit_lit.answer import token_f1
from audit_lit.scan.questions import Question, Severity
from audit_lit.scan.statistics import (
    MIN_DIALOGS,
    Values,
    conformal_p,
    corrected,
    exceedance_p,
    few_interval,
    mean_interval,
)

N_EVIDENCE = 3
N_COMPARED = 100


@dataclass(frozen=True)
class Evidence:
    """One dialog and what was said of it.

    Attributes:
        dialog: Its id.
        messages: Its messages.
        tokens: What the decoder was given the activations of.
        answer: Text, score, controls, lift, interval, samples, agreement, supported.
        p_value: Share of neutral scores like its own; None if the question only describes.
        heatmap: Where the evidence sits (see ``patching.Heatmap``); None if it was not looked for.
        expected: What would be said where nothing is wrong; None if the question only describes.
    """

    dialog: str
    messages: tuple[dict[str, Any], ...] = ()
    tokens: tuple[str, ...] = ()
    answer: dict[str, Any] = field(default_factory=dict)
    p_value: float | None = None
    heatmap: dict[str, Any] | None = None
    expected: str | None = None


@dataclass(frozen=True)
class Finding:
    """What one question found.

    Attributes:
        question: What was asked.
        raised: Whether it is enough to report.
        reason: Why, or why not, in a sentence.
        description: The answer that agrees best with the others.
        n_dialogs: Dialogs that were asked about.
        n_supported: Those whose answer is supported.
        n_standing_out: Those whose score fewer than ``alpha`` of the neutral twins reach.
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
        ids: The dialogs.
        answers: As in the records, without samples.
        expected: What would be said where nothing is wrong; None if the question only describes.
        scores: A row per dialog: its own score, then its twins'.
    """

    ids: list[str] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    expected: list[str | None] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)


def findings(
    questions: Sequence[Question],
    records: Callable[[], Iterator[dict[str, Any]]],
    *,
    alpha: float,
    threshold: float,
) -> list[Finding]:
    """Judge every question over all records.

    A finding is raised where three things hold: the dialogs' scores are above nearly all neutral prompts' (corrected
    over the questions), the answers are likelier than under their strongest control on average, by more than
    the threshold, and the interval of that lift is above zero. Questions that only describe need the last two.

    Args:
        questions: What was asked.
        records: Gives those of ``Measurement.record``, one at a time and again when called again.
        alpha: False discovery rate among the questions.
        threshold: Lift that is needed.
    """
    columns = _columns(questions, records)
    found = [_finding(one, columns[one.id], alpha, threshold) for one in questions if columns[one.id].ids]
    q_values = iter(corrected([one.p_value for one in found if one.p_value is not None]))
    found = [replace(one, q_value=None if one.p_value is None else next(q_values)) for one in found]
    chosen = {evidence.dialog for one in found for evidence in one.evidence}
    shown = {record["id"]: record for record in records() if record["id"] in chosen and "error" not in record}
    return [_decided(_with_evidence(one, shown), alpha) for one in found]


def _columns(questions: Sequence[Question], records: Callable[[], Iterator[dict[str, Any]]]) -> dict[str, Column]:
    columns = {question.id: Column() for question in questions}
    # By name: a chunk that was cut off is measured again as a whole.
    slim = {record["id"]: _slim(record) for record in records() if "error" not in record}
    for _, name, answers, expected, scores in sorted(slim.values(), key=lambda one: one[0]):
        for question, column in columns.items():
            column.ids.append(name)
            column.answers.append(answers[question])
            column.expected.append(expected.get(question))
            column.scores.append(scores.get(question, []))
    return columns


def _slim(record: dict[str, Any]) -> tuple[int, str, dict[str, Any], dict[str, str], dict[str, list[float]]]:
    kept = ("text", "score", "lift", "interval", "controls")
    answers = {question: {key: one[key] for key in kept} for question, one in record["answers"].items()}
    return record["place"], record["id"], answers, record["expected"], record["scores"]


def _finding(question: Question, column: Column, alpha: float, threshold: float) -> Finding:
    answers = [_judged(*pair, threshold) for pair in zip(column.answers, column.expected, strict=True)]
    lifts = np.array([answer["lift"] for answer in answers])
    names = list(answers[0]["controls"])
    controls = {name: float(np.mean([answer["controls"][name] for answer in answers])) for name in names}
    scores = np.array(column.scores) if question.expected else None
    p_each = None if scores is None else conformal_p(scores)
    effects = None if scores is None else scores[:, 0] - scores[:, 1:].mean(1)
    best = _best_first(answers, p_each)
    return Finding(
        question=question,
        raised=False,
        reason="",
        description=_description([answers[at]["text"] for at in best if answers[at]["supported"]]),
        n_dialogs=len(answers),
        n_supported=sum(answer["supported"] for answer in answers),
        n_standing_out=None if p_each is None else int(np.sum(p_each <= alpha)),
        p_value=None if scores is None else exceedance_p(scores),
        q_value=None,
        effect=None if effects is None else float(effects.mean()),
        effect_interval=None if effects is None else mean_interval(effects),
        score=float(np.mean([answer["score"] for answer in answers])),
        lift=float(lifts.mean()),
        lift_interval=_lift_interval(lifts, answers),
        controls=controls,
        strongest_control=max(controls, key=lambda name: controls[name]),
        threshold=threshold,
        scores=() if scores is None else tuple(np.sort(scores[:, 0]).tolist()),
        neutral_scores=() if scores is None else tuple(np.sort(scores[:, 1:].ravel()).tolist()),
        evidence=tuple(
            Evidence(column.ids[at], p_value=None if p_each is None else float(p_each[at])) for at in best[:N_EVIDENCE]
        ),
    )


def _lift_interval(lifts: Values, answers: Sequence[dict[str, Any]]) -> tuple[float, float]:
    if len(lifts) >= MIN_DIALOGS:
        return mean_interval(lifts)
    return few_interval(lifts, np.array([answer["interval"] for answer in answers], dtype=float))


def _judged(answer: dict[str, Any], expected: str | None, threshold: float) -> dict[str, Any]:
    """Return an answer, supported or not; one that says what is expected speaks for nothing, however sure it is."""
    if answer["text"] == expected:
        return {**answer, "lift": 0.0, "interval": [0.0, 0.0], "supported": False}
    return {**answer, "supported": answer["lift"] > threshold and answer["interval"][0] > 0}


def _best_first(answers: Sequence[dict[str, Any]], p_each: np.ndarray | None) -> list[int]:
    """Return the dialogs' places: supported answers first, then what stands out most, then the greatest lift."""

    def rank(at: int) -> tuple[bool, float, float]:
        return (not answers[at]["supported"], 0.0 if p_each is None else float(p_each[at]), -answers[at]["lift"])

    return sorted(range(len(answers)), key=rank)


def _with_evidence(finding: Finding, records: dict[str, dict[str, Any]]) -> Finding:
    """Return a finding with what its dialogs said."""
    filled = tuple(
        replace(
            one,
            messages=tuple(records[one.dialog]["messages"]),
            tokens=tuple(records[one.dialog]["tokens"]),
            answer=_of(records[one.dialog], finding),
            expected=records[one.dialog]["expected"].get(finding.question.id),
        )
        for one in finding.evidence
    )
    return replace(finding, evidence=filled)


def _of(record: dict[str, Any], finding: Finding) -> dict[str, Any]:
    question = finding.question.id
    return _judged(record["answers"][question], record["expected"].get(question), finding.threshold)


def _description(texts: Sequence[str]) -> str:
    """Return the text that shares most words with the others; the first of equals, none of none."""
    some = texts[:N_COMPARED]
    return max(some, key=lambda text: sum(token_f1(text, other) for other in some), default="")


def _decided(finding: Finding, alpha: float) -> Finding:
    """Return a finding with the decision on it, and its reason."""
    if finding.q_value is not None and finding.q_value > alpha:
        reason = f"the dialogs do not differ from their neutral twins (corrected p = {finding.q_value:.2g})"
    elif finding.lift <= finding.threshold or finding.lift_interval[0] <= 0:
        reason = (
            f"the answers are not likelier enough than under {finding.strongest_control} "
            f"({finding.lift:+.2f} nats per token; needed: {finding.threshold:.2f}, with an interval above zero)"
        )
    else:
        differ = "" if finding.q_value is None else f"; unlike neutral twins (corrected p = {finding.q_value:.2g})"
        reason = f"{finding.lift:+.2f} nats per token over the strongest control ({finding.strongest_control}){differ}"
        return replace(finding, raised=True, reason=reason)
    return replace(finding, reason=reason)
