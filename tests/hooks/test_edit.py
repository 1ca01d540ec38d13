"""Edits as values: scaled, negated, added, ablated, moved, and refused where they fit no model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import ANY, INTERVENTION_KINDS, N_PROMPT, edit_of, make_intervention
from helpers.hooked_models import D_MODEL, KINDS, N_LAYERS, Hooked, build, every_model, n_hooks
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.hooks import Ablate, ActivationEdit, LowRank, Steer, fingerprint

hooked_model = every_model


def strengths_of(edit: ActivationEdit) -> list[float]:
    return [intervention.strength for intervention in edit.interventions]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-4, 4), min_size=1, max_size=4), st.floats(-4, 4))
def test_scaling_multiplies_every_strength(strengths: list[float], factor: float) -> None:
    kinds = zip(INTERVENTION_KINDS, range(N_LAYERS), strengths, strict=False)
    edit = edit_of(*(make_intervention(kind, layer=layer, strength=strength) for kind, layer, strength in kinds))
    scaled = edit.scaled(factor)
    assert strengths_of(edit) == strengths
    assert strengths_of(scaled) == [strength * factor for strength in strengths]
    assert strengths_of(-edit) == [-strength for strength in strengths]
    assert scaled.origin == edit.origin
    for got, before in zip(scaled.interventions, edit.interventions, strict=True):
        assert type(got) is type(before)
        assert (got.layer, got.positions, got.n_prompt) == (before.layer, before.positions, before.n_prompt)
        assert all(torch.equal(got.tensors()[name], tensor) for name, tensor in before.tensors().items())


def test_an_edit_and_its_negative_cancel() -> None:
    edit = edit_of(make_intervention("steer"), make_intervention("steer-each", layer=2))
    resid = torch.randn(2, N_PROMPT, D_MODEL)
    for _, fn in (edit + -edit).fwd_hooks:
        resid, before = fn(resid), resid
        assert not torch.equal(resid, before)
    again = torch.zeros_like(resid)
    for _, fn in (edit + -edit).fwd_hooks:
        again = fn(again)
    torch.testing.assert_close(again, torch.zeros_like(again), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_factor_that_is_not_finite_is_refused(factor: float) -> None:
    with pytest.raises(EditError, match="is not finite"):
        edit_of(make_intervention("steer")).scaled(factor)


def test_adding_keeps_the_order_and_the_first_origin() -> None:
    interventions = make_intervention("steer"), make_intervention("lowrank", layer=3)
    first = edit_of(*interventions, origin=replace(ANY, goal="a", method="vector"))
    last_origin = replace(ANY, goal="b", method="hand", metrics={"lift": 1})
    last = edit_of(make_intervention("ablate"), origin=last_origin)
    both = first + last
    assert both.interventions == first.interventions + last.interventions
    assert (both.origin.goal, both.origin.method, both.origin.metrics) == ("a\nb", "vector + hand", {})
    assert both.origin.settings == {"of": [first.origin.settings, last.origin.settings]}
    assert (both.layers, last.layers) == ((1, 3), (1,))
    resid = torch.randn(1, N_PROMPT, D_MODEL)
    (_, steer), _, (_, ablate) = both.fwd_hooks
    out = ablate(steer(resid))
    assert torch.equal(out, last.fwd_hooks[0][1](first.fwd_hooks[0][1](resid)))
    assert (out @ last.interventions[0].tensors()["direction"]).abs().max() < 1e-4


@pytest.mark.parametrize("change", [{"fingerprint": "0" * 16}, {"n_layers": 6}])
def test_edits_of_two_models_are_not_added(change: dict[str, Any]) -> None:
    other = edit_of(make_intervention("steer"), origin=replace(ANY, target="other", **change))
    with pytest.raises(EditError, match="edits for 'tiny' and 'other' cannot be combined; use edits for one model"):
        edit_of(make_intervention("steer")) + other


def test_ablated_takes_each_layers_direction_out_everywhere() -> None:
    steers = make_intervention("steer", strength=0.1), make_intervention("steer-at", layer=3)
    origin = replace(ANY, method="vector", metrics={"lift": 1})
    got = edit_of(*steers, origin=origin).ablated()
    assert (got.origin.method, got.origin.metrics, got.layers) == ("ablated vector", {}, (1, 3))
    for ablate, steer in zip(got.interventions, steers, strict=True):
        assert isinstance(ablate, Ablate)
        assert (ablate.layer, ablate.strength, ablate.positions) == (steer.layer, 1, None)
        out = ablate.hook()[1](torch.randn(1, N_PROMPT + 2, D_MODEL))
        assert (out @ steer.tensors()["direction"]).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["steer-each", "ablate", "lowrank"])
def test_what_has_no_single_direction_is_not_ablated(kind: str) -> None:
    with pytest.raises(EditError, match="one direction per layer can be ablated; make one with method='vector'"):
        edit_of(make_intervention("steer"), make_intervention(kind)).ablated()


def test_moving_to_a_device_moves_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[object] = []
    to = Tensor.to

    def note(tensor: Tensor, *args: Any) -> Tensor:
        devices.append(args[0])
        return to(tensor, "cpu").clone()

    edit = edit_of(make_intervention("steer"), make_intervention("lowrank-at", layer=2))
    monkeypatch.setattr(Tensor, "to", note)
    moved = edit.to("cuda:1")
    monkeypatch.undo()
    assert devices == ["cuda:1"] * 4
    assert moved.origin == edit.origin
    for got, before in zip(moved.interventions, edit.interventions, strict=True):
        assert (got.layer, got.positions) == (before.layer, before.positions)
        for name, tensor in before.tensors().items():
            assert torch.equal(got.tensors()[name], tensor)
            assert got.tensors()[name] is not tensor


def test_an_edit_of_nothing_is_refused() -> None:
    with pytest.raises(EditError, match="has no interventions; expected at least one"):
        edit_of()


@pytest.mark.parametrize("layer", [-1, N_LAYERS])
def test_a_layer_that_does_not_exist_is_refused(layer: int) -> None:
    with pytest.raises(EditError, match=f"layer {layer} is not among the model's 0-3"):
        edit_of(make_intervention("steer", layer=layer))


@pytest.mark.parametrize("name", ["direction", "basis"])
def test_tensors_of_another_width_are_refused(name: str) -> None:
    wide = {
        "direction": Steer(layer=0, direction=torch.ones(64)),
        "basis": LowRank(layer=0, basis=torch.eye(2, 64), weight=torch.eye(2, 64), bias=torch.ones(2)),
    }
    with pytest.raises(EditError, match=f"{name} has width 64; the model's is 32"):
        edit_of(make_intervention("steer"), wide[name])


def refused(edit: ActivationEdit, model: Any, message: str) -> None:
    with pytest.raises(EditError, match=message):
        edit.check(model)
    with pytest.raises(EditError, match=message), edit.on(model):
        raise AssertionError("the body ran")
    assert n_hooks(model) == 0


def test_another_model_is_refused(hooked_model: Hooked) -> None:
    model, steer = hooked_model.model, make_intervention("steer")
    mine = replace(ANY, fingerprint=fingerprint(model))
    edit_of(steer, origin=mine).check(model)
    edit_of(steer).check(model)  # any of the shape
    for change, message in [
        ({"fingerprint": "0" * 16}, rf"fingerprint {mine.fingerprint}\. Load"),
        ({"n_layers": 5}, r"made for 'tiny' \(width 32, 5 layers.*32, 4 layers"),
        ({"n_layers": 3, "fingerprint": None}, "32, 3 layers, fingerprint None"),
    ]:
        refused(edit_of(steer, origin=replace(mine, **change)), model, message)
    wide = edit_of(Steer(layer=0, direction=torch.ones(64)), origin=replace(ANY, d_model=64))
    refused(wide, model, "width 64, 4 layers")
    other = build("gpt2-bridge" if hooked_model.kind.startswith("llama") else "llama-bridge").model
    refused(edit_of(steer, origin=mine), other, "Load that model, or make an edit for this one")


@pytest.mark.parametrize("kind", KINDS)
def test_processed_weights_are_refused(kind: str) -> None:
    model = build.__wrapped__(kind).model
    edit = edit_of(make_intervention("steer"))
    edit.check(model)
    if kind.endswith("bridge"):
        model.enable_compatibility_mode()
    else:
        model.process_weights_()
    refused(edit, model, "processed weights.*raw weights")
