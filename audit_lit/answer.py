"""An answer, with everything that says how far to believe it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SCHEMA = 1
AGREEMENT = 0.5
"""Below this overlap, samples share less than half of their words with the answer: its details are guesses."""


@dataclass(frozen=True)
class Answer:
    """What the decoder says about some activations.

    Attributes:
        question: What was asked.
        text: The likeliest answer.
        score: Its mean log-probability given the activations, in nats per token.
        controls: The same answer's score under each control, in nats per token; where there are several draws, under
            the one that favours the answer most.
        lift: ``score`` minus the strongest control.
        interval: 95% bootstrap interval of the lift over the answer's tokens.
        threshold: Lift that the decoder's answers about nothing rarely reach (see ``Protocol``); None if not measured.
        samples: Further answers, sampled at temperature 1.
        agreement: Mean token overlap (F1) of the samples with ``text``, 0-1.
        layers: The target's layers that were read.
        positions: The token positions that were read.
        tokens: The text of the tokens at those positions.
        seed: Of the samples and the random control.
        target: Name of the audited model.
        decoder: Name of the decoder.
    """

    question: str
    text: str
    score: float
    controls: dict[str, float]
    lift: float
    interval: tuple[float, float]
    threshold: float | None
    samples: tuple[str, ...]
    agreement: float
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    tokens: tuple[str, ...]
    seed: int
    target: str
    decoder: str

    @property
    def supported(self) -> bool:
        """Whether the answer depends on these activations: lift above the threshold, interval above zero.

        It does not say that the answer is right.
        """
        return self.threshold is not None and self.lift > self.threshold and self.interval[0] > 0

    @property
    def strongest_control(self) -> str:
        """Name of the control under which the answer is likeliest."""
        return max(self.controls, key=lambda name: self.controls[name])

    @property
    def verdict(self) -> str:
        """One sentence for a person."""
        if self.supported:
            lift = f"supported: {self.lift:+.2f} nats per token over the strongest control ({self.strongest_control})"
            return lift if self.agreement >= AGREEMENT else f"{lift}, but the samples differ: trust no detail"
        if self.threshold is None:
            return (
                f"cannot be judged: {self.lift:+.2f} nats per token over {self.strongest_control}, but nobody measured "
                "this decoder's threshold (audit-lit eval null does)"
            )
        return (
            f"nothing to report: the answer is not likelier enough than under {self.strongest_control} to be believed"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the schema's version."""
        return {
            "schema": SCHEMA,
            **asdict(self),
            "supported": self.supported,
            "strongest_control": self.strongest_control,
        }

    def __str__(self) -> str:
        """Return the text and the verdict."""
        return f"{self.text}\n[{self.verdict}]"


def token_f1(left: str, right: str) -> float:
    """Return the F1 overlap of two texts' words, 0-1, case and punctuation ignored (as SQuAD scores answers)."""
    a, b = (re.findall(r"\w+", text.lower()) for text in (left, right))
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b)) if a or b else 1.0


def agreement(text: str, samples: Sequence[str]) -> float:
    """Return the mean overlap of samples with a text; 1.0 where there are none."""
    return float(np.mean([token_f1(text, sample) for sample in samples])) if samples else 1.0


def bootstrap_interval(values: npt.ArrayLike, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean; one value, or equal ones, have no spread to resample."""
    from scipy.stats import bootstrap

    data = np.asarray(values, dtype=float)
    if len(data) < 2 or np.ptp(data) == 0:
        return (float(data.mean()), float(data.mean()))
    found = bootstrap((data,), np.mean, confidence_level=level, method="percentile", rng=seed)
    return (float(found.confidence_interval.low), float(found.confidence_interval.high))
