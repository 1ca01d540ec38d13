"""Edits as values: scaled, negated, added, ablated, moved, and refused where they fit no model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import ANY, N_PROMPT, PARTS, edit_of, make
from helpers.hooked_models import D_MODEL, N_LAYERS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.hooks import Ablate, ActivationEdit, LowRank, Steer


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-4, 4), min_size=1, max_size=4), st.floats(-4, 4))
def test_scaling_multiplies_every_strength(strengths: list[float], factor: float) -> None:
    edit = edit_of(*(make(PARTS[at], layer=at, strength=strength) for at, strength in enumerate(strengths)))
    scaled = edit.scaled(factor)
    assert [part.strength for part in scaled.parts] == [strength * factor for strength in strengths]
    assert [part.strength for part in (-edit).parts] == [-strength for strength in strengths]
    assert [part.strength for part in edit.parts] == strengths
    assert scaled.origin == edit.origin
    for got, part in zip(scaled.parts, edit.parts, strict=True):
        assert (type(got), got.layer, got.positions, got.n_prompt) == (
            type(part),
            part.layer,
            part.positions,
            part.n_prompt,
        )
        assert all(torch.equal(got.tensors()[name], tensor) for name, tensor in part.tensors().items())


def test_an_edit_and_its_negative_cancel() -> None:
    edit, resid = edit_of(make("steer"), make("steer-each", layer=2)), torch.randn(2, N_PROMPT, D_MODEL)
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
        edit_of(make("steer")).scaled(factor)


def test_adding_keeps_the_order_and_the_first_origin() -> None:
    one = ActivationEdit((make("steer"), make("lowrank", layer=3)), replace(ANY, want="a", method="vector"))
    two = ActivationEdit((make("ablate"),), replace(ANY, want="b", method="hand", metrics={"lift": 1}))
    both = one + two
    assert both.parts == one.parts + two.parts
    assert (both.origin.want, both.origin.method, both.origin.metrics) == ("a\nb", "vector + hand", {})
    assert both.origin.settings == {"of": [one.origin.settings, two.origin.settings]}
    assert (both.layers, two.layers) == ((1, 3), (1,))
    resid = torch.randn(1, N_PROMPT, D_MODEL)
    (_, first), _, (_, last) = both.fwd_hooks
    assert torch.equal(last(first(resid)), two.fwd_hooks[0][1](one.fwd_hooks[0][1](resid)))
    assert (last(first(resid)) @ two.parts[0].direction).abs().max() < 1e-4


@pytest.mark.parametrize("change", [{"fingerprint": "0" * 16}, {"n_layers": 6}])
def test_edits_of_two_models_are_not_added(change: dict[str, Any]) -> None:
    other = edit_of(make("steer"), origin=replace(ANY, target="other", **change))
    with pytest.raises(EditError, match="edits for 'tiny' and 'other' cannot be combined; use one model's"):
        edit_of(make("steer")) + other


def test_ablated_takes_each_layers_direction_out_everywhere() -> None:
    steer, at = make("steer", strength=0.1), make("steer-at", layer=3)
    origin = replace(ANY, method="vector", metrics={"lift": 1})
    got = edit_of(steer, at, origin=origin).ablated()
    assert (got.origin.method, got.origin.metrics, got.layers) == ("ablated vector", {}, (1, 3))
    for part, source in zip(got.parts, (steer, at), strict=True):
        assert isinstance(part, Ablate)
        assert (part.layer, part.strength, part.positions) == (source.layer, 1, None)
        out = part.hook()[1](torch.randn(1, N_PROMPT + 2, D_MODEL))
        assert (out @ source.direction).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["steer-each", "ablate", "lowrank"])
def test_what_has_no_single_direction_is_not_ablated(kind: str) -> None:
    with pytest.raises(EditError, match="one direction per layer can be ablated; make one with method='vector'"):
        edit_of(make("steer"), make(kind)).ablated()


def test_moving_to_a_device_moves_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    to = Tensor.to

    def note(tensor: Tensor, *args: Any) -> Tensor:
        asked.append(args[0])
        return to(tensor, "cpu").clone()

    edit = edit_of(make("steer"), make("lowrank-at", layer=2))
    monkeypatch.setattr(Tensor, "to", note)
    moved = edit.to("cuda:1")
    monkeypatch.undo()
    assert asked == ["cuda:1"] * 4
    assert moved.origin == edit.origin
    for got, part in zip(moved.parts, edit.parts, strict=True):
        assert (got.layer, got.positions) == (part.layer, part.positions)
        for name, tensor in part.tensors().items():
            assert torch.equal(got.tensors()[name], tensor)
            assert got.tensors()[name] is not tensor


def test_an_edit_of_nothing_is_refused() -> None:
    with pytest.raises(EditError, match="has no parts; expected at least one"):
        edit_of()


@pytest.mark.parametrize("layer", [-1, N_LAYERS])
def test_a_layer_that_does_not_exist_is_refused(layer: int) -> None:
    with pytest.raises(EditError, match=f"layer {layer} is not among the model's 0-3"):
        edit_of(make("steer", layer=layer))


@pytest.mark.parametrize("name", ["direction", "basis"])
def test_tensors_of_another_width_are_refused(name: str) -> None:
    wide = {
        "direction": Steer(layer=0, direction=torch.ones(64)),
        "basis": LowRank(layer=0, basis=torch.eye(2, 64), weight=torch.eye(2, 64), bias=torch.ones(2)),
    }
    with pytest.raises(EditError, match=f"{name} has width 64; the model's is 32"):
        edit_of(make("steer"), wide[name])
