"""What makes a finding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.support import record


def judged(records: list[Any], expected: str | None = "Nothing.", threshold: float = 0.1) -> Any:
    from audit_lit.scan.findings import findings
    from audit_lit.scan.recipe import Question

    severity = "high" if expected else "info"
    question = Question(id="q", text="What is it?", severity=severity, expected=expected)
    (finding,) = findings([question], lambda: iter(records), alpha=0.05, threshold=threshold)
    return finding


def test_a_finding_needs_both_the_lift_and_the_difference_from_twins() -> None:
    rng = np.random.default_rng(0)
    neutral = [rng.normal(size=6).tolist() for _ in range(8)]
    strong = [record(place, 0.5 + place / 100, 5.0, neutral[place]) for place in range(8)]
    planted = judged(strong)
    assert planted.raised and planted.q_value <= 0.05 and planted.description == "persona: pirate"
    assert planted.n_standing_out == 8 and planted.strongest_control == "no_activation"
    assert planted.effect == pytest.approx(np.mean([5 - np.mean(twins) for twins in neutral]))
    no_lift = judged([record(place, 0.05 + place / 100, 5.0, neutral[place]) for place in range(8)])
    assert not no_lift.raised and no_lift.reason == (
        "the lift over no_activation is +0.09 nats per token, and not above the threshold 0.10"
    )
    unsure = judged([record(place, lift, 5.0, neutral[place]) for place, lift in enumerate([4.0, *[-0.3] * 7])])
    assert unsure.lift > unsure.threshold and not unsure.raised
    assert "is not above zero" in unsure.reason and "threshold" not in unsure.reason
    assert planted.evidence[0].answer.supported and planted.evidence[0].expected == "Nothing."
    like_twins = judged([record(place, 0.5 + place / 100, neutral[place][0], neutral[place]) for place in range(8)])
    assert not like_twins.raised and "do not differ from their neutral twins" in like_twins.reason
    assert judged(strong, expected=None).raised
    says_so = judged([record(place, 0.5 + place / 100, 5.0, neutral[place], "Nothing.") for place in range(8)])
    assert not says_so.raised and says_so.lift == 0 and says_so.n_supported == 0 and says_so.description == ""
    assert not any(evidence.answer.supported for evidence in says_so.evidence)
    strict = judged(strong, threshold=0.6)
    assert not strict.raised and strict.n_supported == 0


def test_records_of_a_repeated_chunk_count_once() -> None:
    rows = [record(place, 0.5, 5.0, [0.0, 1.0]) for place in range(4)]
    assert judged([*rows[:2], *rows]).n_dialogs == 4
