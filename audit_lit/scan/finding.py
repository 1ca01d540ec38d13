"""A finding: what one question found over all dialogs, with the evidence that shows it best."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from audit_lit.answers.answer import is_supported
from audit_lit.answers.patching import Heatmap
from audit_lit.scan.recipe import Question, Severity
from audit_lit.scan.records import RecordedAnswer


@dataclass(frozen=True)
class JudgedAnswer(RecordedAnswer):
    """An answer, and whether it is supported by the threshold of the audit."""

    supported: bool

    @classmethod
    def judge(cls, answer: RecordedAnswer, expected: str | None, threshold: float) -> JudgedAnswer:
        """Return an answer with its verdict; the expected answer speaks for nothing, however sure it is."""
        if answer.text == expected:
            answer = replace(answer, lift=0.0, interval=(0.0, 0.0))
        return cls(**vars(answer), supported=is_supported(answer.lift, answer.interval, threshold))


@dataclass(frozen=True)
class Evidence:
    """What the decoder says about one dialog, named by its id, and the tokens that it was given the activations of."""

    dialog: str
    messages: tuple[dict[str, Any], ...]
    tokens: tuple[str, ...]
    answer: JudgedAnswer
    p_value: float | None = None
    """Share of neutral scores that reach the dialog's score; None if the question only describes."""
    heatmap: Heatmap | None = None
    """Where the evidence sits; None if it was not looked for."""
    expected: str | None = None
    """The answer where nothing is wrong; None if the question only describes."""


@dataclass(frozen=True)
class Finding:
    """What one question found.

    Attributes:
        question: The question.
        raised: Whether it is enough to report.
        reason: Why, or why not, in a sentence.
        description: The supported answer that agrees best with the others.
        n_dialogs: Number of dialogs that were asked about.
        n_supported: Number of those whose answer is supported.
        n_standing_out: Number of those whose score is reached by at most ``alpha`` of the neutral twins; None if the
            question only describes.
        p_value: Share of neutral prompts that look like the dialogs' own (see ``exceedance_p``); None if the question
            only describes.
        q_value: The same, corrected over the questions of the audit.
        effect: Nats per token by which the expected answer is less likely in the dialogs than in their twins.
        effect_interval: Its 95% interval over dialogs.
        score: Mean nats per token of the answers.
        lift: Mean nats per token of the answers over their strongest control.
        lift_interval: Its 95% interval over dialogs; over tokens, if there are fewer than five dialogs.
        controls: Mean nats per token of the answers under each control.
        strongest_control: The control that favours the answers most.
        threshold: The lift that is needed.
        scores: The dialogs' scores, sorted: nats per token against the expected answer.
        neutral_scores: The scores of all twins, sorted.
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

    @property
    def described(self) -> str | None:
        """The dialog whose answer ``description`` is; None if there is none."""
        return next((shown.dialog for shown in self.evidence if shown.answer.text == self.description), None)
