"""Capturing the residual stream: the same numbers as Hugging Face, on every kind of model."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.hooked_models import N_LAYERS, Hooked, every_model, left_padded, n_hooks, residuals
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit_lit.errors import ActivationError, SettingsError
from audit_lit.hooks import capture, output_hook, resid_post
from audit_lit.hooks.capture import take

ALL = range(N_LAYERS)
hooked_model = every_model


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_equals_hugging_face_at_real_positions(hooked_model: Hooked) -> None:
    tokens, mask = left_padded(9, 5, 1)
    expected = residuals(hooked_model.hf, hooked_model.blocks, tokens, mask)
    got = capture(hooked_model.model, tokens, mask, ALL)
    for layer in ALL:
        assert_close(got[layer][mask.bool()], expected[layer][mask.bool()])


def test_padding_changes_nothing(hooked_model: Hooked) -> None:
    lengths = (9, 4, 6)
    tokens, mask = left_padded(*lengths)
    batch = capture(hooked_model.model, tokens, mask, ALL)
    for row, length in enumerate(lengths):
        alone = tokens[row : row + 1, -length:]
        single = capture(hooked_model.model, alone, torch.ones_like(alone), ALL)
        for layer in ALL:
            assert_close(batch[layer][row, -length:], single[layer][0])


def test_layers_keep_their_order_and_may_be_negative(hooked_model: Hooked) -> None:
    tokens, mask = left_padded(6)
    expected = residuals(hooked_model.hf, hooked_model.blocks, tokens)
    got = capture(hooked_model.model, tokens, mask, [-1, 0, 2])
    assert list(got) == [3, 0, 2]
    for layer, resid in got.items():
        assert_close(resid, expected[layer])


@pytest.mark.parametrize("layers", [[0], [2, 1], [-1]])
def test_blocks_above_the_highest_layer_do_not_run(hooked_model: Hooked, layers: list[int]) -> None:
    ran: list[int] = []

    def note(layer: int) -> Any:
        def fn(resid: Tensor, *, hook: object) -> None:
            ran.append(layer)

        return resid_post(layer), fn

    with hooked_model.model.hooks(fwd_hooks=[note(layer) for layer in ALL]):
        capture(hooked_model.model, *left_padded(5), layers)
    assert ran == list(range(max(layer % N_LAYERS for layer in layers) + 1))


def test_positions_select_columns_row_by_row(hooked_model: Hooked) -> None:
    tokens, mask = left_padded(7, 7)
    full = capture(hooked_model.model, tokens, mask, [1])[1]
    got = capture(hooked_model.model, tokens, mask, [1], positions=torch.tensor([[6, 0, 0], [1, 2, 5]]))[1]
    assert torch.equal(got, torch.stack([full[0, [6, 0, 0]], full[1, [1, 2, 5]]]))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 8), st.data())
def test_take_is_indexing_row_by_row(n_rows: int, n_pos: int, n_slots: int, data: st.DataObject) -> None:
    resid = torch.arange(n_rows * n_pos * 3.0).view(n_rows, n_pos, 3)
    row_positions = st.lists(st.integers(0, n_pos - 1), min_size=n_slots, max_size=n_slots)
    positions = [data.draw(row_positions) for _ in range(n_rows)]
    expected = torch.stack([resid[row, places] for row, places in enumerate(positions)])
    assert torch.equal(take(resid, torch.tensor(positions)), expected)


def test_gradient_reaches_edits_and_parameters_only_if_asked(hooked_model: Hooked) -> None:
    model, (tokens, mask) = hooked_model.model, left_padded(5, 3)
    delta = torch.zeros(32, requires_grad=True)
    embedding = next(iter(model.parameters()))

    def shift(resid: Tensor, *, hook: object) -> Tensor:
        return resid + delta

    with model.hooks(fwd_hooks=[(resid_post(0), shift)]):
        kept = capture(model, tokens, mask, [2], grad=True)[2]
        loose = capture(model, tokens, mask, [2])[2]
    assert not loose.requires_grad
    assert loose.grad_fn is None
    to_delta, to_embedding = torch.autograd.grad(kept.square().sum(), [delta, embedding])
    assert to_delta.norm() > 0
    assert to_embedding.norm() > 0
    torch.testing.assert_close(kept.detach(), loose)  # products without a graph may round otherwise


def test_the_callers_gradient_mode_is_restored(hooked_model: Hooked) -> None:
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            capture(hooked_model.model, *left_padded(3), [0], grad=not mode)
            assert torch.is_grad_enabled() == mode


def test_hooks_of_others_are_respected_and_outlive_the_capture(hooked_model: Hooked) -> None:
    model, (tokens, mask) = hooked_model.model, left_padded(6, 4)

    def double(resid: Tensor, *, hook: object = None) -> Tensor:
        return resid * 2

    with output_hook(hooked_model.blocks[1], double):
        expected = residuals(hooked_model.hf, hooked_model.blocks, tokens, mask)
    with model.hooks(fwd_hooks=[(resid_post(1), double)]):
        before = n_hooks(model)
        got = capture(model, tokens, mask, [1, 2])
        assert n_hooks(model) == before > 0
    for layer in (1, 2):
        assert_close(got[layer][mask.bool()], expected[layer][mask.bool()])


def test_hooks_are_gone_after_an_exception(hooked_model: Hooked) -> None:
    def fail(resid: Tensor, *, hook: object) -> None:
        raise KeyboardInterrupt

    model = hooked_model.model
    with model.hooks(fwd_hooks=[(resid_post(1), fail)]):
        before = n_hooks(model)
        with pytest.raises(KeyboardInterrupt):
            capture(model, *left_padded(4), [0, 3])
        assert n_hooks(model) == before
    assert n_hooks(model) == 0


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([1, 4], "layer 4 is outside a model of 4 layers; use 0-3"),
        ([-5], "layer -5 is outside"),
        ([], "no layer named"),
    ],
)
def test_a_layer_that_does_not_exist_is_refused(hooked_model: Hooked, layers: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        capture(hooked_model.model, *left_padded(3), layers)


class Silent:
    """A model whose hooks never fire."""

    cfg = SimpleNamespace(n_layers=4, normalization_type=None)

    def hooks(self, **_hooks: Any) -> Any:
        return nullcontext()

    def __call__(self, *_args: Any, **_settings: Any) -> None:
        return None


def test_a_hook_point_that_never_fires_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"blocks\.1\.hook_resid_post"):
        capture(Silent(), *left_padded(3), [1])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "value", [None, 3, "ab", [[1, 2, 3]], torch.ones(3), torch.ones(1, 3), torch.ones(2, 4).long()]
)
def test_inputs_that_do_not_fit_are_refused_in_words(hooked_model: Hooked, value: Any) -> None:
    tokens, mask = left_padded(3)
    for arguments in ((value, mask, [1]), (tokens, value, [1])):
        with pytest.raises(ActivationError, match="expected"):
            capture(hooked_model.model, *arguments)
    for layers in (3, "12", [1.5], [None], None):
        with pytest.raises(SettingsError, match=r"expected a list|outside a model"):
            capture(hooked_model.model, tokens, mask, layers)
