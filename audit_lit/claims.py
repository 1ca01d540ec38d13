"""Claims: how likely is it that a sentence says what the activations hide?

The evidence for a claim is a log-likelihood ratio in nats: of the claim as an answer under the activations, against its
mean under decoys, which have the same visible turns after other hidden prompts. What is likely under any prompt, or
given away by the text, is no evidence. A slope and an offset make it a log-odds (Platt 1999): fitted on held-out claims
of which half are right, so a probability is that of a claim which was as likely right as wrong before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from audit_lit.activations import Activations
from audit_lit.decoder import Decoder
from audit_lit.questions import LABEL_QUESTION, PROMPT_QUESTION

QUESTIONS = (LABEL_QUESTION, PROMPT_QUESTION)


@dataclass(frozen=True)
class Claim:
    """A claim about a dialog's hidden part, and what the activations say about it.

    Attributes:
        text: Such as ``persona: pirate`` or ``Please talk like a pirate.``
        evidence: Nats in favour of the claim; below zero, against it.
        probability: That it is right, if it was as likely right as wrong before; None if the decoder's scale was not
            measured.
    """

    text: str
    evidence: float
    probability: float | None


def evidence(decoder: Decoder, own: Activations, others: Activations, claims: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return the nats for each claim, as an answer to the two standard questions together.

    Args:
        decoder: What scores.
        own: One row, the dialog's activations.
        others: The decoys', any number of rows.
        claims: What might be hidden.
    """
    return likelihood(decoder, own, claims) - likelihood(decoder, others, claims)


def likelihood(decoder: Decoder, activations: Activations, claims: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return each claim's log-probability in nats, its mean over rows and questions."""
    scores = [
        [float(score.sum()) for score in decoder.logprob_choices(activations.rows([row]), question, claims)]
        for question in QUESTIONS
        for row in range(len(activations))
    ]
    return np.asarray(np.mean(scores, axis=0))


def probability(evidence: npt.ArrayLike, scale: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return ``1 / (1 + exp(-(slope * evidence + offset)))``."""
    slope, offset = scale
    found: npt.NDArray[np.float64] = expit(slope * np.asarray(evidence, dtype=float) + offset)
    return found


def fit_scale(evidence: npt.ArrayLike, right: npt.ArrayLike) -> tuple[float, float]:
    """Return slope and offset of the logistic regression of being right on evidence, by maximum likelihood.

    The slope is at least zero, and at most what a weak prior (a standard deviation of one per nat) allows: two groups
    without overlap would have no finite one.
    """
    from scipy.optimize import minimize

    x, y = np.asarray(evidence, dtype=float), np.asarray(right, dtype=float)

    def loss(scale: npt.NDArray[np.float64]) -> float:
        logits = scale[0] * x + scale[1]
        return float(np.sum(np.logaddexp(0, logits) - y * logits) + scale[0] ** 2 / 2)

    slope, offset = minimize(loss, [0.1, 0.0], method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return float(slope), float(offset)
