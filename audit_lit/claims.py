"""Claims: how likely is it that a sentence says what the activations hide?

The evidence for a claim is a log-likelihood ratio in nats: of the claim as an answer under the activations, against
its marginal, the mean of that likelihood over activations after many other hidden prompts. What is likely under any
prompt is no evidence. A slope and an offset make it a log-odds (Platt 1999): fitted on held-out claims of which half
are right, so a probability is that of a claim which was as likely right as wrong before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logsumexp, softmax

from audit_lit.activations import Activations
from audit_lit.decoder import Decoder
from audit_lit.questions import LABEL_QUESTION, PROMPT_QUESTION

QUESTIONS = (LABEL_QUESTION, PROMPT_QUESTION)
Nats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Claim:
    """A claim about a dialog's hidden part, and what the activations say about it.

    Attributes:
        text: Such as ``persona: pirate`` or ``Please talk like a pirate.``
        evidence: Nats in favour of the claim; below zero, against it.
        probability: That it is right, if it was as likely right as wrong before; None if the decoder's scale was not
            measured.
        share: That it is the right one, if exactly one of the claims weighed together is; None for one claim alone, and
            likewise.
        controls: The same evidence with empty slots (``no_activation``), and on average after other hidden prompts with
            the dialog's own visible turns (``shuffled``): what the visible turns alone speak for.
    """

    text: str
    evidence: float
    probability: float | None
    share: float | None
    controls: dict[str, float]


def weigh(
    decoder: Decoder,
    own: Activations,
    decoys: Activations,
    claims: Sequence[str],
    *,
    reference: Activations | None = None,
) -> list[Claim]:
    """Weigh claims about one row of activations.

    Args:
        decoder: What scores.
        own: One row, the dialog's activations.
        decoys: Of the same visible turns after other hidden prompts, any number of rows.
        claims: What might be hidden.
        reference: What the marginal is taken over; None takes the decoys. Probabilities are given only with what the
            decoder's scale was measured with.
    """
    known = marginal(decoder, reference or decoys, claims)
    nats = likelihood(decoder, own, claims)[0] - known
    controls = {
        "no_activation": likelihood(decoder, own, claims, injected=False)[0] - known,
        "shuffled": marginal(decoder, decoys, claims) - known,
    }
    wire, measured = decoder.protocol, len(reference or ()) == decoder.protocol.n_reference
    scale = wire.claim_scale if measured else None
    choice = wire.choice_scale if measured and len(claims) > 1 else None
    likely = [None] * len(claims) if scale is None else probability(nats, scale).tolist()
    shares = [None] * len(claims) if choice is None else softmax(choice * nats).tolist()
    return [
        Claim(text, float(nats[at]), likely[at], shares[at], {name: float(one[at]) for name, one in controls.items()})
        for at, text in enumerate(claims)
    ]


def likelihood(
    decoder: Decoder,
    activations: Activations,
    claims: Sequence[str],
    questions: Sequence[str] = QUESTIONS,
    *,
    injected: bool = True,
) -> Nats:
    """Return each row's and claim's log-likelihood in nats, as the answer to one of the questions."""

    def scores(row: int, question: str) -> list[float]:
        given = activations.rows([row])
        return [float(one.sum()) for one in decoder.logprob_choices(given, question, claims, injected=injected)]

    return np.stack([either([scores(row, question) for question in questions]) for row in range(len(activations))])


def marginal(
    decoder: Decoder, others: Activations, claims: Sequence[str], questions: Sequence[str] = QUESTIONS
) -> Nats:
    """Return each claim's log-likelihood in nats, averaged as a probability over the rows."""
    return either(likelihood(decoder, others, claims, questions))


def either(nats: npt.ArrayLike) -> Nats:
    """Return the logarithm of the mean probability over the first dimension."""
    found = np.asarray(nats, dtype=float)
    return np.asarray(logsumexp(found, axis=0) - np.log(len(found)))


def probability(evidence: npt.ArrayLike, scale: tuple[float, float]) -> Nats:
    """Return ``1 / (1 + exp(-(slope * evidence + offset)))``."""
    slope, offset = scale
    found: Nats = expit(slope * np.asarray(evidence, dtype=float) + offset)
    return found


def fit_scale(evidence: npt.ArrayLike, right: npt.ArrayLike, *, offset: bool = True) -> tuple[float, float]:
    """Return slope and offset of the logistic regression of being right on evidence, by maximum likelihood.

    The slope is at least zero, and at most what a weak prior (a standard deviation of one per nat) allows: two groups
    without overlap would have no finite one. Without ``offset`` it is zero: for differences between two claims.
    """
    from scipy.optimize import minimize

    x, y = np.asarray(evidence, dtype=float), np.asarray(right, dtype=float)

    def loss(scale: Nats) -> float:
        logits = scale[0] * x + scale[1]
        return float(np.sum(np.logaddexp(0, logits) - y * logits) + scale[0] ** 2 / 2)

    free = None if offset else 0.0
    slope, shift = minimize(loss, [0.1, 0.0], method="L-BFGS-B", bounds=[(0, None), (free, free)]).x
    return float(slope), float(shift)
