"""A calibration from its parts to the record: kept, resumed, used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.calibrations import QUICK

from audit_lit.errors import CalibrationError


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few claims and requests."""
    from audit_lit.calibration import calibrate

    asked, requests = calibrate.asked_claims(0)[:8], calibrate.harmless_requests()[:3]
    monkeypatch.setattr(calibrate, "asked_claims", lambda _: asked)
    monkeypatch.setattr(calibrate, "harmless_requests", lambda: requests)


@pytest.mark.usefixtures("few")
def test_a_calibration_is_measured_kept_and_used(make_decoder: Any, target: Any, cache: Path) -> None:
    from audit_lit import Auditor
    from audit_lit.calibration import nothing

    auditor = Auditor(target, make_decoder())
    record = auditor.calibrate(**QUICK)
    assert (record.threshold_n, record.about_nothing.n, record.about_neutral.n) == (12, 12, 4)
    assert record.claims is not None and (record.claims.n, record.claims.n_prompts) == (32, 4)
    assert record.safety is not None and record.safety.base.n == 3
    assert record.safety.despite_base.n == 3 - record.safety.base.count
    config = auditor.decoder.config
    assert (config.lift_threshold, config.claim_scale) == (record.lift_threshold, record.claims.claim_scale)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".lock"]  # the journal is gone
    again = Auditor(target, make_decoder())
    assert again.decoder.config == config

    def fails(*_: Any) -> None:
        raise AssertionError("it is kept")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nothing.Nothings, "lifts", fails)
        assert again.calibrate(**QUICK) == record
        with pytest.raises(AssertionError, match="it is kept"):
            again.calibrate(again=True, **QUICK)
        with pytest.raises(AssertionError, match="it is kept"):
            again.calibrate(**QUICK | {"seed": 1})


@pytest.mark.usefixtures("few")
def test_an_interrupted_calibration_goes_on(make_decoder: Any, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.answers.session import Session
    from audit_lit.calibration.calibrate import calibrate
    from audit_lit.calibration.nothing import Nothings
    from audit_lit.calibration.settings import CalibrationSettings

    session, settings = Session.of(target, make_decoder()), CalibrationSettings(**QUICK)
    original, chunks = Nothings.lifts, []

    def dies(self: Any, dialogs: Any, first: int) -> Any:
        if first == 6:
            raise KeyboardInterrupt
        chunks.append(first)
        return original(self, dialogs, first)

    monkeypatch.setattr(Nothings, "lifts", dies)
    with pytest.raises(KeyboardInterrupt):
        calibrate(session, settings, parts=())

    def counted(self: Any, dialogs: Any, first: int) -> Any:
        chunks.append(first)
        return original(self, dialogs, first)

    monkeypatch.setattr(Nothings, "lifts", counted)
    resumed = calibrate(session, settings, parts=())
    assert chunks == [0, 3, 6] and resumed.claims is None
    whole = calibrate(session, settings, parts=(), again=True)
    assert whole == resumed and chunks == [0, 3, 6, 0, 3, 6]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("changes", [{"again": True}, {"seed": 1}])
def test_a_calibration_stays_in_place_until_the_next_one_is_whole(
    make_decoder: Any, target: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    from audit_lit import Auditor
    from audit_lit.calibration import calibrate
    from audit_lit.decoder.calibration_files import find_calibration

    auditor = Auditor(target, make_decoder())
    whole = auditor.calibrate(**QUICK)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    for part in ("claim_evidence", "refusals"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(calibrate, part, dies)
            auditor.calibrate(**QUICK | changes)
        assert find_calibration(make_decoder(), target) == whole
    measured = auditor.calibrate(**QUICK | changes)
    assert measured.claims and measured.safety and find_calibration(make_decoder(), target) == measured
    fewer = auditor.calibrate(safety=False, **QUICK | changes | {"again": True})
    assert fewer.safety is None and find_calibration(make_decoder(), target) == fewer  # as it was asked for


def test_what_cannot_be_kept_is_an_error_in_words(make_decoder: Any, target: Any, cache: Path) -> None:
    from audit_lit import Auditor

    cache.parent.mkdir()
    cache.write_text("a file stands where the folder should")
    with pytest.raises(CalibrationError, match="AUDIT_LIT_CACHE"):
        Auditor(target, make_decoder()).calibrate(**QUICK)


def test_what_another_run_measures_is_not_measured_twice(make_decoder: Any, target: Any, cache: Path) -> None:
    from audit_lit.answers.session import Session
    from audit_lit.calibration.calibrate import _unfinished, calibrate
    from audit_lit.calibration.settings import CalibrationSettings
    from audit_lit.files.writing import locked

    session, settings = Session.of(target, make_decoder()), CalibrationSettings(**QUICK)
    with (
        locked(cache, CalibrationError, name=_unfinished(session, settings).stem),
        pytest.raises(CalibrationError, match="in use by another run; wait for it"),
    ):
        calibrate(session, settings, parts=())
    assert calibrate(session, settings, parts=()).threshold_n == 12


def test_values_that_a_decoder_comes_with_count_until_they_are_replaced(
    make_decoder: Any, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_lit import Auditor
    from audit_lit.calibration import calibrate

    monkeypatch.setattr(calibrate, "PARTS", ())
    monkeypatch.setattr("audit_lit.auditor.PARTS", ())
    auditor = Auditor(target, make_decoder(lift_threshold=9.0))
    record = auditor.calibrate(**QUICK)
    assert auditor.decoder.config.lift_threshold == 9.0 != record.lift_threshold
    assert auditor.calibrate(replace=True, **QUICK).lift_threshold == auditor.decoder.config.lift_threshold
    assert Auditor(target, make_decoder(lift_threshold=9.0)).decoder.config.lift_threshold == record.lift_threshold
    auditor.calibrate(**QUICK)
    assert auditor.decoder.config.lift_threshold == 9.0
