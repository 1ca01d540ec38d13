"""Claims about planted prompts, half of them right: the scales that turn their evidence into probabilities.

The prompts are harmless and ship with the package (``recipes/calibration/planted.yaml``).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from audit_lit.answers.claims import claim_likelihoods, claim_marginals
from audit_lit.answers.session import Session
from audit_lit.data.rows import Row
from audit_lit.decoder.calibration import Claims
from audit_lit.decoder.decoder import Decoder
from audit_lit.files.documents import decode_yaml
from audit_lit.files.reading import read_text
from audit_lit.recipes import CALIBRATION, neutral_lines
from audit_lit.statistics import scores
from audit_lit.statistics.intervals import Values

PAIRINGS = 2
"""Number of user lines that each prompt is paired with."""
Asked = tuple[Row, tuple[str, ...]]
"""A dialog, and the claims about it."""


@cache
def planted_rows(seed: int) -> tuple[Row, ...]:
    """Return each planted prompt before ``PAIRINGS`` neutral lines, the dialogs of a prompt one after the other."""
    rng = random.Random(f"{seed} planted")
    prompts = decode_yaml(read_text(CALIBRATION / "planted.yaml"))
    lines = iter(rng.sample(neutral_lines(), PAIRINGS * len(prompts)))
    rows = []
    for prompt in prompts:
        system = {"role": "system", "content": prompt["prompt"], "hidden": True}
        rows += [Row(prompt["label"], (system, {"role": "user", "content": next(lines)})) for _ in range(PAIRINGS)]
    return tuple(rows)


def claims_about(rows: Sequence[Row], index: int, seed: int) -> list[tuple[str, bool]]:
    """Return claims about one dialog and whether they are right, a right one and a wrong one in turn."""
    rng, row = random.Random(f"{seed}/{index}"), rows[index]
    others = [other for other in rows if other.label != row.label]
    near = [other for other in others if other.family == row.family]
    wrong = rng.choice(near or others)
    texts = [row.label_words, wrong.label_words, row.instruction, wrong.instruction]
    return [(text, place % 2 == 0) for place, text in enumerate(texts)]


def asked_claims(seed: int) -> list[Asked]:
    """Return the planted dialogs with four claims about each, a right one and a wrong one in turn."""
    rows = planted_rows(seed)
    return [(row, tuple(text for text, _ in claims_about(rows, index, seed))) for index, row in enumerate(rows)]


def reference_likelihoods(decoder: Decoder, rows: Sequence[int], texts: Sequence[str]) -> list[list[float]]:
    """Return the log-likelihood in nats of each claim under some rows of the decoder's reference, a list for each row.

    Its mean over all rows is the claim's marginal, as ``claim_marginals`` takes it; all claims follow one prompt.
    """
    assert decoder.reference is not None
    nats: list[list[float]] = claim_likelihoods(decoder, decoder.reference.rows(rows), texts).tolist()
    return nats


def claim_evidence(session: Session, asked: Asked, marginals: Mapping[str, float]) -> list[float]:
    """Return the evidence for the claims about one dialog in nats, as ``score_claims`` takes it.

    Where the decoder has no reference, and so no ``marginals``, they are those under the dialog's decoys.
    """
    (row, texts), decoder = asked, session.decoder
    if marginals:
        activations = session.read_alone(row.messages)
        elsewhere = np.array([marginals[text] for text in texts])
    else:
        reading = session.read(row.messages)
        activations, elsewhere = reading.activations, claim_marginals(decoder, reading.parts["decoys"], texts)
    return [float(nats) for nats in claim_likelihoods(decoder, activations, texts)[0] - elsewhere]


def fitted_claims(evidence: Values, seed: int) -> Claims:
    """Return the scales of evidence (a row per dialog, a column per claim), and figures that are cross-fitted."""
    right = np.tile([1.0, 0.0], (len(evidence), evidence.shape[1] // 2))
    gaps, by_prompt = evidence[:, ::2] - evidence[:, 1::2], evidence.reshape(len(evidence) // PAIRINGS, -1)
    slope, offset = scores.fit_scale(evidence.ravel(), right.ravel())
    choice, _ = scores.fit_scale(gaps.ravel(), np.ones(gaps.size), offset=False)
    return Claims(
        claim_scale=(round(slope, 4), round(offset, 4)),
        choice_scale=round(choice, 4),
        auroc=scores.auroc(evidence[:, ::2].ravel(), evidence[:, 1::2].ravel()),
        auroc_interval=scores.auroc_interval(by_prompt[:, ::2], by_prompt[:, 1::2], seed=seed),
        ece=scores.expected_calibration_error(cross_fitted(evidence, right).ravel(), right.ravel()),
        n=evidence.size,
        n_prompts=len(by_prompt),
    )


def cross_fitted(evidence: Values, right: Values, *, offset: bool = True) -> Values:
    """Return the probability of each claim by the scale that fits the other half of the prompts (pairs of rows)."""
    probabilities, first = np.empty_like(evidence), np.arange(len(evidence)) // PAIRINGS % 2 == 0
    for half in (first, ~first):
        scale = scores.fit_scale(evidence[~half].ravel(), right[~half].ravel(), offset=offset)
        probabilities[half] = scores.probability(evidence[half], scale)
    return probabilities


def forced_choices(gaps: Values) -> Values:
    """Return the probabilities of both claims of each forced choice, in the order of the claims."""
    chosen = cross_fitted(gaps, np.ones_like(gaps), offset=False)
    return np.dstack([chosen, 1 - chosen]).reshape(len(gaps), -1)
