"""An answer, with its controls, its lift and its verdict."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from audit_lit.chat.decoys import N_DECOYS
from audit_lit.display import notebooks

SCHEMA = 1
AGREEMENT = 0.5
"""Below this overlap (F1), the samples share too few words with the answer to trust its details."""
NEEDS = {
    "shuffled": f"{N_DECOYS} decoys, of which copies count once (for a difference: organisms, --library)",
    "text_only": "the visible text or the dialog",
    "text_trained": "the visible text or the dialog",
    "visibility": "the dialog, and a tokenizer that gives its tokens",
}
"""What activations must bring along for each of those that may be missing."""


def is_supported(lift: float, interval: tuple[float, float], threshold: float | None) -> bool:
    """Return whether an answer depends on its activations: lift above the threshold, and interval above zero.

    A supported answer is not necessarily right.
    """
    return threshold is not None and lift > threshold and interval[0] > 0


def shortfall(lift: float, interval: tuple[float, float], threshold: float, control: str) -> str:
    """Return in words which conditions of support a lift over a control does not meet (see ``is_supported``)."""
    low, high = interval
    too_low = f"the lift over {control} is {lift:+z.2f} nats per token, and not above the threshold {threshold:.2f}"
    whose = "its 95% interval" if lift <= threshold else f"the 95% interval of the lift over {control}"
    unsure = f"{whose}, {low:+z.2f} to {high:+z.2f}, is not above zero"
    return "; ".join(words for words, failed in ((too_low, lift <= threshold), (unsure, low <= 0)) if failed)


def needs(missing: Iterable[str], computed: Container[str] = ()) -> str:
    """Return in words what controls lack; one that was computed all the same is incomplete."""
    return "; ".join(
        f"{name} is {'incomplete' if name in computed else 'missing'}, and takes {NEEDS[name]}" for name in missing
    )


@dataclass(frozen=True)
class Answer:
    """A decoder's answer to one question about one dialog's activations.

    Attributes:
        question: The question.
        text: The likeliest answer.
        score: Its mean log-probability given the activations, in nats per token.
        controls: The same answer's score under each control, in nats per token; of several draws of a control, the
            highest.
        lift: ``score`` minus the strongest control.
        interval: 95% bootstrap interval of the lift over the answer's tokens.
        threshold: Lift in nats per token that answers about nothing rarely reach (see ``Calibration``); None if not
            measured.
        samples: Further answers, sampled at temperature 1.
        agreement: Mean token overlap (F1) of the samples with ``text``, 0-1.
        layers: The target's layers that were read.
        positions: The token positions that were read.
        tokens: The text of the tokens at those positions.
        seed: Seed of the samples and of the control ``null``.
        target: Name of the audited model.
        decoder: Name of the decoder.
        missing: Names of the controls that could not be computed, or not from enough decoys, because a file of
            activations lacks what they need; and ``visibility``, if it cannot be checked that nothing hidden was read.
            Then no answer is supported.
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
    missing: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether the answer depends on these activations (see ``is_supported``); never if a control is missing."""
        return not self.missing and is_supported(self.lift, self.interval, self.threshold)

    @property
    def strongest_control(self) -> str:
        """Name of the control under which the answer is likeliest."""
        return max(self.controls, key=lambda name: self.controls[name])

    @property
    def verdict(self) -> str:
        """One sentence that says how far to believe the answer."""
        if self.supported:
            verdict = (
                f"supported: {self.lift:+z.2f} nats per token over the strongest control ({self.strongest_control})"
            )
            return verdict if self.agreement >= AGREEMENT else f"{verdict}, but the samples differ: trust no detail"
        if self.missing:
            return (
                f"cannot be judged: {self.lift:+z.2f} nats per token over {self.strongest_control}, but "
                f"{needs(self.missing, self.controls)}; read the activations again with that"
            )
        if self.threshold is None:
            return (
                f"not calibrated: {self.lift:+z.2f} nats per token over {self.strongest_control}, but this decoder's "
                "threshold has not been measured on this target (audit-lit calibrate measures it)"
            )
        return f"nothing to report: {shortfall(self.lift, self.interval, self.threshold, self.strongest_control)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the version of their schema."""
        return {
            "schema": SCHEMA,
            **asdict(self),
            "supported": self.supported,
            "strongest_control": self.strongest_control,
        }

    def __repr__(self) -> str:
        """Return question and answer, and the verdict on a second line."""
        return f"<Answer to {notebooks.brief(self.question)}: {notebooks.brief(self.text, 200)}\n {self.verdict}>"

    def _repr_html_(self) -> str:
        """Return the answer beside its controls as an HTML table."""
        rows = [("these activations", f"{self.score:z.2f}", "")]
        rows += [(name, f"{nats:z.2f}", f"{self.score - nats:+z.2f}") for name, nats in self.controls.items()]
        note = f"{self.text}\n[{self.verdict}]"
        return notebooks.table(self.question, ("answer given", "nats per token", "lift"), rows, note)

    def __str__(self) -> str:
        """Return the text and the verdict."""
        return f"{self.text}\n[{self.verdict}]"
