"""A calibration as a value: what it refuses, what it puts into a configuration, and what it holds for."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.calibrations import claims, record
from hypothesis import given
from hypothesis import strategies as st

from audit_lit.errors import CalibrationError


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_rate_holds_its_wilson_interval(count: int, more: int) -> None:
    from audit_lit.decoder.calibration import Rate

    n = count + more
    rate = Rate.of(count, n)
    low, high = rate.interval
    assert rate.share == (count / n if n else None)
    assert 0 <= low <= (count / n if n else 0) + 1e-9 and (count / n if n else 1) - 1e-9 <= high <= 1
    assert f"n={n}" in str(rate) or not n


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lift_threshold": float("nan")}, "lift_threshold"),
        ({"lift_threshold": -0.1}, "lift_threshold"),
        ({"lift_threshold": "0.1"}, "lift_threshold"),
        ({"date": "yesterday"}, "date"),
        ({"decoder_key": "x"}, "decoder_key"),
        ({"lift_treshold": 0.1}, "did you mean 'lift_threshold'"),
        ({"about_nothing": {"count": 3, "n": 2, "interval": (0.0, 1.0)}}, "count=3 must be at most n=2"),
    ],
)
def test_wrong_fields_are_named(make_decoder: Any, target: Any, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(CalibrationError, match=problem):
        record(make_decoder(), target, **changes)


def test_a_decoders_own_values_count_unless_they_are_replaced(make_decoder: Any, target: Any) -> None:
    decoder = make_decoder(lift_threshold=0.5)
    measured = record(decoder, target, claims=claims())
    filled = measured.put_into(decoder.config)
    assert (filled.lift_threshold, filled.claim_scale, filled.choice_scale) == (0.5, (0.5, -1.0), 0.75)
    assert record(decoder, target, replaces=True).put_into(decoder.config).lift_threshold == 0.25
    assert record(decoder, target).put_into(decoder.config) == decoder.config


def test_it_holds_for_copies_of_its_target_alone(make_decoder: Any, target: Any) -> None:
    from audit_lit.decoder.calibration import Rate, Safety

    measured = record(make_decoder(), target)
    digest, _, sketch = target.fingerprint().partition("-")
    assert measured.fits(measured.decoder_key, target.fingerprint())
    assert measured.fits(measured.decoder_key, f"{'0' * len(digest)}-{sketch}")  # a quantised copy
    assert not measured.fits("0" * 32, target.fingerprint())
    assert not measured.fits(measured.decoder_key, f"{'0' * len(digest)}-{'0' * len(sketch)}")
    assert measured.summary.endswith(
        "unfinished: no scales of claims and no safety card ('audit-lit calibrate' goes on)"
    )
    rate = Rate.of(1, 2)
    half = record(make_decoder(), target, claims=claims())
    assert half.unfinished.startswith("unfinished: no safety card (")
    whole = record(make_decoder(), target, claims=claims(), safety=Safety(base=rate, decoder=rate, despite_base=rate))
    assert not whole.unfinished and "unfinished" not in whole.summary
    assert "2026-01-31" in measured.summary and "12 answers" in measured.summary and "n=12" in measured.summary


def test_of_several_thresholds_the_highest_counts_and_says_where_it_is_from(make_decoder: Any, target: Any) -> None:
    from audit_lit.decoder.calibration import highest, origin

    decoder = make_decoder(lift_threshold=0.1)
    measured = record(decoder, target)
    assert measured.put_into(decoder.config).lift_threshold == 0.25
    assert record(decoder, target, lift_threshold=0.05).put_into(decoder.config).lift_threshold == 0.1
    assert record(decoder, target, lift_threshold=0.05, replaces=True).put_into(decoder.config).lift_threshold == 0.05
    assert highest(0.1, None, 0.25) == 0.25 and highest(None, 0.0) == 0.0 and highest(None) is None
    assert origin(0.25, measured) == f"measured on {target.name} by 'audit-lit calibrate', 2026-01-31"
    lower = "it comes with the decoder; the highest counts, and lower are: the calibration's 0.25, min_lift 0.10"
    assert origin(0.5, measured, 0.1) == lower
    assert origin(0.3, None, 0.3) == "min_lift of the recipe or of --set"
    assert origin(None, None) == "not measured"
