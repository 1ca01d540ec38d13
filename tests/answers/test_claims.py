"""Claims: evidence against a plain reference, the scale that makes it a probability, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audit_lit.answers.claims import QUESTIONS, claim_likelihoods, claim_marginals, score_claims
from audit_lit.answers.session import Session
from audit_lit.errors import QuestionError
from audit_lit.statistics.scores import fit_scale, probability

CLAIMS = ["persona: pirate", "Rhyme."]


def test_evidence_is_the_likelihood_over_its_marginal(make_decoder: Any, target: Any, dialog: Any) -> None:
    session = Session.of(target, make_decoder())
    reading = session.read(dialog)
    for reference in (None, reading.decoys.rows([0, 3])):
        session.decoder.reference = reference
        session.decoder.config = session.decoder.config.model_copy(update={"n_reference": len(reference or ())})
        others = reference or reading.decoys  # where there is no reference

        def probability(activations: Any, claim: str) -> float:
            n, found = len(activations), 0.0
            for question in QUESTIONS:
                scores = session.decoder.logprob(activations, [question] * n, [claim] * n)
                found += sum(float(one.detach().double().sum().exp()) for one in scores) / n / len(QUESTIONS)
            return found

        for claim in score_claims(session, dialog, CLAIMS):
            ratio = probability(reading.activations, claim.text) / probability(others, claim.text)
            assert claim.evidence == pytest.approx(np.log(ratio), abs=1e-3)


def test_scale_is_recovered_from_planted_evidence() -> None:
    rng = np.random.default_rng(0)
    nats = rng.normal(0, 4, 20000)
    right = rng.random(20000) < probability(nats, (0.7, -0.4))
    assert fit_scale(nats, right) == pytest.approx((0.7, -0.4), abs=0.05)
    assert fit_scale(nats, ~right)[0] == 0.0  # evidence that misleads is worth nothing, never the reverse
    gaps = np.where(rng.random(20000) < probability(nats, (0.7, 0.0)), nats, -nats)
    assert fit_scale(gaps, np.ones(20000), offset=False) == (pytest.approx(0.7, abs=0.05), 0.0)
    slope, _ = fit_scale([-3.0, -2.0, 2.0, 3.0], [0, 0, 1, 1])
    assert 0 < slope < 5  # without overlap, too


def test_probabilities_need_a_measured_scale(make_decoder: Any, target: Any, dialog: Any) -> None:
    session = Session.of(target, make_decoder())
    first = score_claims(session, dialog, CLAIMS)
    assert [claim.text for claim in first] == CLAIMS and all(claim.probability is None for claim in first)
    session.decoder.config = session.decoder.config.model_copy(update={"claim_scale": (2.0, 1.0)})
    for claim in score_claims(session, dialog, CLAIMS):
        assert claim.probability == pytest.approx(1 / (1 + np.exp(-(2 * claim.evidence + 1)))) and claim.share is None
    session.decoder.config = session.decoder.config.model_copy(update={"choice_scale": 0.5})
    one, other = score_claims(session, dialog, CLAIMS)
    assert one.share == pytest.approx(1 / (1 + np.exp(0.5 * (other.evidence - one.evidence))))
    assert one.share + other.share == pytest.approx(1) and score_claims(session, dialog, CLAIMS[:1])[0].share is None


def test_probabilities_need_what_their_scale_was_measured_with(make_decoder: Any, target: Any, dialog: Any) -> None:
    session = Session.of(target, make_decoder())
    decoder = session.decoder
    decoder.reference = session.read(dialog).decoys.rows([0, 3])
    scales = {"n_reference": 2, "claim_scale": (1.0, 0.0), "choice_scale": 1.0}
    decoder.config = decoder.config.model_copy(update=scales)
    for reveal, known in (("user", True), ("last:3", False)):
        for claim in score_claims(session, dialog, CLAIMS, reveal=reveal):
            assert (claim.probability is not None, claim.share is not None) == (known, known)


def test_controls_of_a_claim(make_decoder: Any, target: Any, dialog: Any) -> None:
    session = Session.of(target, make_decoder())
    reading, decoder = session.read(dialog), session.decoder
    decoder.reference = reading.decoys.rows([1, 2])
    known = claim_marginals(decoder, decoder.reference, CLAIMS)
    empty = claim_likelihoods(decoder, reading.activations, CLAIMS, injected=False)[0]
    for at, claim in enumerate(score_claims(session, dialog, CLAIMS)):
        assert claim.controls["no_activation"] == pytest.approx(empty[at] - known[at], abs=1e-4)
        decoys = claim_marginals(decoder, reading.decoys, CLAIMS)[at]
        assert claim.controls["shuffled"] == pytest.approx(decoys - known[at], abs=1e-4)


@pytest.mark.parametrize("claims", [[], [" "], ["pirate", ""]])
def test_empty_claims_are_refused(make_decoder: Any, target: Any, dialog: Any, claims: list[str]) -> None:
    with pytest.raises(QuestionError, match="claim is empty"):
        score_claims(Session.of(target, make_decoder()), dialog, claims)
