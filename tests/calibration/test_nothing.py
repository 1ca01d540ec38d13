"""Answers about nothing: the threshold against a plain quantile, and what passes for supported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_lit.answers.controls import NULL_KINDS

LIFTS = st.lists(st.floats(-3, 3), min_size=1, max_size=40)


def plain_quantile(values: list[float], share: float) -> float:
    """The quantile by linear interpolation between the two nearest order statistics."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@given(LIFTS, LIFTS)
def test_the_threshold_is_the_most_deceptive_kinds_quantile(first: list[float], second: list[float]) -> None:
    from audit_lit.calibration.nothing import nothing_threshold

    expected = max(0.0, plain_quantile(first, 0.95), plain_quantile(second, 0.95))
    assert nothing_threshold({"random": first, "mean": second}) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.booleans()), min_size=3, max_size=30))
def test_at_most_one_in_twenty_of_each_kind_is_above_its_threshold(lifts: list[Any]) -> None:
    from audit_lit.calibration.nothing import measured_threshold, n_passing

    rows = [dict.fromkeys(NULL_KINDS, lift) for lift in lifts]
    threshold = measured_threshold(rows)
    n_above = sum(lift > threshold and not says for lift, _, says in lifts)
    assert n_above <= -(-len(lifts) // 20)
    n_supported = sum(lift > threshold and low > 0 and not says for lift, low, says in lifts)
    assert n_passing(rows, NULL_KINDS, threshold) == len(NULL_KINDS) * n_supported
    assert n_passing(rows, ["random"], 2.0) == 0


def test_what_says_nothing_counts_as_no_lift() -> None:
    from audit_lit.calibration.nothing import measured_threshold

    rows: list[Any] = [dict.fromkeys(NULL_KINDS, (2.0, 1.0, True)), dict.fromkeys(NULL_KINDS, (0.5, 0.1, False))]
    assert measured_threshold(rows) == pytest.approx(float(np.quantile([0.0, 0.5], 0.95)))


def test_each_kind_of_nothing_is_asked_about_whatever_the_batch(make_decoder: Any, target: Any) -> None:
    from audit_lit.answers.session import Session
    from audit_lit.calibration.claims import planted_rows
    from audit_lit.calibration.nothing import NEUTRAL, Nothings
    from audit_lit.calibration.settings import CalibrationSettings, neutral_dialogs

    dialogs = neutral_dialogs(CalibrationSettings(dialogs=8))[:3]
    planted = [row.messages for row in planted_rows(0)[:4]]
    nothings = Nothings.of(Session.of(target, make_decoder()), planted, seed=0)
    together = nothings.lifts(dialogs, 0)
    alone = [nothings.lifts([dialog], place)[0] for place, dialog in enumerate(dialogs)]
    assert [set(row) for row in together] == [{*NULL_KINDS, NEUTRAL}] * 3
    for row, same in zip(together, alone, strict=True):
        for kind, (lift, low, says) in row.items():
            assert same[kind] == (pytest.approx(lift, abs=1e-3), pytest.approx(low, abs=1e-3), says)
    assert len({row["random"][0] for row in together}) == 3  # each has noise of its own
