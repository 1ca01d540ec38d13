"""What is needed of a model: layers that exist, raw weights, and a fingerprint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.hooked_models import KINDS, build, left_padded
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit.hooks import capture, fingerprint, require_raw, resolve_layers


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.data())
def test_negative_layers_count_from_the_end(n_layers: int, data: st.DataObject) -> None:
    layers = data.draw(st.lists(st.integers(-n_layers, n_layers - 1), min_size=1))
    assert resolve_layers(layers, n_layers) == tuple(list(range(n_layers))[layer] for layer in layers)


class Bare:
    """A model that says what its configuration says, and never runs."""

    def __init__(self, norm: str | None = None) -> None:
        self.cfg = SimpleNamespace(n_layers=4, normalization_type=norm)

    def hooks(self, **_hooks: Any) -> Any:
        raise AssertionError("no hook is needed")

    def __call__(self, *_args: Any, **_settings: Any) -> Any:
        raise AssertionError("the model ran")


def test_processed_weights_of_a_bridge_are_refused() -> None:
    model = build.__wrapped__("gpt2-bridge").model
    require_raw(model)
    model.enable_compatibility_mode()
    with pytest.raises(ValueError, match="processed weights"):
        capture(model, *left_padded(3), [0])


@pytest.mark.parametrize("norm", ["RMSPre", "LNPre"])
def test_folded_norms_are_refused(norm: str) -> None:
    with pytest.raises(ValueError, match="from_pretrained_no_processing"):
        capture(Bare(norm), *left_padded(3), [0])


def test_centred_weights_are_refused() -> None:
    model: Any = Bare()
    rows = torch.randn(100, 32)
    model.embed = SimpleNamespace(W_E=rows - rows.mean(-1, keepdim=True))
    with pytest.raises(ValueError, match="centred weights"):
        capture(model, *left_padded(3), [1])
    model.embed.W_E = rows
    require_raw(model)


def test_the_fingerprint_is_that_of_the_weights_not_of_the_class() -> None:
    prints = {kind: fingerprint(build(kind).model) for kind in KINDS}
    assert len({prints[kind] for kind in KINDS if kind.startswith("llama")}) == 1
    assert len(set(prints.values())) == 2
