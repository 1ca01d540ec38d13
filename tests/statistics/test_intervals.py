"""Intervals of means: against scipy and plain resampling, and how often they cover the mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_the_mean_interval_is_students() -> None:
    from scipy.stats import ttest_1samp

    from audit_lit.statistics.intervals import mean_interval

    values = np.random.default_rng(0).normal(size=5)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_the_mean_interval_of_three_values_covers_the_mean() -> None:
    from audit_lit.statistics.intervals import mean_interval

    rng = np.random.default_rng(0)
    draws = [mean_interval(rng.normal(size=3)) for _ in range(400)]
    assert 0.92 < np.mean([low < 0 < high for low, high in draws]) < 0.98


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_wilson_interval_is_wilsons(count: int, more: int) -> None:
    from audit_lit.statistics.intervals import wilson_interval

    n, z = count + more, 1.959963984540054
    if not n:
        assert wilson_interval(0, 0) == (0.0, 1.0)
        return
    share = count / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert wilson_interval(count, n) == (pytest.approx(middle - half, abs=1e-9), pytest.approx(middle + half, abs=1e-9))


def test_the_bootstrap_interval_holds_the_middle_of_resampled_means() -> None:
    from audit_lit.statistics.intervals import bootstrap_interval

    rng = np.random.default_rng(1)
    values = rng.exponential(size=40)
    means = rng.choice(values, size=(20000, 40)).mean(axis=1)
    expected = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(values) == (pytest.approx(expected[0], abs=0.02), pytest.approx(expected[1], abs=0.02))


def test_the_bootstrap_interval_covers_the_mean_and_depends_on_the_seed_alone() -> None:
    from audit_lit.statistics.intervals import bootstrap_interval

    rng = np.random.default_rng(2)
    draws = [bootstrap_interval(rng.normal(size=60)) for _ in range(100)]
    assert 0.87 < np.mean([low < 0 < high for low, high in draws]) <= 1.0
    values = rng.normal(size=20)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3) != bootstrap_interval(values)


@pytest.mark.parametrize("name", ["mean_interval", "bootstrap_interval"])
@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0]])
def test_values_without_spread_have_a_point_for_an_interval(name: str, values: list[float]) -> None:
    from audit_lit.statistics import intervals

    assert getattr(intervals, name)(np.array(values)) == (2.0, 2.0)


def test_few_dialogs_pool_the_intervals_of_each() -> None:
    from audit_lit.statistics.intervals import few_interval

    one_row = np.array([[-0.5, 1.5]])
    assert few_interval(np.array([0.5]), one_row) == (pytest.approx(-0.5), pytest.approx(1.5))
    low, high = few_interval(np.array([0.5] * 4), np.repeat(one_row, 4, axis=0))
    assert (low, high) == (pytest.approx(0.0), pytest.approx(1.0))  # four times as many: half as wide
    values, widths = np.array([1.0, 3.0]), np.array([0.6, 0.8])  # the root of their squares' sum is 1
    rows = np.stack([values - widths, values + widths], axis=1)
    assert few_interval(values, rows) == (pytest.approx(2 - 1 / 2), pytest.approx(2 + 1 / 2))
