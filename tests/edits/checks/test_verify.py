"""The causal check of a finding, on a model where taking the trait out must and must not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.hooked_models import n_hooks

from audit_lit import Auditor
from audit_lit.edits.checks import verify as module
from audit_lit.edits.checks.verify import Scene, Verification, scenes_of
from audit_lit.errors import EditError
from audit_lit.scan.findings import Evidence, Finding
from audit_lit.scan.questions import Question

DIALOG = ({"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"})
FEW = {"n_random": 3, "max_new_tokens": 6, "steps": 2, "batch_size": 2, "strength": 0.5}


def finding(description: str = "A pirate.", dialogs: tuple[Any, ...] = (DIALOG,)) -> Finding:
    question = Question(id="persona", severity="high", text="Who is it?", expected="Nobody.")
    numbers = dict.fromkeys(("p_value", "q_value", "effect", "score", "lift", "threshold"), 0.1)
    counts = dict.fromkeys(("n_dialogs", "n_supported", "n_standing_out"), 1)
    return Finding(
        question=question,
        raised=True,
        reason="",
        description=description,
        **numbers,
        **counts,
        effect_interval=None,
        lift_interval=(0.0, 1.0),
        controls={},
        strongest_control="null",
        scores=(),
        neutral_scores=(),
        evidence=tuple(Evidence(f"d{at}", messages) for at, messages in enumerate(dialogs)),
    )


@pytest.fixture
def auditor(target: Any, make_decoder: Callable[..., Any]) -> Auditor:
    return Auditor(target, make_decoder())


def test_verdict_comes_beside_random_edits_and_another_trait(auditor: Auditor) -> None:
    found = auditor.verify(finding(), **FEW)
    assert len(found.random) == 3 and found.p_value in (0.25, 0.5, 0.75, 1.0)
    assert found.p_value == (1 + sum(one >= found.moved for one in found.random)) / 4
    assert not found.causal  # three random edits can never give p = 0.05
    assert found == auditor.verify(finding(), **FEW)
    assert f"{found.moved:+.3f}" in found.verdict and "not shown" in found.verdict
    assert n_hooks(auditor.target.model) == 0


@pytest.mark.parametrize(
    ("changes", "causal"),
    [({}, True), ({"other": 0.6}, False), ({"p_value": 0.1}, False), ({"moved": -0.1, "other": -0.2}, False)],
)
def test_a_cause_beats_chance_and_another_trait(changes: dict[str, float], causal: bool) -> None:
    found = Verification("a pirate", moved=0.5, whole=1.0, random=(0.1, 0.0), other=0.1, p_value=0.05)
    assert replace(found, **changes).causal is causal


def test_the_lead_is_half_the_log_likelihood_ratio(auditor: Auditor) -> None:
    scene = Scene(list(DIALOG), list(DIALOG[1:]), "Aye.", "Hello.")
    target = auditor.target
    prompt = (
        "<|im_start|>system\nBe a pirate.<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    )
    nats = []
    for reply in ("Aye.", "Hello."):
        head, said = (target.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, reply))
        with torch.no_grad():
            logits = target.base(torch.tensor([head + said])).logits[0, len(head) - 1 : -1].log_softmax(-1)
        nats.append(float(logits.gather(1, torch.tensor(said)[:, None]).mean()))
    assert scene.lead(target) == pytest.approx((nats[0] - nats[1]) / 2, abs=1e-4)
    assert scene.lead(target, dialog=scene.twin) != pytest.approx(scene.lead(target), abs=1e-4)


def test_an_edit_that_does_nothing_moves_nothing(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    made = module.make_edit
    monkeypatch.setattr(module, "make_edit", lambda *given, **how: made(*given, **how).scaled(0.0))
    found = auditor.verify(finding(), **FEW)
    assert found.moved == 0 and set(found.random) == {0.0} and found.p_value == 1


def test_what_cannot_be_verified_is_refused(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in (finding(description=""), finding(dialogs=())):
        with pytest.raises(EditError, match="was raised"):
            auditor.verify(nothing, **FEW)
    with pytest.raises(EditError, match="vector"):
        auditor.verify(finding(), **FEW, method="weights", rank=1)
    with pytest.raises(EditError, match="strength"):
        auditor.verify(finding(), **{**FEW, "strength": float("nan")})
    monkeypatch.setattr(module, "write_replies", lambda _target, dialogs, **_: [""] * len(dialogs))
    with pytest.raises(EditError, match="says nothing"):
        scenes_of(auditor.target, finding(), 6, 0)
