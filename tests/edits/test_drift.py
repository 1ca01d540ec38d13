"""The drift of an edit on neutral text: the figures by hand, and the budget that bounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.edits import DIALOGS, nats
from helpers.hooked_models import n_hooks

from audit_lit.edits import drift
from audit_lit.edits.drift import Drift, NeutralText, largest_factor
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit


def test_drift_is_the_kl_and_the_perplexity_by_hand(target: Any, edit: ActivationEdit) -> None:
    text = NeutralText.of(target, DIALOGS, max_new_tokens=4, seed=1)
    measured, direction = text.drift(edit), 0.4 * edit.interventions[0].tensors()["direction"]
    kls, rises = [], []
    for dialog, reply in zip(text.dialogs, text.replies, strict=True):
        (before, reply_before), (after, reply_after) = (nats(target, dialog, reply, way) for way in (None, direction))
        kls.append(torch.nn.functional.kl_div(after, before, log_target=True, reduction="none").sum(-1))
        rises.append(reply_before - reply_after)
    assert measured.kl == pytest.approx(float(torch.cat(kls).mean()), rel=1e-3) and measured.kl > 0
    assert measured.perplexity_ratio == pytest.approx(float(torch.cat(rises).mean().exp()), rel=1e-3)
    assert text.drift(edit.scaled(0.0)) == Drift(0.0, 1.0)
    assert text.replies == NeutralText.of(target, DIALOGS, max_new_tokens=4, seed=1).replies
    assert n_hooks(target.model) == 0


def replies(*texts: str) -> Callable[..., list[str]]:
    return lambda *_args, **_settings: list(texts)


def test_silent_dialogs_are_left_out(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "generate_replies", replies("", "a", ""))
    assert NeutralText.of(target, DIALOGS).dialogs == (DIALOGS[1],)
    monkeypatch.setattr(drift, "generate_replies", replies("", "", ""))
    with pytest.raises(EditError, match="says nothing in any of the dialogs; expected some that it answers"):
        NeutralText.of(target, DIALOGS)


@pytest.mark.parametrize(("budget", "expected"), [(1.0, 1.0), (0.25, 0.5), (0.2, 28 / 64), (1e-6, 0.0)])
def test_budget_is_kept_by_bisection(edit: ActivationEdit, budget: float, expected: float) -> None:
    measured = []

    def measure(scaled: Any) -> Drift:
        measured.append(scaled.interventions[0].strength / edit.interventions[0].strength)
        return Drift(measured[-1] ** 2, 1 + measured[-1])

    factor, drift_there = largest_factor(edit, budget, measure)
    assert factor == pytest.approx(expected) and drift_there.kl <= budget
    assert drift_there.kl == pytest.approx(factor**2) and drift_there.perplexity_ratio == pytest.approx(1 + factor)
    assert len(measured) == (1 if expected == 1 else 7) and factor + 1 / 64 >= min(1, budget**0.5)
