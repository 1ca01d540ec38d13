"""p-values and intervals: what they are, and how often they err."""

from __future__ import annotations

import numpy as np
import pytest


def test_the_p_value_ranks_the_dialogs_among_neutral_prompts() -> None:
    from audit_lit.statistics.significance import exceedance_p

    # own, bare, two neutral ones
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
        alarms += min(corrected([exceedance_p(scores[..., at]) for at in range(2)])) <= 0.05
    assert alarms <= 400 * 0.075  # 20 expected at most


def test_intervals_of_few_dialogs_cover_the_mean() -> None:
    from scipy.stats import ttest_1samp

    from audit_lit.statistics.intervals import few_interval, mean_interval

    rng = np.random.default_rng(0)
    draws = [mean_interval(rng.normal(size=3)) for _ in range(400)]
    assert 0.92 < np.mean([low < 0 < high for low, high in draws]) < 0.98
    values = rng.normal(size=5)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert mean_interval(np.array([2.0])) == (2.0, 2.0)
    one = np.array([[-0.5, 1.5]])
    assert few_interval(np.array([0.5]), one) == (pytest.approx(-0.5), pytest.approx(1.5))
    low, high = few_interval(np.array([0.5] * 4), np.repeat(one, 4, axis=0))
    assert (low, high) == (pytest.approx(0.0), pytest.approx(1.0))  # four times as many: half as wide


def test_conformal_p_is_a_rank_among_all_twins() -> None:
    from audit_lit.statistics.significance import conformal_p

    scores = np.array([[5.0, 1.0, 2.0], [1.5, 3.0, 0.0]])
    assert conformal_p(scores).tolist() == [pytest.approx(1 / 5), pytest.approx(3 / 5)]
