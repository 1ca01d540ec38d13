"""P-values: what they count, how often they err, and their correction."""

from __future__ import annotations

import numpy as np
import pytest


def test_the_p_value_ranks_the_dialogs_among_neutral_prompts() -> None:
    from audit_lit.statistics.significance import exceedance_p

    # the dialog's own, without a prompt, two neutral ones
    scores = np.array([[5.0, 9.0, 1.0, 6.0], [3.0, 0.0, 2.0, 3.0]])
    assert exceedance_p(scores) == (1 + 2 + 1) / (2 + 4)  # 6 and 3 reach; the bare twins' mean, 4.5, does, too
    scores[0, 1] = 0.0
    assert exceedance_p(scores) == (1 + 2) / 6
    assert exceedance_p(np.ones((5, 4))) == 1.0


@pytest.mark.parametrize("shared", [True, False])
def test_false_alarms_stay_below_alpha(shared: bool) -> None:
    from audit_lit.statistics.significance import corrected, exceedance_p

    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(400):
        prompts = rng.exponential(size=(8, 7, 2))  # what a prompt does to every dialog under it
        prompts[:, 1] = 0.0  # without one
        if shared:
            prompts[:, 0] = prompts[0, 0]
        scores = prompts + 0.1 * rng.normal(size=prompts.shape) + rng.normal(size=(8, 1, 1))
        alarms += min(corrected([exceedance_p(scores[..., question]) for question in range(2)])) <= 0.05
    assert alarms <= 400 * 0.075  # 20 expected at most


def test_conformal_p_is_a_rank_among_all_twins() -> None:
    from audit_lit.statistics.significance import conformal_p

    scores = np.array([[5.0, 1.0, 2.0], [1.5, 3.0, 0.0]])
    assert conformal_p(scores).tolist() == [pytest.approx(1 / 5), pytest.approx(3 / 5)]
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, size=(7, 5)).astype(float)  # with ties
    twins = scores[:, 1:]
    expected = [(1 + np.sum(twins >= score)) / (1 + twins.size) for score in scores[:, 0]]
    assert conformal_p(scores) == pytest.approx(expected)


def test_conformal_p_is_uniform_or_above_where_dialogs_are_like_their_twins() -> None:
    from audit_lit.statistics.significance import conformal_p

    scores = np.random.default_rng(0).normal(size=(4000, 4))
    for alpha in (0.05, 0.2, 0.5):
        assert np.mean(conformal_p(scores) <= alpha) == pytest.approx(alpha, abs=0.03)


def test_correction_is_that_of_benjamini_and_hochberg() -> None:
    from audit_lit.statistics.significance import corrected

    p_values = [0.01, 0.04, 0.03, 0.5, 0.02]
    order = np.argsort(p_values)
    raw = np.array(p_values)[order] * 5 / np.arange(1, 6)
    expected = np.empty(5)
    expected[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1)
    assert corrected(p_values) == pytest.approx(expected.tolist())
    assert corrected([]) == [] and corrected([0.3]) == [0.3]
