"""Claims about planted prompts: what is planted, its evidence, and the scales against plain references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def test_planted_prompts_differ_and_each_label_says_what_its_prompt_asks() -> None:
    from audit_lit.calibration.claims import PAIRINGS, planted_rows
    from audit_lit.chat.decoys import POOL

    rows = planted_rows(0)
    assert len({row.label for row in rows}) * PAIRINGS == len(rows) >= 32
    assert len({row.messages[1]["content"] for row in rows}) == len(rows)
    families = [tuple(row.family) for row in rows]
    assert all(families.count(family) > PAIRINGS for family in families)  # a wrong claim is of the same family
    assert not {row.system for row in rows} & set(POOL) and {row.label.split("-")[0] for row in rows} == {
        "persona",
        "goal",
    }
    assert planted_rows(0) == planted_rows(0) != planted_rows(1)


def test_right_and_wrong_claims_come_in_turn() -> None:
    from audit_lit.calibration.claims import asked_claims

    for row, texts in asked_claims(0):
        assert texts[0] == row.label_words and texts[2] == row.instruction and len(set(texts)) == 4


def test_evidence_is_that_of_score_claims(make_decoder: Any, target: Any) -> None:
    from audit_lit import Auditor
    from audit_lit.calibration.claims import asked_claims, claim_evidence, reference_likelihoods
    from audit_lit.evaluation.dialogs import read_dialogs
    from audit_lit.statistics.scores import log_mean_exp

    auditor, asked = Auditor(target, make_decoder()), asked_claims(0)[0]
    row, texts = asked
    expected = [claim.evidence for claim in auditor.score_claims(row.messages, texts)]
    assert claim_evidence(auditor.session, asked, {}) == pytest.approx(expected, abs=1e-3)

    decoder = make_decoder(n_reference=2)
    decoder.reference = read_dialogs(target, decoder.config, [row.messages, row.messages])
    with_reference = Auditor(target, decoder)
    likelihoods = reference_likelihoods(decoder, [0, 1], texts)
    marginals = dict(zip(texts, log_mean_exp(likelihoods).tolist(), strict=True))
    expected = [claim.evidence for claim in with_reference.score_claims(row.messages, texts)]
    assert claim_evidence(with_reference.session, asked, marginals) == pytest.approx(expected, abs=1e-3)


def test_the_scales_are_the_likeliest_ones() -> None:
    """Against a grid search of the penalised likelihood."""
    from audit_lit.calibration.claims import fitted_claims

    rng = np.random.default_rng(0)
    right = np.tile([1.0, 0.0], (40, 2))
    evidence = rng.normal(size=right.shape) * 2 + 2 * right
    fitted = fitted_claims(evidence, seed=0)
    slopes, offsets = np.meshgrid(np.linspace(0, 2, 201), np.linspace(-3, 1, 201), indexing="ij")
    logits = slopes[..., None] * evidence.ravel() + offsets[..., None]
    losses = (np.logaddexp(0, logits) - right.ravel() * logits).sum(-1) + slopes**2 / 2
    best = np.unravel_index(losses.argmin(), losses.shape)
    assert fitted.claim_scale == pytest.approx((slopes[best], offsets[best]), abs=0.02)
    gaps = (evidence[:, ::2] - evidence[:, 1::2]).ravel()
    grid = np.linspace(0, 3, 301)
    choice = [np.logaddexp(0, -slope * gaps).sum() + slope**2 / 2 for slope in grid]
    assert fitted.choice_scale == pytest.approx(grid[int(np.argmin(choice))], abs=0.02)
    pairs = evidence[:, ::2].ravel()[:, None] > evidence[:, 1::2].ravel()
    assert fitted.auroc == pytest.approx(pairs.mean()) and fitted.auroc_interval[0] < fitted.auroc
    assert (fitted.n, fitted.n_prompts) == (160, 20)


def test_evidence_without_information_has_no_slope() -> None:
    from audit_lit.calibration.claims import fitted_claims

    fitted = fitted_claims(np.random.default_rng(1).normal(size=(60, 4)), seed=0)
    assert fitted.claim_scale[0] < 0.3 and fitted.choice_scale < 0.3
