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
from scipy.special import softmax

from audit_lit.answers.session import Session
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.decoder import Decoder
from audit_lit.errors import QuestionError
from audit_lit.models.activations import Activations
from audit_lit.statistics.calibration import log_mean_exp, probability

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
        share: That it is the right one, if exactly one of the claims that were scored together is; None for one claim
            alone, and likewise.
        controls: The same evidence with empty slots (``no_activation``), and on average after other hidden prompts with
            the dialog's own visible turns (``shuffled``): what the visible turns alone speak for.
    """

    text: str
    evidence: float
    probability: float | None
    share: float | None
    controls: dict[str, float]


def score_claims(session: Session, dialog: Dialog, claims: Sequence[str], reveal: Reveal = "user") -> list[Claim]:
    """Say how likely it is that each claim describes what is hidden in a dialog (see ``Auditor.score_claims``)."""
    if not claims or not all(claim.strip() for claim in claims):
        raise QuestionError("a claim is empty; expected a sentence such as 'Please talk like a pirate.'.")
    reading, decoder = session.read(dialog, reveal), session.decoder
    reference = decoder.reference if reveal == "user" else None
    return compare_claims(decoder, reading.activations, reading.decoys, claims, reference=reference)


def compare_claims(
    decoder: Decoder,
    activations: Activations,
    decoys: Activations,
    claims: Sequence[str],
    *,
    reference: Activations | None = None,
) -> list[Claim]:
    """Score claims about one row of activations.

    Args:
        decoder: The model that scores.
        activations: One row, the dialog's own.
        decoys: Activations of the same visible turns after other hidden prompts, any number of rows.
        claims: What might be hidden.
        reference: Activations that the marginal is taken over; None takes the decoys. Probabilities are given only with
            the reference that the decoder's scale was measured with.
    """
    marginals = claim_marginals(decoder, reference or decoys, claims)
    nats = claim_likelihoods(decoder, activations, claims)[0] - marginals
    controls = {
        "no_activation": claim_likelihoods(decoder, activations, claims, injected=False)[0] - marginals,
        "shuffled": claim_marginals(decoder, decoys, claims) - marginals,
    }
    probabilities, shares = _probabilities(
        decoder.config, nats, is_measured=_n(reference) == decoder.config.n_reference
    )
    return [
        Claim(
            text=text,
            evidence=float(nats[index]),
            probability=probabilities[index],
            share=shares[index],
            controls={name: float(values[index]) for name, values in controls.items()},
        )
        for index, text in enumerate(claims)
    ]


def _n(reference: Activations | None) -> int:
    return 0 if reference is None else len(reference)


def _probabilities(
    config: DecoderConfig, nats: Nats, *, is_measured: bool
) -> tuple[Sequence[float | None], Sequence[float | None]]:
    """Return each claim's probability alone, and its share among all; None where the scale was not measured."""
    scale = config.claim_scale if is_measured else None
    choice = config.choice_scale if is_measured and len(nats) > 1 else None
    probabilities = [None] * len(nats) if scale is None else probability(nats, scale).tolist()
    shares = [None] * len(nats) if choice is None else softmax(choice * nats).tolist()
    return probabilities, shares


def claim_likelihoods(
    decoder: Decoder,
    activations: Activations,
    claims: Sequence[str],
    questions: Sequence[str] = QUESTIONS,
    *,
    injected: bool = True,
) -> Nats:
    """Return each row's and claim's log-likelihood in nats, as the answer to one of the questions."""

    def nats(row: int, question: str) -> list[float]:
        scores = decoder.score_choices(activations.rows([row]), question, claims, injected=injected)
        return [float(score.sum()) for score in scores]

    return np.stack([log_mean_exp([nats(row, question) for question in questions]) for row in range(len(activations))])


def claim_marginals(
    decoder: Decoder, others: Activations, claims: Sequence[str], questions: Sequence[str] = QUESTIONS
) -> Nats:
    """Return each claim's log-likelihood in nats, averaged as a probability over the rows."""
    return log_mean_exp(claim_likelihoods(decoder, others, claims, questions))
