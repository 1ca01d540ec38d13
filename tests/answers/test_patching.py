"""Activation patching."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.support import DIALOG


def test_patching_the_whole_state_gives_the_whole_gain(auditor: Any) -> None:
    from audit_lit.answers.patching import patch_activations

    found = patch_activations(auditor, DIALOG, DIALOG[1:], "Who?", "A pirate.", reveal="last:1")
    assert found.layers[-1] == 2 and len(found.tokens) == 1
    assert found.nats[-1][0] == pytest.approx(found.whole, abs=2e-3)  # one token, read at that very layer
    assert abs(found.nats[0][0]) < abs(found.whole) and found.whole != 0
    same = patch_activations(auditor, DIALOG, DIALOG, "Who?", "A pirate.")
    assert same.whole == pytest.approx(0, abs=2e-3) and np.abs(same.nats).max() < 2e-3
