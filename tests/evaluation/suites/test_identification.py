"""Identification: candidates serve equally often, and priors are taken away."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest


def test_candidates_serve_equally_often() -> None:
    from audit_lit.evaluation.suites.identification import draw_candidates

    chosen = draw_candidates(33, seed=1)
    assert all(row[0] == index and len(set(row)) == 20 for index, row in enumerate(chosen))
    assert set(Counter(candidate for row in chosen for candidate in row[1:]).values()) == {19}
    assert chosen != draw_candidates(33, seed=2)


def test_reference_takes_the_prior_away_and_leaves_the_planted_signal() -> None:
    from audit_lit.evaluation.suites.identification import draw_candidates, less_others
    from audit_lit.statistics.scores import top_k

    rng = np.random.default_rng(0)
    chosen = draw_candidates(200, seed=0)
    prior = rng.normal(size=200) * 5
    noise = [np.array([prior[candidate] for candidate in row]) + rng.normal(size=20) for row in chosen]
    planted = [row + 4 * np.eye(20)[0] for row in noise]
    assert top_k(planted, 1).mean() < 0.4  # the prior hides it
    assert top_k(less_others(planted, chosen), 1).mean() > 0.9
    assert top_k(less_others(noise, chosen), 1).mean() == pytest.approx(0.05, abs=0.04)


def test_candidates_are_ranked_by_their_likelihood_over_its_marginal(trained: Any) -> None:
    from audit_lit.evaluation.conditions import Conditions
    from audit_lit.evaluation.dialogs import hidden_dialogs
    from audit_lit.evaluation.suites.identification import identification

    rows = trained.with_prompt
    conditions = Conditions.of(trained.decoder, trained.target, hidden_dialogs(rows, repaired=True))
    texts = [row.label_words for row in rows]
    raw = np.stack([conditions.totals("activations", row, "Who?", texts) for row in range(len(texts))])
    for marginals in (np.zeros(len(texts)), np.linspace(0, 9, len(texts))):
        figures = identification(conditions, "Who?", texts, marginals=marginals)
        right = (raw - marginals)[range(len(texts)), range(len(texts))]
        assert figures["top1"] == pytest.approx(np.mean(right >= (raw - marginals).max(1)))
    assert identification(conditions, "Who?", texts)["controls"]["text_only"] == figures["controls"]["text_only"]
