"""The causal check of a finding, on a model where removing the trait must and must not matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import ids
from helpers.hooked_models import n_hooks
from helpers.reports import evidence, finding

from audit_lit import Auditor
from audit_lit.edits.checks import verify
from audit_lit.edits.checks.verify import Scene, Verification, scenes_of
from audit_lit.errors import EditError
from audit_lit.scan.finding import Finding

DIALOG = ({"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"})
QUICK: dict[str, Any] = {"n_random": 3, "max_new_tokens": 6, "steps": 2, "batch_size": 2, "strength": 0.5}


def pirate(**changes: Any) -> Finding:
    """A finding whose evidence is one dialog."""
    evidence_of_dialog = replace(evidence(), dialog="d0", messages=DIALOG)
    return finding("persona", **{"description": "A pirate.", "evidence": (evidence_of_dialog,), **changes})


def test_verdict_comes_beside_random_edits_and_another_trait(auditor: Auditor) -> None:
    verification = auditor.verify(pirate(), **QUICK)
    assert len(verification.random) == 3 and verification.p_value in (0.25, 0.5, 0.75, 1.0)
    assert verification.p_value == (1 + sum(shift >= verification.moved for shift in verification.random)) / 4
    assert not verification.causal  # three random edits can never give p = 0.05
    assert verification == auditor.verify(pirate(), **QUICK)
    assert f"{verification.moved:+.3f}" in verification.verdict and "not shown" in verification.verdict
    assert n_hooks(auditor.target.model) == 0


@pytest.mark.parametrize(
    ("changes", "causal"),
    [({}, True), ({"other": 0.6}, False), ({"p_value": 0.1}, False), ({"moved": -0.1, "other": -0.2}, False)],
)
def test_a_cause_beats_chance_and_another_trait(changes: dict[str, float], causal: bool) -> None:
    verification = Verification("a pirate", moved=0.5, whole=1.0, random=(0.1, 0.0), other=0.1, p_value=0.05)
    assert replace(verification, **changes).causal is causal


def test_the_lead_is_half_the_log_likelihood_ratio(auditor: Auditor) -> None:
    scene, target = Scene(list(DIALOG), list(DIALOG[1:]), "Aye.", "Hello."), auditor.target
    prompt, nats = ids(target, list(DIALOG)), []
    for text in ("Aye.", "Hello."):
        reply = target.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = target.base(torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        nats.append(float(logits.gather(1, torch.tensor(reply)[:, None]).mean()))
    assert scene.lead(target) == pytest.approx((nats[0] - nats[1]) / 2, abs=1e-4)
    assert scene.lead(target, dialog=scene.twin) != pytest.approx(scene.lead(target), abs=1e-4)


def test_an_edit_that_does_nothing_moves_nothing(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    make_edit = verify.make_edit
    monkeypatch.setattr(verify, "make_edit", lambda *values: make_edit(*values).scaled(0.0))
    verification = auditor.verify(pirate(), **QUICK)
    assert verification.moved == 0 and set(verification.random) == {0.0} and verification.p_value == 1


def test_what_cannot_be_verified_is_refused(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in (pirate(description=""), pirate(evidence=())):
        with pytest.raises(EditError, match="was raised"):
            auditor.verify(nothing, **QUICK)
    with pytest.raises(EditError, match="expected 1 to 100000, and 19"):
        auditor.verify(pirate(), **{**QUICK, "n_random": 0})
    with pytest.raises(EditError, match="vector"):
        auditor.verify(pirate(), **QUICK, method="weights", rank=1)
    with pytest.raises(EditError, match="strength"):
        auditor.verify(pirate(), **{**QUICK, "strength": float("nan")})
    monkeypatch.setattr(verify, "generate_replies", lambda _target, dialogs, *_: [""] * len(dialogs))
    with pytest.raises(EditError, match="says nothing"):
        scenes_of(auditor.target, pirate(), 6, 0)
