"""Calibration: which claims are made, and what their evidence is relative to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def test_claims_are_right_and_wrong_in_turn(trained: Any) -> None:
    from audit_lit.evaluation.suites.calibration import claims_about

    rows = trained.with_prompt
    for index, row in enumerate(rows):
        claims = claims_about(rows, index, seed=0)
        assert [right for _, right in claims] == [True, False, True, False]
        texts = [text for text, _ in claims]
        assert [texts[0], texts[2]] == [row.label_words, row.instruction]
        (wrong,) = [other for other in rows if other.label_words == texts[1]]
        assert wrong.label != row.label and texts[3] == wrong.instruction
    assert claims_about(rows, 0, seed=0) == claims_about(rows, 0, seed=0)


def test_probabilities_come_from_the_other_half_of_the_prompts() -> None:
    from audit_lit.evaluation.suites.calibration import PAIRINGS, cross_fitted
    from audit_lit.statistics.scores import fit_scale, probability

    rng = np.random.default_rng(0)
    right = np.tile([1.0, 0.0], (6 * PAIRINGS, 2))
    evidence = rng.normal(size=right.shape) + right
    half = np.arange(len(right)) // PAIRINGS % 2 == 0
    scale = fit_scale(evidence[~half].ravel(), right[~half].ravel())
    np.testing.assert_allclose(cross_fitted(evidence, right)[half], probability(evidence[half], scale))
    changed = evidence.copy()
    changed[half] += 3  # decides nothing about its own scale
    assert cross_fitted(changed, right)[half] == pytest.approx(probability(changed[half], scale))


def test_text_baselines_are_compared_with_another_prompts_text(monkeypatch: Any) -> None:
    from audit_lit.evaluation.conditions import Conditions
    from audit_lit.evaluation.dialogs import derangement
    from audit_lit.evaluation.suites import calibration

    n = 3 * calibration.PAIRINGS
    table = np.random.default_rng(0).normal(size=(n, 4 * n))  # text, and all claims about every dialog

    class Planted(Conditions):
        decoder, names = None, ("activations", "text_only")  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

        def totals(self, _name: str, row: int, _question: str, claims: list[str]) -> Any:
            return table[row, [int(claim) for claim in claims]]

    monkeypatch.setattr(calibration, "text_baselines", lambda _: {"text_only": None})
    claims = [[str(4 * row + place) for place in range(4)] for row in range(n)]
    marginals = np.ones((n, 4))
    evidence = calibration._evidence(Planted(), claims, marginals, seed=0)
    prompts = derangement(3, 1)
    for row, asked in enumerate(claims):
        likelihoods = table[row, [int(claim) for claim in asked]]
        np.testing.assert_allclose(evidence["activations"][row], likelihoods - 1)
        (elsewhere,) = [prompt for prompt in range(3) if prompts[prompt] == row // calibration.PAIRINGS]
        other = elsewhere * calibration.PAIRINGS + row % calibration.PAIRINGS
        np.testing.assert_allclose(
            evidence["text_only"][row], likelihoods - table[other, [int(claim) for claim in asked]], atol=1e-9
        )
