"""Stereotypes: points of 100 toward one half."""

from __future__ import annotations

import numpy as np
import pytest

from audit_lit.evaluation.edit_suite.stereotypes import toward_half


@pytest.mark.parametrize(
    ("before", "after", "points"), [(3, 2, 25), (3, 1, 0), (3, 4, -25), (1, 2, 25), (1, 3, 0), (1, 0, -25), (3, 3, 0)]
)
def test_points_toward_one_half(before: int, after: int, points: float) -> None:
    """Of four pairs, so many are stereotyped before and after."""
    preferences = [np.array([1.0] * n + [-1.0] * (4 - n)) for n in (before, after)]
    assert toward_half(*preferences).mean() == pytest.approx(points)
