"""How far an edit drifts on neutral text: the figures by hand, and the budget that bounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.edits import DIALOGS, WISH, nats
from helpers.hooked_models import n_hooks

from audit_lit import Auditor, Decoder
from audit_lit.edits import drift
from audit_lit.edits.drift import Drift, NeutralText, within
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit
from audit_lit.models.generation import generate_replies

Make = Callable[..., Decoder]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply is longer than four tokens."""

    def short(*args: Any, **how: Any) -> list[str]:
        return generate_replies(*args, **how | {"max_new_tokens": min(4, how["max_new_tokens"])})

    monkeypatch.setattr(drift, "write_replies", short)


def test_drift_is_the_kl_and_the_perplexity_by_hand(target: Any, edit: ActivationEdit) -> None:
    text = NeutralText.of(target, DIALOGS, max_new_tokens=4, seed=1)
    found, direction = text.drift(edit), 0.4 * edit.parts[0].direction
    kls, rises = [], []
    for dialog, reply in zip(text.dialogs, text.replies, strict=True):
        (before, own_before), (after, own_after) = (nats(target, dialog, reply, way) for way in (None, direction))
        kls.append(torch.nn.functional.kl_div(after, before, log_target=True, reduction="none").sum(-1))
        rises.append(own_before - own_after)
    assert found.kl == pytest.approx(float(torch.cat(kls).mean()), rel=1e-3) and found.kl > 0
    assert found.perplexity_ratio == pytest.approx(float(torch.cat(rises).mean().exp()), rel=1e-3)
    assert text.drift(edit.scaled(0.0)) == Drift(0.0, 1.0)
    assert text.replies == NeutralText.of(target, DIALOGS, max_new_tokens=4, seed=1).replies
    assert n_hooks(target.model) == 0


def test_silent_dialogs_are_left_out(target: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(drift, "write_replies", lambda *_args, **_how: ["", "a", ""])
    assert NeutralText.of(target, DIALOGS).dialogs == (DIALOGS[1],)
    monkeypatch.setattr(drift, "write_replies", lambda *_args, **_how: ["", "", ""])
    with pytest.raises(EditError, match="says nothing in any of the dialogs; expected some that it answers"):
        NeutralText.of(target, DIALOGS)


@pytest.mark.parametrize(("budget", "factor"), [(1.0, 1.0), (0.25, 0.5), (0.2, 28 / 64), (1e-6, 0.0)])
def test_budget_is_kept_by_bisection(edit: ActivationEdit, budget: float, factor: float) -> None:
    measured = []

    def measure(one: Any) -> Drift:
        measured.append(one.parts[0].strength / edit.parts[0].strength)
        return Drift(measured[-1] ** 2, 1 + measured[-1])

    found, at = within(edit, budget, measure)
    assert found == pytest.approx(factor) and at.kl <= budget
    assert at.kl == pytest.approx(found**2) and at.perplexity_ratio == pytest.approx(1 + found)
    assert len(measured) == (1 if factor == 1 else 7) and found + 1 / 64 >= min(1, budget**0.5)


def test_an_edit_is_scaled_to_its_budget(target: Any, make_decoder: Make) -> None:
    auditor, how = Auditor(target, make_decoder()), {"layers": [1], "steps": 2}
    free = auditor.edit(WISH, DIALOGS, **how).origin.metrics
    tight = auditor.edit(WISH, DIALOGS, budget=free["kl"] / 4, **how)
    metrics = tight.origin.metrics
    assert free["scaled_to_budget"] == 1.0 and metrics["kl"] <= free["kl"] / 4
    assert 0.3 < metrics["scaled_to_budget"] < 0.7
    assert metrics["strength"]["1"] == pytest.approx(metrics["scaled_to_budget"] * free["strength"]["1"], rel=1e-4)
    assert metrics["loss_before"] > metrics["loss_after"] > free["loss_after"]
