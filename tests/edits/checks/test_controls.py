"""The controls of an edit: each as large as the edit, and what it is called, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import DIALOGS, WISH, change_by_hand, last_turn, resid_by_hand
from helpers.hooked_models import D_MODEL

from audit_lit import Auditor
from audit_lit.chat.dialog import with_system
from audit_lit.edits.checks.controls import caa_edit, random_edit, shuffled_edit
from audit_lit.edits.make import capture_residuals, change_sizes
from audit_lit.errors import EditError
from audit_lit.hooks import Ablate, ActivationEdit, Intervention, LowRank, Origin, Steer

PAIRS = (("Who?", "A pirate."), ("What?", "Be a pirate."), ("And?", "A pirate."))


def intervention_of(kind: str) -> Intervention:
    placement: dict[str, Any] = {"positions": (1, 4), "n_prompt": 20}
    basis = torch.linalg.qr(torch.randn(D_MODEL, 3))[0].T
    return {
        "steer": lambda: Steer(layer=1, direction=torch.randn(D_MODEL), strength=-0.5, unit=3.0),
        "steer-each": lambda: Steer(layer=1, direction=torch.randn(2, D_MODEL), strength=0.5, unit=3.0, **placement),
        "ablate": lambda: Ablate(layer=1, direction=torch.randn(D_MODEL)),
        "ablate-at": lambda: Ablate(layer=1, direction=torch.randn(D_MODEL), **placement),
        "lowrank": lambda: LowRank(layer=1, basis=basis, weight=torch.randn(3, D_MODEL), bias=torch.randn(3)),
    }[kind]()


def places(edit: ActivationEdit) -> list[Any]:
    return [(change.layer, change.positions, change.n_prompt) for change in edit.interventions]


@pytest.mark.parametrize("kind", ["steer", "steer-each", "ablate", "ablate-at", "lowrank"])
def test_controls_change_as_much_as_the_edit(target: Any, origin: Origin, kind: str) -> None:
    first, second = intervention_of(kind), Steer(layer=2, direction=torch.randn(D_MODEL))
    edit = ActivationEdit((first, second), origin)
    resid = torch.cat([resid_by_hand(target, dialog, 1) for dialog in DIALOGS])
    rows = enumerate(resid if first.positions is None else resid[list(first.positions)])
    changes = torch.stack([first.strength * change_by_hand(first, row, index) for index, row in rows])
    unedited = capture_residuals(target, DIALOGS, (1, 2))
    sizes = change_sizes(edit, unedited)
    expected = [float(changes.norm(dim=-1).median()), float(second.direction.norm())]
    assert sizes == pytest.approx(expected, rel=1e-3)
    for control in (random_edit(edit, sizes, 3), caa_edit(edit, sizes, target, WISH, DIALOGS)):
        assert change_sizes(control, unedited) == pytest.approx(sizes, rel=1e-4)
        assert places(control) == places(edit)
        assert control.origin.metrics == {} and control.origin.method in ("random", "caa")
    assert change_sizes(edit.scaled(-1.0), unedited) == pytest.approx(sizes)


def test_random_directions_depend_on_the_seed(edit: ActivationEdit) -> None:
    state = torch.get_rng_state()
    first, same, other = (random_edit(edit, [1.0], seed).interventions[0].tensors()["direction"] for seed in (1, 1, 2))
    assert torch.equal(first, same) and abs(float(first @ other)) < 0.6
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("contrast", [None, "Be sad."])
def test_caa_is_the_difference_of_means_by_hand(target: Any, edit: ActivationEdit, contrast: str | None) -> None:
    difference = torch.zeros(D_MODEL)
    for dialog in DIALOGS:
        prompted = [{"role": "system", "content": WISH}, *dialog]
        opposite = [{"role": "system", "content": contrast}, *dialog] if contrast else dialog
        for sign, variant in ((1, prompted), (-1, opposite)):
            difference += sign * resid_by_hand(target, variant, 1)[list(last_turn(target, variant))].mean(0)
    (steer,) = caa_edit(edit, [2.0], target, WISH, DIALOGS, contrast).interventions
    assert isinstance(steer, Steer) and steer.strength == 2.0
    torch.testing.assert_close(steer.direction, difference / difference.norm(), rtol=1e-3, atol=1e-4)


def test_controls_speak_under_the_goal_in_place_of_another_system_prompt() -> None:
    prompted = [{"role": "system", "content": "Old."}, *DIALOGS[0]]
    expected = [{"role": "system", "content": "New."}, *DIALOGS[0]]
    assert with_system(prompted, "New.") == with_system(DIALOGS[0], "New.") == expected


def test_shuffled_is_made_with_the_same_settings(auditor: Auditor) -> None:
    edit = auditor.edit(PAIRS, DIALOGS, layers=[1], steps=2, seed=3, strength=0.3, reveal="last:2")
    control = shuffled_edit(edit, auditor.session, DIALOGS)
    settings, control_settings = edit.origin.settings, control.origin.settings
    assert {key for key in settings if settings[key] != control_settings[key]} == {"pairs"}
    assert not torch.equal(edit.interventions[0].direction, control.interventions[0].direction)
    assert {question for question, _ in control_settings["pairs"]} == {question for question, _ in PAIRS}


def test_shuffled_is_made_by_the_same_decoder(auditor: Auditor) -> None:
    edit = auditor.edit(PAIRS, DIALOGS, layers=[1], steps=1)
    settings = edit.origin.settings | {"decoder": "another"}
    foreign = replace(edit, origin=replace(edit.origin, settings=settings))
    with pytest.raises(EditError, match=r"made with decoder 'another', and this is .*leave the control 'shuffled' out"):
        auditor.check(foreign, DIALOGS)
