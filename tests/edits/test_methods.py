"""The methods that make edits: what each lowers, its bounds, its seed, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.edits import DIALOGS, METHODS, SEVERAL_LAYERS, WISH, same_edit, tiny_edit
from helpers.hooked_models import D_MODEL, n_hooks

from audit_lit import Auditor, Decoder
from audit_lit.chat.rendering import render
from audit_lit.edits.goal import Goal
from audit_lit.edits.make import capture_residuals, median_norms
from audit_lit.edits.objective import Objective
from audit_lit.edits.recipe import Provenance
from audit_lit.edits.weights import edited_target
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, LowRank, Steer, capture

Make = Callable[..., Decoder]
on_every_method = pytest.mark.parametrize("method", METHODS)


def loss(auditor: Auditor, edit: Any, n_dialogs: int = 3) -> float:
    target, hooks = edited_target(auditor.target, edit)
    goal = Goal(WISH, Provenance.of(edit.origin).pairs)
    return Objective.of(auditor.session, DIALOGS[:n_dialogs], goal).on(target).value(hooks)


@on_every_method
@pytest.mark.parametrize("layers", [[1], [0, 2]])
def test_loss_falls_along_the_edit_and_not_against_it(auditor: Auditor, method: str, layers: list[int]) -> None:
    edit, n_dialogs = tiny_edit(auditor, method, layers=layers, steps=8), 1 if method == "gradient" else 3
    metrics = edit.origin.metrics
    before, along, against = (loss(auditor, edit.scaled(factor), n_dialogs) for factor in (0.0, 1.0, -1.0))
    assert along == pytest.approx(loss(auditor, edit, n_dialogs), abs=1e-5)
    assert (metrics["loss_before"], metrics["loss_after"]) == pytest.approx((before, along), abs=1e-5)
    assert along < before - 0.005 and along < against - 0.005
    if method in ("vector", "gradient"):
        assert against > before
    assert n_hooks(auditor.target.model) == 0
    if method != "weights":
        assert isinstance(edit, ActivationEdit) and list(edit.layers) == layers


@on_every_method
def test_same_seed_same_edit_and_the_random_state_is_left_alone(auditor: Auditor, method: str) -> None:
    edits = []
    for seed in (3, 3, 4):
        torch.rand(1)
        state = torch.get_rng_state()
        edits.append(tiny_edit(auditor, method, seed=seed, batch_size=1, steps=3))
        assert torch.equal(torch.get_rng_state(), state)
    assert same_edit(edits[0], edits[1])
    assert json.dumps(edits[0].origin.metrics) == json.dumps(edits[1].origin.metrics)
    assert method == "gradient" or not same_edit(edits[0], edits[2])


def test_a_rank_above_the_width_is_refused(auditor: Auditor) -> None:
    with pytest.raises(EditError, match=f"rank={D_MODEL + 1} .* at most {D_MODEL}"):
        tiny_edit(auditor, "lowrank", rank=D_MODEL + 1)


@pytest.mark.parametrize(("layers", "lr"), [([1], 0.15), ([0, 2], 100.0)])
def test_changes_stay_within_the_strength_that_layers_share(auditor: Auditor, layers: list[int], lr: float) -> None:
    bound = 0.3 / len(layers) ** 0.5
    units = median_norms(capture_residuals(auditor.target, DIALOGS, layers))
    settings: dict[str, Any] = {"layers": layers, "lr": lr, "strength": 0.3}
    vector = tiny_edit(auditor, **settings)
    for steer in vector.interventions:
        assert isinstance(steer, Steer) and float(steer.direction.norm()) == pytest.approx(1, abs=1e-5)
        assert 0 < steer.strength <= bound * (1 + 1e-5) and steer.unit == pytest.approx(units[steer.layer])
        assert lr < 1 or steer.strength == pytest.approx(bound)
        assert vector.origin.metrics["strength"][str(steer.layer)] == pytest.approx(steer.strength, rel=1e-4)
    for steer in tiny_edit(auditor, "gradient", **settings).interventions:
        norms = steer.direction.norm(dim=-1)
        assert float(norms.max()) <= bound * (1 + 1e-5) and float(norms.min()) > 0
    for low_rank in tiny_edit(auditor, "lowrank", rank=2, **settings).interventions:
        assert isinstance(low_rank, LowRank) and low_rank.basis.shape == (2, D_MODEL)
        torch.testing.assert_close(low_rank.basis @ low_rank.basis.T, torch.eye(2), rtol=0, atol=1e-5)
        turned, unit = torch.linalg.matrix_norm(low_rank.weight - low_rank.basis, 2), units[low_rank.layer]
        change = float(turned * unit + low_rank.bias.norm())  # of a residual of median norm
        assert 0 < change <= bound * unit * (1 + 1e-4)


def test_more_strength_lowers_the_loss_further(auditor: Auditor) -> None:
    weak, strong = (tiny_edit(auditor, strength=strength, steps=8).origin.metrics for strength in (0.1, 0.5))
    assert strong["loss_after"] < weak["loss_after"] < weak["loss_before"]
    assert strong["kl"] > weak["kl"] > 0


@torch.no_grad()
def test_gradient_changes_the_positions_that_are_read_alone(auditor: Auditor, target: Any) -> None:
    edit = tiny_edit(auditor, "gradient")
    rendered = render(DIALOGS[0], target.tokenizer)
    (steer,) = edit.interventions
    assert steer.positions == auditor.decoder.config.select(rendered, "user")
    assert steer.n_prompt == len(rendered.token_ids) and len(steer.positions) < steer.n_prompt
    tokens = torch.tensor([rendered.token_ids])
    plain = capture(target.model, tokens, torch.ones_like(tokens), (1,))[1]
    with target.model.hooks(fwd_hooks=edit.fwd_hooks):
        edited = capture(target.model, tokens, torch.ones_like(tokens), (1,))[1]
    changed = (edited - plain).norm(dim=-1)[0].nonzero().flatten().tolist()
    assert tuple(changed) == steer.positions
    with pytest.raises(EditError, match="one prompt, but got 3 dialogs; make an edit for each"):
        auditor.edit(WISH, DIALOGS, method="gradient", steps=1)


def test_local_losses_need_a_decoder_of_each_layer(target: Any, make_decoder: Make, auditor: Auditor) -> None:
    several = Auditor(target, make_decoder(**SEVERAL_LAYERS))
    both = tiny_edit(several, local=True, layers=[1, 3], strength=0.2 * 2**0.5)  # which they share
    alone = tiny_edit(several, local=True, layers=[1], strength=0.2)
    assert both.layers == (1, 3)
    assert torch.allclose(both.interventions[0].direction, alone.interventions[0].direction, atol=1e-5)
    with pytest.raises(EditError, match="there is no local loss at layer 1"):
        tiny_edit(auditor, local=True)
    assert same_edit(tiny_edit(auditor, local=True, layers=[2]), tiny_edit(auditor, layers=[2]))
