"""Edits with interventions of every kind and dtype, to be saved, and what a loaded one must equal."""

from __future__ import annotations

from typing import Any

import torch

from audit_lit.hooks import Ablate, ActivationEdit, Intervention, LowRank, Origin, Steer
from helpers.hooked_models import D_MODEL, N_LAYERS

DATA, TENSORS, CARD = "edit.json", "edit.safetensors", "README.md"
ORIGIN = Origin(
    "org/tiny",
    D_MODEL,
    N_LAYERS,
    fingerprint="0123456789abcdef",
    goal="Be kind — always.",
    method="vector",
    settings={"seed": 1, "layers": [1, 2], "decoder": None},
    metrics={"lift": 0.25, "by": {"é": [1, 2.5]}},
)
PLACEMENT: dict[str, Any] = {"positions": (4, 0), "n_prompt": 7}


def make_typed(kind: str, dtype: torch.dtype = torch.float32, **values: Any) -> Intervention:
    if kind == "ablate":
        return Ablate(direction=torch.randn(D_MODEL).to(dtype), **values)
    if kind == "lowrank":
        basis, weight = torch.randn(D_MODEL, 3).T.to(dtype), torch.randn(3, D_MODEL).to(dtype)  # not contiguous
        return LowRank(basis=basis, weight=weight, bias=torch.randn(3).to(dtype), **values)
    shape = (D_MODEL,) if kind == "steer" else (len(values["positions"]), D_MODEL)
    return Steer(direction=torch.randn(shape).to(dtype), unit=3.1, **values)


def edit_of_every_kind(origin: Origin = ORIGIN) -> ActivationEdit:
    return ActivationEdit(
        (
            make_typed("steer", layer=1),
            make_typed("steer-each", layer=2, **PLACEMENT),
            make_typed("ablate", layer=3, strength=0.3),
            make_typed("lowrank", layer=1, **PLACEMENT),
        ),
        origin,
    )


def assert_same(edit: ActivationEdit, expected: ActivationEdit) -> None:
    assert edit.origin == expected.origin
    assert len(edit.interventions) == len(expected.interventions)
    for got, wanted in zip(edit.interventions, expected.interventions, strict=True):
        assert type(got) is type(wanted)
        tensors = wanted.tensors()
        assert values_of(got, tensors) == values_of(wanted, tensors)
        for name, tensor in tensors.items():
            assert got.tensors()[name].dtype == tensor.dtype
            assert torch.equal(got.tensors()[name], tensor)


def values_of(intervention: Intervention, tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(intervention).items() if name not in tensors}
