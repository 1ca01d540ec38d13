"""Probabilities from evidence, and calibration figures, against plain references."""

from __future__ import annotations

import numpy as np
import pytest


def test_log_mean_exp_is_the_logarithm_of_the_mean_probability() -> None:
    from audit_lit.statistics.calibration import log_mean_exp

    nats = np.random.default_rng(0).normal(size=(4, 3)) * 5
    np.testing.assert_allclose(log_mean_exp(nats), np.log(np.exp(nats).mean(axis=0)))
    assert float(log_mean_exp([-2000.0, -2000.0])) == -2000.0  # whose probability underflows


def test_a_probability_is_logistic_in_the_evidence() -> None:
    from audit_lit.statistics.calibration import probability

    evidence = np.array([-3.0, 0.0, 2.0])
    np.testing.assert_allclose(probability(evidence, (0.5, 1.0)), 1 / (1 + np.exp(-(0.5 * evidence + 1.0))))
    assert probability([0.0], (2.0, 0.0)).tolist() == [0.5]


def _loss(slope: float, offset: float, x: np.ndarray, y: np.ndarray) -> float:
    """Negative log-likelihood of a logistic regression, with the prior on its slope."""
    p = 1 / (1 + np.exp(-(slope * x + offset)))
    return float(-np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)) + slope**2 / 2)


@pytest.mark.parametrize("offset", [True, False])
def test_the_scale_is_the_most_likely_one(offset: bool) -> None:
    from audit_lit.statistics.calibration import fit_scale

    rng = np.random.default_rng(0)
    x = rng.normal(size=300) * 2
    y = (rng.random(300) < 1 / (1 + np.exp(-(0.7 * x + 0.3)))).astype(float)
    slope, shift = fit_scale(x, y, offset=offset)
    near = [(slope + d, shift + e) for d in (-0.02, 0, 0.02) for e in ((-0.02, 0, 0.02) if offset else (0,))]
    assert min(_loss(*scale, x, y) for scale in near) >= _loss(slope, shift, x, y) - 1e-4
    assert slope == pytest.approx(0.7, abs=0.2) and (shift == pytest.approx(0.3, abs=0.3) if offset else shift == 0)


def test_the_slope_is_finite_and_not_negative() -> None:
    from audit_lit.statistics.calibration import fit_scale

    assert 0 < fit_scale([-1.0, 1.0], [0, 1])[0] < 3  # no overlap
    assert fit_scale([-1.0, 1.0], [1, 0])[0] == 0  # the wrong way round


def test_calibration_error_and_brier_score_by_hand() -> None:
    from audit_lit.statistics.calibration import brier, expected_calibration_error

    p, y = np.array([0.05, 0.95, 0.95, 0.95, 0.95]), np.array([0.0, 1, 1, 1, 0])
    assert expected_calibration_error(p, y) == pytest.approx(0.2 * 0.05 + 0.8 * 0.2)
    assert brier(p, y) == pytest.approx((4 * 0.05**2 + 0.95**2) / 5)
    assert expected_calibration_error([1.0, 0.95], [1, 0]) == pytest.approx(0.475)  # 1 is in the last bin
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    assert expected_calibration_error(p, rng.random(20000) < p) < 0.02


def test_chance_alone_leaves_a_calibration_error() -> None:
    from audit_lit.statistics.calibration import expected_calibration_error, perfect_calibration_error

    rng = np.random.default_rng(0)
    few = rng.random(40)
    drawn = [expected_calibration_error(few, rng.random(40) < few) for _ in range(400)]
    assert perfect_calibration_error(few) == pytest.approx(np.mean(drawn), abs=0.01) and np.mean(drawn) > 0.1
