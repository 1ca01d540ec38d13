"""The controls: noise with the norms of real vectors, input without information, and scores under all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from audit_lit.answers.controls import (
    ACTIVATIONS,
    CONTROLS,
    N_NULL,
    controls_of,
    null_activations,
    null_input,
    score_under_controls,
)
from audit_lit.answers.session import Session
from audit_lit.decoder.decoder import text_baselines
from audit_lit.models.activations import Activations

QUESTION, ANSWER = "Who is it?", "A pirate."


@pytest.fixture
def activations(target: Any, make_decoder: Any, dialog: Any) -> Activations:
    return Session.of(target, make_decoder()).read(dialog).activations


def test_null_activations_have_the_norms_of_real_ones(activations: Activations, make_decoder: Any) -> None:

    real = activations
    null = null_activations(real, make_decoder().write, seed=1)
    assert len(null) == N_NULL
    torch.testing.assert_close(null.resid.norm(dim=-1), real.resid.norm(dim=-1).expand(N_NULL, -1, -1))
    project = make_decoder(write="project").write
    standard = [
        (one.resid - project.mean[None, :, None]) / project.std[None, :, None]
        for one in (null_activations(real, project, seed=1), real)
    ]
    torch.testing.assert_close(standard[0].norm(dim=-1), standard[1].norm(dim=-1).expand(N_NULL, -1, -1))


def test_null_input_has_the_shape_of_real_activations_and_none_of_their_vectors(
    make_decoder: Any, activations: Activations
) -> None:
    write = make_decoder().write
    both = Activations.cat([activations, activations])
    for kind in ("random", "permuted"):
        null = null_input(kind, both, write, seed=1)
        assert null.resid.shape == both.resid.shape and torch.equal(null.mask, both.mask)
        assert not torch.isclose(null.resid, both.resid).all(dim=-1).any()
        assert torch.equal(null.resid, null_input(kind, both, write, seed=1).resid)
        assert not torch.equal(null.resid, null_input(kind, both, write, seed=2).resid)
    permuted = null_input("permuted", both, write)
    torch.testing.assert_close(permuted.resid.sort(-1).values, both.resid.sort(-1).values)


def test_the_mean_input_is_the_mean_at_each_slot(make_decoder: Any, activations: Activations) -> None:
    write, other = make_decoder().write, activations.rows([0])
    other.resid[:] = -activations.resid
    assert not null_input("mean", Activations.cat([activations, other]), write).resid.any()
    others = null_input("mean", activations, write, others=other)
    torch.testing.assert_close(others.resid, other.resid)


def test_an_unknown_kind_is_refused(make_decoder: Any, activations: Activations) -> None:
    with pytest.raises(ValueError, match=r"unknown kind of null input 'zero'; expected one of random, permuted, mean"):
        null_input("zero", activations, make_decoder().write)


def test_a_trained_text_baseline_is_a_control_too(make_decoder: Any) -> None:
    decoder = make_decoder()
    assert "text_trained" not in controls_of(decoder)
    decoder.text_baseline = object()
    assert controls_of(decoder) == ("no_activation", "null", "shuffled", "text_only", "text_trained")


@pytest.fixture(params=["replace", "add", "project"])
def session(request: pytest.FixtureRequest, target: Any, make_decoder: Any) -> Session:
    return Session.of(target, make_decoder(write=request.param))


@torch.no_grad()
def test_of_several_draws_the_one_that_favours_the_answer_counts(session: Session, dialog: Any) -> None:
    reading, decoder = session.read(dialog), session.decoder
    ((scores,),) = score_under_controls(decoder, [reading], [QUESTION], [[ANSWER]], seed=5)

    def best(rows: Any, **settings: Any) -> Any:
        draws = decoder.logprob(rows, [QUESTION] * len(rows), [ANSWER] * len(rows), **settings)
        return max(draws, key=lambda nats: float(nats.mean())).double().numpy()

    assert set(scores) == {ACTIVATIONS, *CONTROLS}
    null = null_activations(reading.activations, decoder.write, seed=5)
    (text,) = text_baselines(decoder)["text_only"].logprob([reading.visible_text], [QUESTION], [ANSWER])
    expected = {
        ACTIVATIONS: best(reading.activations),
        "no_activation": best(reading.activations, injected=False),
        "null": best(null),
        "shuffled": best(reading.decoys),
        "text_only": text.double().numpy(),
    }
    for condition, nats in expected.items():
        assert scores[condition] == pytest.approx(nats, abs=1e-4), condition


def test_noise_is_shared_where_the_norms_of_vectors_do_not_count(session: Session, dialog: Any) -> None:
    other = [dialog[0], {"role": "user", "content": dialog[1]["content"].swapcase()}]  # as many tokens
    readings, rows = [session.read(dialog), session.read(other)], []
    original = session.decoder.score_candidates

    def score_candidates(activations: Any, candidates: Any) -> Any:
        rows.append(len(activations))
        return original(activations, candidates)

    session.decoder.score_candidates = score_candidates  # type: ignore[method-assign]
    score_under_controls(session.decoder, readings, [QUESTION], [[ANSWER], [ANSWER]])
    n_null = 4 if session.decoder.write.rescales else 8
    assert rows == [sum(1 + len(reading.decoys) for reading in readings) + n_null]
