"""Top-k accuracy and AUROC, against counting."""

from __future__ import annotations

import numpy as np
import pytest


def test_top_k_counts_ties_as_chance() -> None:
    from audit_lit.statistics.ranking import top_k

    rows = [np.array(row, dtype=float) for row in ([3, 1, 2], [1, 3, 2], [1, 1, 1], [2, 3, 2])]
    assert top_k(rows, 1) == pytest.approx([1, 0, 1 / 3, 0])
    assert top_k(rows, 2) == pytest.approx([1, 0, 2 / 3, 1 / 2])


def test_top_k_is_the_mean_over_all_orders_of_ties() -> None:
    from itertools import permutations

    from audit_lit.statistics.ranking import top_k

    row = np.array([1.0, 2.0, 1.0, 1.0, 0.0])
    orders = [sorted(order, key=lambda place: -row[place]) for order in permutations(range(len(row)))]
    for k in range(1, 6):
        assert top_k([row], k)[0] == pytest.approx(np.mean([0 in order[:k] for order in orders]))


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    from audit_lit.statistics.ranking import auroc, auroc_interval

    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 5, 30) + 1, rng.integers(0, 5, 20)
    pairs = [float(a > b) + 0.5 * float(a == b) for a in above for b in below]
    assert auroc(above, below) == pytest.approx(np.mean(pairs))
    assert auroc(below, above) == pytest.approx(1 - np.mean(pairs))
    low, high = auroc_interval(above, below)
    assert low < auroc(above, below) < high


def test_the_interval_of_rows_that_repeat_is_that_of_one_value_each() -> None:
    from audit_lit.statistics.ranking import auroc_interval

    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 5, 30) + 1, rng.integers(0, 5, 20)
    tenfold = [np.repeat(group[:20, None], 10, axis=1) for group in (above, below)]  # says no more than once
    once, ten, alone = (
        np.ptp(auroc_interval(*groups))
        for groups in ([group[:, :1] for group in tenfold], tenfold, [group.ravel() for group in tenfold])
    )
    assert ten == pytest.approx(once) and alone < once / 2
