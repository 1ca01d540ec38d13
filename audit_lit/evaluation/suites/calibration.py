"""Suite ``calibration``: does the decoder know how sure it is?

Claims about re-paired dialogs, half of them right. A wrong one names another dialog's prompt, of the same family where
there is one. The probability of a claim comes from its evidence (``claims.py``) by a scale that is fitted to the other
half of the dialogs, for the decoder and for every control alike; so does that of the right one in a forced choice
between it and the wrong one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from audit_lit.answers.claims import QUESTIONS, claim_marginals
from audit_lit.answers.control_scores import ACTIVATIONS
from audit_lit.answers.session import Session
from audit_lit.data.rows import Row
from audit_lit.decoder.decoder import Decoder, text_baselines
from audit_lit.evaluation.conditions import Conditions, beside
from audit_lit.evaluation.dialogs import Messages, derangement, hidden_dialogs
from audit_lit.models.target import Target
from audit_lit.statistics.calibration import (
    brier,
    expected_calibration_error,
    fit_scale,
    log_mean_exp,
    perfect_calibration_error,
    probability,
)
from audit_lit.statistics.ranking import Values, auroc, auroc_interval

PAIRINGS = 2
"""User lines that each prompt is weighed under."""


def calibration(decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Weigh claims about each prompt under two user lines: its label and its instruction, each beside another's.

    ``ece.if_perfect`` is what a perfectly calibrated decoder would show on average, because bins hold few claims.
    ``claim_scale`` and ``choice_scale`` are fitted to all dialogs: what a decoder's protocol should say.
    """
    pairings = [hidden_dialogs(rows, repaired=True, seed=seed + place) for place in range(PAIRINGS)]
    dialogs = [pairing[index] for index in range(len(rows)) for pairing in pairings]
    claims = [claims_about(rows, index, seed + place) for index in range(len(rows)) for place in range(PAIRINGS)]
    conditions = Conditions.of(decoder, target, dialogs, seed=seed)
    texts = [[text for text, _ in some] for some in claims]
    evidence = _evidence(conditions, texts, _marginals(Session.of(target, decoder), dialogs, texts), seed)
    right = np.array([[is_right for _, is_right in some] for some in claims], dtype=float)
    p = {name: cross_fitted(values, right) for name, values in evidence.items()}
    gaps = {name: values[:, ::2] - values[:, 1::2] for name, values in evidence.items()}
    chosen = {name: cross_fitted(values, np.ones_like(values), offset=False) for name, values in gaps.items()}
    both = {name: np.dstack([values, 1 - values]).reshape(right.shape) for name, values in chosen.items()}
    return {
        **_figures(p, right, seed),
        "forced_choice": _figures(both, right, seed),
        "claim_scale": fit_scale(evidence[ACTIVATIONS].ravel(), right.ravel()),
        "choice_scale": fit_scale(gaps[ACTIVATIONS].ravel(), np.ones(gaps[ACTIVATIONS].size), offset=False)[0],
        "n": right.size,
    }


def claims_about(rows: Sequence[Row], index: int, seed: int) -> list[tuple[str, bool]]:
    """Return claims about one dialog, and whether they are right, in turn."""
    rng, row = random.Random(f"{seed}/{index}"), rows[index]
    others = [one for one in rows if one.label != row.label]
    near = [one for one in others if one.family == row.family]
    wrong = rng.choice(near or others)
    texts = [row.label_words, wrong.label_words, row.instruction, wrong.instruction]
    return [(text, place % 2 == 0) for place, text in enumerate(texts)]


def cross_fitted(evidence: Values, right: Values, *, offset: bool = True) -> Values:
    """Return the probability of each claim by the scale that fits the other half of the prompts (pairs of rows)."""
    found, half = np.empty_like(evidence), np.arange(len(evidence)) // PAIRINGS % 2 == 0
    for part in (half, ~half):
        scale = fit_scale(evidence[~part].ravel(), right[~part].ravel(), offset=offset)
        found[part] = probability(evidence[part], scale)
    return found


def _marginals(session: Session, dialogs: Sequence[Messages], claims: Sequence[list[str]]) -> Values:
    """Return the marginal of each claim (columns) about each dialog (rows), as ``Auditor.score_claims`` takes it."""
    decoder = session.decoder
    if decoder.reference:
        texts = sorted({text for some in claims for text in some})
        known = dict(zip(texts, claim_marginals(decoder, decoder.reference, texts), strict=True))
        return np.array([[known[text] for text in some] for some in claims])
    shown = zip(tqdm(dialogs, desc="decoys", leave=False), claims, strict=True)
    return np.array([claim_marginals(decoder, session.read(dialog).decoys, some) for dialog, some in shown])


def _evidence(conditions: Conditions, claims: Sequence[list[str]], marginals: Values, seed: int) -> dict[str, Values]:
    """Return nats per dialog and claim under every condition, relative to the marginal.

    That of a reader of text is the likelihood of the same claims under the text of another prompt's dialog.
    """
    prompts, texts = derangement(len(claims) // PAIRINGS, seed + 1), text_baselines(conditions.decoder)
    others = [prompt * PAIRINGS + place for prompt in prompts for place in range(PAIRINGS)]
    evidence = {}
    for name in conditions.names:
        asked = [[*some, *claims[other]] if name in texts else some for some, other in zip(claims, others, strict=True)]
        nats = log_mean_exp([_likelihood(conditions, name, question, asked) for question in QUESTIONS])
        elsewhere = marginals.copy()
        if name in texts:
            elsewhere[others] = nats[:, len(claims[0]) :]
        evidence[name] = nats[:, : len(claims[0])] - elsewhere
    return evidence


def _likelihood(conditions: Conditions, name: str, question: str, claims: Sequence[list[str]]) -> Values:
    if name == "no_activation":  # which nothing depends on
        texts = sorted({text for some in claims for text in some})
        known = dict(zip(texts, conditions.totals(name, 0, question, texts), strict=True))
        return np.array([[known[text] for text in some] for some in claims])
    return np.array([conditions.totals(name, row, question, some) for row, some in enumerate(claims)])


def _figures(p: dict[str, Values], right: Values, seed: int) -> dict[str, Any]:
    yes = right == 1
    figures: dict[str, Callable[[Values], float]] = {
        "auroc": lambda values: auroc(values[yes], values[~yes]),
        "ece": lambda values: expected_calibration_error(values.ravel(), right.ravel()),
        "brier": lambda values: brier(values, right),
    }
    results: dict[str, Any] = {
        name: {
            "value": of(p[ACTIVATIONS]),
            "controls": {control: of(p[control]) for control in p if control != ACTIVATIONS},
        }
        for name, of in figures.items()
    }
    results["ece"]["if_perfect"] = perfect_calibration_error(p[ACTIVATIONS].ravel(), seed=seed)
    by_prompt = p[ACTIVATIONS].reshape(len(right) // PAIRINGS, -1)  # claims about one prompt are drawn together
    results["auroc"]["interval"] = auroc_interval(by_prompt[:, ::2], by_prompt[:, 1::2], seed=seed)
    hits = {name: ((values > 0.5) == yes).mean(axis=1) for name, values in p.items()}
    return {**results, "accuracy": beside(hits, "accuracy")}
