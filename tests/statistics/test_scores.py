"""Evidence as probabilities, calibration, top-k accuracy and AUROC, by hand and against counting."""

from __future__ import annotations

import numpy as np
import pytest


def test_log_mean_exp_is_the_logarithm_of_the_mean_probability() -> None:
    from audit_lit.statistics.scores import log_mean_exp

    nats = np.random.default_rng(0).normal(size=(4, 3)) * 5
    np.testing.assert_allclose(log_mean_exp(nats), np.log(np.exp(nats).mean(axis=0)))
    assert float(log_mean_exp([-2000.0, -2000.0])) == -2000.0  # whose probability underflows


def test_a_probability_is_logistic_in_the_evidence() -> None:
    from audit_lit.statistics.scores import probability

    evidence = np.array([-3.0, 0.0, 2.0])
    np.testing.assert_allclose(probability(evidence, (0.5, 1.0)), 1 / (1 + np.exp(-(0.5 * evidence + 1.0))))
    assert probability([0.0], (2.0, 0.0)).tolist() == [0.5]


def _loss(slope: float, offset: float, x: np.ndarray, y: np.ndarray) -> float:
    """Negative log-likelihood of a logistic regression, with the prior on its slope."""
    p = 1 / (1 + np.exp(-(slope * x + offset)))
    return float(-np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)) + slope**2 / 2)


@pytest.mark.parametrize("offset", [True, False])
def test_the_scale_is_the_most_likely_one(offset: bool) -> None:
    from audit_lit.statistics.scores import fit_scale

    rng = np.random.default_rng(0)
    x = rng.normal(size=300) * 2
    y = (rng.random(300) < 1 / (1 + np.exp(-(0.7 * x + 0.3)))).astype(float)
    slope, shift = fit_scale(x, y, offset=offset)
    near = [(slope + d, shift + e) for d in (-0.02, 0, 0.02) for e in ((-0.02, 0, 0.02) if offset else (0,))]
    assert min(_loss(*scale, x, y) for scale in near) >= _loss(slope, shift, x, y) - 1e-4
    assert slope == pytest.approx(0.7, abs=0.2) and (shift == pytest.approx(0.3, abs=0.3) if offset else shift == 0)


def test_the_slope_is_finite_and_not_negative() -> None:
    from audit_lit.statistics.scores import fit_scale

    assert 0 < fit_scale([-1.0, 1.0], [0, 1])[0] < 3  # no overlap
    assert fit_scale([-1.0, 1.0], [1, 0])[0] == 0  # the wrong way round


def test_calibration_error_and_brier_score_by_hand() -> None:
    from audit_lit.statistics.scores import brier, expected_calibration_error

    p, y = np.array([0.05, 0.95, 0.95, 0.95, 0.95]), np.array([0.0, 1, 1, 1, 0])
    assert expected_calibration_error(p, y) == pytest.approx(0.2 * 0.05 + 0.8 * 0.2)
    assert brier(p, y) == pytest.approx((4 * 0.05**2 + 0.95**2) / 5)
    assert expected_calibration_error([1.0, 0.95], [1, 0]) == pytest.approx(0.475)  # 1 is in the last bin
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    assert expected_calibration_error(p, rng.random(20000) < p) < 0.02


def test_chance_alone_leaves_a_calibration_error() -> None:
    from audit_lit.statistics.scores import expected_calibration_error, perfect_calibration_error

    rng = np.random.default_rng(0)
    few = rng.random(40)
    drawn = [expected_calibration_error(few, rng.random(40) < few) for _ in range(400)]
    assert perfect_calibration_error(few) == pytest.approx(np.mean(drawn), abs=0.01) and np.mean(drawn) > 0.1


def test_top_k_counts_ties_as_chance() -> None:
    from audit_lit.statistics.scores import top_k

    rows = [np.array(row, dtype=float) for row in ([3, 1, 2], [1, 3, 2], [1, 1, 1], [2, 3, 2])]
    assert top_k(rows, 1) == pytest.approx([1, 0, 1 / 3, 0])
    assert top_k(rows, 2) == pytest.approx([1, 0, 2 / 3, 1 / 2])


def test_top_k_is_the_mean_over_all_orders_of_ties() -> None:
    from itertools import permutations

    from audit_lit.statistics.scores import top_k

    row = np.array([1.0, 2.0, 1.0, 1.0, 0.0])
    orders = [sorted(order, key=lambda place: -row[place]) for order in permutations(range(len(row)))]
    for k in range(1, 6):
        assert top_k([row], k)[0] == pytest.approx(np.mean([0 in order[:k] for order in orders]))


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    from audit_lit.statistics.scores import auroc, auroc_interval

    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 5, 30) + 1, rng.integers(0, 5, 20)
    pairs = [float(a > b) + 0.5 * float(a == b) for a in above for b in below]
    assert auroc(above, below) == pytest.approx(np.mean(pairs))
    assert auroc(below, above) == pytest.approx(1 - np.mean(pairs))
    low, high = auroc_interval(above, below)
    assert low < auroc(above, below) < high


def test_the_interval_of_rows_that_repeat_is_that_of_one_value_each() -> None:
    from audit_lit.statistics.scores import auroc_interval

    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 5, 30) + 1, rng.integers(0, 5, 20)
    tenfold = [np.repeat(group[:20, None], 10, axis=1) for group in (above, below)]  # says no more than once
    once, ten, alone = (
        np.ptp(auroc_interval(*groups))
        for groups in ([group[:, :1] for group in tenfold], tenfold, [group.ravel() for group in tenfold])
    )
    assert ten == pytest.approx(once) and alone < once / 2
