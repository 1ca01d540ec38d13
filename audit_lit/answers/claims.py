"""Claims: how likely is it that a sentence describes what is hidden in a dialog?

The evidence for a claim is a log-likelihood ratio in nats. It compares the likelihood of the claim as an answer under
the activations with its marginal, the mean of that likelihood over activations after many other hidden prompts: a claim
that is likely under any prompt has no evidence. A slope and an offset turn the evidence into a log-odds (Platt 1999).
They are fitted on held-out claims of which half are right, so a probability assumes that the claim was as likely right
as wrong before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from audit_lit.answers.controls import n_distinct
from audit_lit.answers.reading import Reading
from audit_lit.answers.session import Session
from audit_lit.chat.arguments import texts
from audit_lit.chat.decoys import N_DECOYS
from audit_lit.chat.dialog import Dialog, Reveal
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.decoder.decoder import Decoder
from audit_lit.display import notebooks
from audit_lit.errors import ActivationError, QuestionError
from audit_lit.models.activations import Activations
from audit_lit.statistics.intervals import Values
from audit_lit.statistics.scores import log_mean_exp, probability

QUESTIONS = (LABEL_QUESTION, PROMPT_QUESTION)


@dataclass(frozen=True)
class Claim:
    """A claim about a dialog's hidden part, and the evidence for it in the activations.

    Attributes:
        text: The claim, such as ``persona: pirate`` or ``Please talk like a pirate.``
        evidence: Nats in favour of the claim; against it, if below zero.
        probability: Probability that the claim is right, if it was as likely right as wrong before; None if the
            decoder's scale was not measured.
        share: Probability that the claim is the right one, if exactly one of the claims that were scored together is;
            None for one claim alone, or if the decoder's scale was not measured.
        controls: The same evidence with empty slots (``no_activation``), and on average after other hidden prompts with
            the dialog's own visible turns (``shuffled``): the evidence that the visible turns alone give.
    """

    text: str
    evidence: float
    probability: float | None
    share: float | None
    controls: dict[str, float]

    def __repr__(self) -> str:
        """Return the claim and its evidence."""
        probability = "" if self.probability is None else f", probability {self.probability:.2f}"
        return f"<Claim {notebooks.brief(self.text)}: {self.evidence:+z.1f} nats{probability}>"

    def _repr_html_(self) -> str:
        """Return the evidence beside its controls as an HTML table."""
        rows = [("these activations", f"{self.evidence:+z.1f}")]
        rows += [(name, f"{nats:+z.1f}") for name, nats in self.controls.items()]
        known = {"probability": self.probability, "share": self.share}
        note = ", ".join(f"{name} {value:.2f}" for name, value in known.items() if value is not None)
        return notebooks.table(self.text, ("evidence under", "nats"), rows, note)


def score_claims(
    session: Session, dialog: Dialog | Reading, claims: Sequence[str], reveal: Reveal = "user"
) -> list[Claim]:
    """Score claims about what is hidden in a dialog (see ``Auditor.score_claims``)."""
    claims = texts([claims] if isinstance(claims, str) else claims, "claim", QuestionError)
    if not claims or not all(claim.strip() for claim in claims):
        raise QuestionError("a claim is empty; expected a sentence such as 'Please talk like a pirate.'.")
    reading, decoder = session.read(dialog, reveal), session.decoder
    reference = decoder.reference if reading.reveal == "user" else None
    others = reference or reading.decoys
    if not others:
        raise ActivationError(
            "the reading has no decoys, and the decoder no reference for these positions; a claim's likelihood must be "
            "compared with that after other hidden prompts. Read the decoys as well (see docs/activations.md)."
        )
    marginals = claim_marginals(decoder, others, claims)
    nats = claim_likelihoods(decoder, reading.activations, claims)[0] - marginals
    controls = {
        "no_activation": claim_likelihoods(decoder, reading.activations, claims, injected=False)[0] - marginals,
    }
    if reading.decoys:
        controls["shuffled"] = claim_marginals(decoder, reading.decoys, claims) - marginals
    # The scales hold only with the reference, or the number of decoys, that they were measured with.
    n_reference = 0 if reference is None else len(reference)
    is_comparable = n_reference == decoder.config.n_reference and (
        reference is not None or n_distinct(others) == N_DECOYS
    )
    is_measured = is_comparable and reading.rendered is not None  # else hidden tokens may have been read
    scale = decoder.config.claim_scale if is_measured else None
    choice = decoder.config.choice_scale if is_measured and len(claims) > 1 else None
    probabilities = [None] * len(claims) if scale is None else probability(nats, scale).tolist()
    shares = [None] * len(claims) if choice is None else softmax(choice * nats).tolist()
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


def claim_likelihoods(
    decoder: Decoder,
    activations: Activations,
    claims: Sequence[str],
    questions: Sequence[str] = QUESTIONS,
    *,
    injected: bool = True,
) -> Values:
    """Return the log-likelihood in nats of each claim (columns) under each row of activations.

    A claim's likelihood is its mean as the answer to each question.
    """

    def nats(row: int, question: str) -> list[float]:
        scores = decoder.score_choices(activations.rows([row]), question, claims, injected=injected)
        return [float(score.sum()) for score in scores]

    return np.stack([log_mean_exp([nats(row, question) for question in questions]) for row in range(len(activations))])


def claim_marginals(
    decoder: Decoder, others: Activations, claims: Sequence[str], questions: Sequence[str] = QUESTIONS
) -> Values:
    """Return each claim's log-likelihood in nats, with the likelihood averaged over the rows of ``others``."""
    return log_mean_exp(claim_likelihoods(decoder, others, claims, questions))
