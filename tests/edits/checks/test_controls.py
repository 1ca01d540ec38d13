"""The controls of an edit: each as large as the edit, and what it is called, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.edits import DIALOGS, WISH, last_turn, resid_by_hand
from helpers.hooked_models import D_MODEL

from audit_lit.chat.dialog import with_system
from audit_lit.edits.checks.controls import caa_edit, random_edit
from audit_lit.edits.sizes import capture_residuals, change_sizes, median_norms
from audit_lit.hooks import Ablate, ActivationEdit, Intervention, LowRank, Origin, Steer


def parts(kind: str) -> Intervention:
    where = {"positions": (1, 4), "n_prompt": 20}
    basis = torch.linalg.qr(torch.randn(D_MODEL, 3))[0].T
    return {
        "steer": lambda: Steer(layer=1, direction=torch.randn(D_MODEL), strength=-0.5, unit=3.0),
        "steer-each": lambda: Steer(layer=1, direction=torch.randn(2, D_MODEL), strength=0.5, unit=3.0, **where),
        "ablate": lambda: Ablate(layer=1, direction=torch.randn(D_MODEL)),
        "ablate-at": lambda: Ablate(layer=1, direction=torch.randn(D_MODEL), **where),
        "lowrank": lambda: LowRank(layer=1, basis=basis, weight=torch.randn(3, D_MODEL), bias=torch.randn(3)),
    }[kind]()


@pytest.mark.parametrize("kind", ["steer", "steer-each", "ablate", "ablate-at", "lowrank"])
def test_controls_change_as_much_as_the_edit(target: Any, origin: Origin, kind: str) -> None:
    part = parts(kind)
    edit = ActivationEdit((part, Steer(layer=2, direction=torch.randn(D_MODEL))), origin)
    resid = torch.cat([resid_by_hand(target, dialog, 1) for dialog in DIALOGS])
    resid = resid if part.positions is None else resid[list(part.positions)]
    if isinstance(part, Steer):
        changes = 1.5 * part.direction.reshape(-1, D_MODEL)
    elif isinstance(part, Ablate):
        unit = part.direction / part.direction.norm()
        changes = torch.stack([torch.dot(row, unit) * unit for row in resid])
    else:
        assert isinstance(part, LowRank)
        changes = torch.stack([part.basis.T @ (part.weight @ h + part.bias - part.basis @ h) for h in resid])
    unedited = capture_residuals(target, DIALOGS, (1, 2))
    sizes = change_sizes(edit, unedited)
    assert sizes == pytest.approx(
        [float(changes.norm(dim=-1).median()), float(edit.parts[1].direction.norm())], rel=1e-3
    )
    for control in (random_edit(edit, sizes, 3), caa_edit(edit, sizes, target, WISH, DIALOGS)):
        assert change_sizes(control, unedited) == pytest.approx(sizes, rel=1e-4)
        assert [(one.layer, one.positions, one.n_prompt) for one in control.parts] == [
            (one.layer, one.positions, one.n_prompt) for one in edit.parts
        ]
        assert control.origin.metrics == {} and control.origin.method in ("random", "caa")
    assert change_sizes(edit.scaled(-1.0), unedited) == pytest.approx(sizes)


def test_random_directions_depend_on_the_seed(edit: ActivationEdit) -> None:
    state = torch.get_rng_state()
    found = [random_edit(edit, [1.0], seed).parts[0].direction for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1]) and abs(float(found[0] @ found[2])) < 0.6
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("contrast", [None, "Be sad."])
def test_caa_is_the_difference_of_means_by_hand(target: Any, edit: ActivationEdit, contrast: str | None) -> None:
    difference = torch.zeros(D_MODEL)
    for dialog in DIALOGS:
        prompted = [{"role": "system", "content": WISH}, *dialog]
        other = [{"role": "system", "content": contrast}, *dialog] if contrast else dialog
        for sign, one in ((1, prompted), (-1, other)):
            difference += sign * resid_by_hand(target, one, 1)[list(last_turn(target, one))].mean(0)
    (part,) = caa_edit(edit, [2.0], target, WISH, DIALOGS, contrast).parts
    torch.testing.assert_close(part.direction, difference / difference.norm(), rtol=1e-3, atol=1e-4)
    assert part.strength == 2.0


def test_units_and_prompts_of_controls(target: Any) -> None:
    rows = torch.cat([resid_by_hand(target, dialog, 2) for dialog in DIALOGS])
    assert median_norms(capture_residuals(target, DIALOGS, (2,))) == pytest.approx(
        {2: float(rows.norm(dim=-1).median())}, rel=1e-4
    )
    both = [{"role": "system", "content": "Old."}, *DIALOGS[0]]
    new = [{"role": "system", "content": "New."}, *DIALOGS[0]]
    assert with_system(both, "New.") == with_system(DIALOGS[0], "New.") == new
