"""Suite ``calibration``: does the decoder know how sure it is?

Claims about re-paired dialogs, half of them right. A wrong one names another dialog's prompt, of the same family where
there is one. The probability of a claim comes from its evidence (``answers.claims``) by a scale that is fitted to the
other half of the dialogs, for the decoder and for every control alike; so does that of the right one in a forced choice
between it and the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from audit_lit.answers.claims import QUESTIONS, claim_marginals
from audit_lit.answers.controls import ACTIVATIONS
from audit_lit.answers.session import Session
from audit_lit.calibration.claims import PAIRINGS, claims_about, cross_fitted, forced_choices
from audit_lit.data.rows import Messages, Row
from audit_lit.decoder.decoder import Decoder, text_baselines
from audit_lit.evaluation.conditions import NO_ACTIVATION, Conditions, beside
from audit_lit.evaluation.dialogs import derangement, hidden_dialogs
from audit_lit.models.target import Target
from audit_lit.statistics import scores
from audit_lit.statistics.intervals import Values


def calibration(decoder: Decoder, target: Target, rows: Sequence[Row], *, seed: int = 0) -> dict[str, Any]:
    """Score claims about each prompt under two user lines: its label and its instruction, each beside another's.

    ``ece.if_perfect`` is what a perfectly calibrated decoder would show on average, because bins hold few claims.
    ``claim_scale`` and ``choice_scale`` are fitted to all dialogs: what a decoder's configuration should say.
    """
    pairings = [hidden_dialogs(rows, repaired=True, seed=seed + pairing) for pairing in range(PAIRINGS)]
    dialogs = [dialogs[index] for index in range(len(rows)) for dialogs in pairings]
    claims = [claims_about(rows, index, seed + pairing) for index in range(len(rows)) for pairing in range(PAIRINGS)]
    texts = [[text for text, _ in of_dialog] for of_dialog in claims]
    right = np.array([[is_right for _, is_right in of_dialog] for of_dialog in claims], dtype=float)
    conditions = Conditions.of(decoder, target, dialogs, seed=seed)
    evidence = _evidence(conditions, texts, _marginals(Session.of(target, decoder), dialogs, texts), seed)
    gaps = {name: values[:, ::2] - values[:, 1::2] for name, values in evidence.items()}
    return {
        **_figures({name: cross_fitted(values, right) for name, values in evidence.items()}, right, seed),
        "forced_choice": _figures({name: forced_choices(values) for name, values in gaps.items()}, right, seed),
        "claim_scale": scores.fit_scale(evidence[ACTIVATIONS].ravel(), right.ravel()),
        "choice_scale": scores.fit_scale(gaps[ACTIVATIONS].ravel(), np.ones(gaps[ACTIVATIONS].size), offset=False)[0],
        "n": right.size,
    }


def _marginals(session: Session, dialogs: Sequence[Messages], claims: Sequence[list[str]]) -> Values:
    """Return the marginal of each claim (columns) about each dialog (rows), as ``score_claims`` takes it."""
    decoder, reference = session.decoder, session.decoder.reference
    if reference:
        return _by_text(claims, lambda texts: claim_marginals(decoder, reference, texts))
    decoys = [session.read(dialog).parts["decoys"] for dialog in tqdm(dialogs, desc="decoys", leave=False)]
    return np.array([claim_marginals(decoder, rows, texts) for rows, texts in zip(decoys, claims, strict=True)])


def _by_text(claims: Sequence[list[str]], measure: Callable[[list[str]], Values]) -> Values:
    """Return a value of each claim (columns) of each dialog (rows) that depends on its text alone."""
    texts = sorted({text for of_dialog in claims for text in of_dialog})
    known = dict(zip(texts, measure(texts), strict=True))
    return np.array([[known[text] for text in of_dialog] for of_dialog in claims])


def _evidence(conditions: Conditions, claims: Sequence[list[str]], marginals: Values, seed: int) -> dict[str, Values]:
    """Return nats per dialog and claim under every condition, relative to the marginal.

    The marginal of a text baseline is the likelihood of the same claims under the text of another prompt's dialog.
    """
    prompts, baselines = derangement(len(claims) // PAIRINGS, seed + 1), text_baselines(conditions.decoder)
    others = [prompt * PAIRINGS + pairing for prompt in prompts for pairing in range(PAIRINGS)]
    n_claims, evidence = len(claims[0]), {}
    for name in conditions.names:
        with_others = [[*of_dialog, *claims[other]] for of_dialog, other in zip(claims, others, strict=True)]
        asked = with_others if name in baselines else claims
        nats = scores.log_mean_exp([_likelihoods(conditions, name, question, asked) for question in QUESTIONS])
        elsewhere = marginals.copy()
        if name in baselines:
            elsewhere[others] = nats[:, n_claims:]
        evidence[name] = nats[:, :n_claims] - elsewhere
    return evidence


def _likelihoods(conditions: Conditions, name: str, question: str, claims: Sequence[list[str]]) -> Values:
    if name == NO_ACTIVATION:
        return _by_text(claims, lambda texts: conditions.totals(name, 0, question, texts))
    return np.array([conditions.totals(name, row, question, texts) for row, texts in enumerate(claims)])


def _figures(probabilities: dict[str, Values], right: Values, seed: int) -> dict[str, Any]:
    is_right, read = right == 1, probabilities[ACTIVATIONS]
    controls = [name for name in probabilities if name != ACTIVATIONS]
    measures: dict[str, Callable[[Values], float]] = {
        "auroc": lambda values: scores.auroc(values[is_right], values[~is_right]),
        "ece": lambda values: scores.expected_calibration_error(values.ravel(), right.ravel()),
        "brier": lambda values: scores.brier(values, right),
    }
    figures: dict[str, Any] = {
        name: {"value": measure(read), "controls": {control: measure(probabilities[control]) for control in controls}}
        for name, measure in measures.items()
    }
    figures["ece"]["if_perfect"] = scores.perfect_calibration_error(read.ravel(), seed=seed)
    by_prompt = read.reshape(len(right) // PAIRINGS, -1)  # claims about one prompt are drawn together
    figures["auroc"]["interval"] = scores.auroc_interval(by_prompt[:, ::2], by_prompt[:, 1::2], seed=seed)
    hits = {name: ((values > 0.5) == is_right).mean(axis=1) for name, values in probabilities.items()}
    return {**figures, "accuracy": beside(hits, "accuracy")}
