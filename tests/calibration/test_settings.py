"""What a calibration is measured on: neutral dialogs that are split by their line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit.errors import SettingsError


@settings(max_examples=20)
@given(st.integers(8, 200), st.integers(0, 2**63 - 1))
def test_no_line_is_in_both_halves_and_no_dialog_comes_twice(n: int, seed: int) -> None:
    from audit_lit.calibration.settings import QUESTIONS, CalibrationSettings, neutral_dialogs

    dialogs = neutral_dialogs(CalibrationSettings(dialogs=n, seed=seed))
    lines = [
        {dialog.messages[-1]["content"] for dialog in dialogs if dialog.held_out is half} for half in (True, False)
    ]
    assert len(dialogs) == n and not lines[0] & lines[1]
    assert abs(sum(dialog.held_out for dialog in dialogs) - n / 2) <= 1
    assert len({str(dialog.messages) for dialog in dialogs}) == n
    for half in (True, False):
        counts = [sum(d.question == question for d in dialogs if d.held_out is half) for question in QUESTIONS]
        assert abs(counts[0] - counts[1]) <= 2
    assert 0 < sum(len(dialog.messages) == 1 for dialog in dialogs) < n  # with a neutral system prompt, and without
    assert dialogs == neutral_dialogs(CalibrationSettings(dialogs=n, seed=seed))


@pytest.mark.parametrize("wrong", [{"dialogs": 7}, {"dialogs": 201}, {"batch_size": 0}, {"seed": -1}, {"dialog": 8}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    from audit_lit.calibration.settings import CalibrationSettings

    with pytest.raises(SettingsError, match=next(iter(wrong))):
        CalibrationSettings(**wrong)
