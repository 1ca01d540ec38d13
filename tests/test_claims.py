"""Claims: evidence against a plain reference, the scale that makes it a probability, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

CLAIMS = ["persona: pirate", "Rhyme."]


def test_evidence_is_a_mean_log_likelihood_ratio(make_decoder: Any, target: Any, dialog: Any) -> None:
    from audit_lit import Auditor
    from audit_lit.claims import QUESTIONS, evidence

    auditor = Auditor(target, make_decoder())
    reading = auditor.read(dialog)
    found = evidence(auditor.decoder, reading.activations, reading.decoys, CLAIMS)
    for claim, nats in zip(CLAIMS, found, strict=True):
        ratios = []
        for question in QUESTIONS:
            own = auditor.decoder.logprob(reading.activations, [question], [claim])[0].sum()
            n = len(reading.decoys)
            decoys = [one.sum() for one in auditor.decoder.logprob(reading.decoys, [question] * n, [claim] * n)]
            ratios.append(float(own) - float(sum(decoys)) / n)
        assert nats == pytest.approx(np.mean(ratios), abs=1e-3)


def test_scale_is_recovered_from_planted_evidence() -> None:
    from audit_lit.claims import fit_scale, probability

    rng = np.random.default_rng(0)
    nats = rng.normal(0, 4, 20000)
    right = rng.random(20000) < probability(nats, (0.7, -0.4))
    assert fit_scale(nats, right) == pytest.approx((0.7, -0.4), abs=0.05)
    assert fit_scale(nats, ~right)[0] == 0.0  # evidence that misleads is worth nothing, never the reverse
    slope, _ = fit_scale([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    assert 0 < slope < 5  # without overlap, too


def test_weigh_needs_a_measured_scale_for_a_probability(make_decoder: Any, target: Any, dialog: Any) -> None:
    from audit_lit import Auditor

    auditor = Auditor(target, make_decoder())
    first = auditor.weigh(dialog, CLAIMS)
    assert [claim.text for claim in first] == CLAIMS and all(claim.probability is None for claim in first)
    auditor.decoder.protocol = replace(auditor.decoder.protocol, claim_scale=(2.0, 1.0))
    for claim in auditor.weigh(dialog, CLAIMS):
        assert claim.probability == pytest.approx(1 / (1 + np.exp(-(2 * claim.evidence + 1))))


@pytest.mark.parametrize("claims", [[], [" "], ["pirate", ""]])
def test_empty_claims_are_refused(make_decoder: Any, target: Any, dialog: Any, claims: list[str]) -> None:
    from audit_lit import Auditor
    from audit_lit.errors import DialogError

    with pytest.raises(DialogError, match="claim is empty"):
        Auditor(target, make_decoder()).weigh(dialog, claims)
