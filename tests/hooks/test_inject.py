"""Injecting vectors into slots: each operation by its formula, on every kind of model and on plain Hugging Face."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.hooked_models import D_MODEL, Hooked, every_model, formula, left_padded, residuals
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from audit_lit.errors import ActivationError
from audit_lit.hooks import (
    AddNormMatched,
    Embed,
    Project,
    Replace,
    capture,
    inject,
    input_hook,
    output_hook,
    resid_post,
)

hooked_model = every_model
OPS = ["replace", "add", "add 2.5", "embed", "project"]
on_every_op = pytest.mark.parametrize("op", OPS)


def make_op(op: str, d_model: int = D_MODEL, d_read: int = D_MODEL, n_layers: int = 2) -> nn.Module:
    if op != "project":
        gain = {"add 2.5": 2.5, "embed": 7.0}.get(op, 1.0)
        return Replace() if op == "replace" else Embed(gain) if op == "embed" else AddNormMatched(gain)
    write = Project(torch.randn(n_layers, d_read), torch.rand(n_layers, d_read) + 0.5, d_model)
    nn.init.normal_(write.weight)
    return write


def by_hand(op: str, write: Any, resid: Tensor, vectors: Tensor, slots: Tensor, layers: Tensor) -> Tensor:
    out, places = resid.clone(), slots.nonzero().tolist()
    for (row, pos), vector, layer in zip(places, vectors, layers.tolist(), strict=True):
        out[row, pos] = formula(op.split()[0], write, resid[row, pos], vector, layer).to(resid.dtype)
    return out


def example(op: str, *, dtype: torch.dtype = torch.float32) -> tuple[Any, Tensor, Tensor, Tensor, Tensor]:
    """An operation, tokens, slots in them, a vector per slot and its layer."""
    tokens, _ = left_padded(8, 8)
    slots = torch.zeros(2, 8, dtype=torch.bool)
    slots[0, [1, 2, 5]] = slots[1, [3]] = True
    return make_op(op), tokens, slots, torch.randn(4, D_MODEL, dtype=dtype) * 3, torch.tensor([0, 1, 1, 0])


@on_every_op
@settings(deadline=None, max_examples=25)
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_equals_the_formula_at_slots_and_nothing_else_changes(op: str, data: st.DataObject, dtype: torch.dtype) -> None:
    n_rows, n_pos = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    marks = data.draw(st.lists(st.booleans(), min_size=n_rows * n_pos, max_size=n_rows * n_pos))
    slots = torch.tensor(marks).view(n_rows, n_pos)
    torch.manual_seed(data.draw(st.integers(0, 99)))
    resid, vectors = torch.randn(n_rows, n_pos, 6).to(dtype), torch.randn(sum(marks), 6)
    layers, write, before = torch.randint(0, 2, (sum(marks),)), make_op(op, 6, 6), resid.clone()
    got = inject(write, vectors, slots, layers)(resid)
    assert torch.equal(resid, before), "the incoming tensor was written to"
    assert got.dtype == dtype
    assert got.data_ptr() != resid.data_ptr()
    assert torch.equal(got[~slots], resid[~slots])
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(got, by_hand(op, write, resid, vectors, slots, layers), **tolerance)


@on_every_op
def test_the_same_numbers_on_every_model_and_on_hugging_face(hooked_model: Hooked, op: str) -> None:
    write, tokens, slots, vectors, layers = example(op)
    mask, fn = torch.ones_like(tokens), inject(write, vectors, slots, layers)
    clean = residuals(hooked_model.hf, hooked_model.blocks, tokens)[1]
    with torch.no_grad(), output_hook(hooked_model.blocks[1], fn):
        expected = residuals(hooked_model.hf, hooked_model.blocks, tokens)
        hf_logits = hooked_model.hf(tokens).logits
    torch.testing.assert_close(expected[1], by_hand(op, write, clean, vectors, slots, layers), rtol=1e-4, atol=1e-4)
    with torch.no_grad(), hooked_model.model.hooks(fwd_hooks=[(resid_post(1), fn)]):
        got = capture(hooked_model.model, tokens, mask, [1, 3])
        logits = hooked_model.model(tokens, attention_mask=mask)
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got[3], expected[3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, hf_logits, rtol=1e-4, atol=1e-4)


@on_every_op
def test_a_decoding_step_is_left_alone_and_caching_changes_nothing(hooked_model: Hooked, op: str) -> None:
    write, tokens, slots, vectors, layers = example(op)
    fn, hf, n_prompt = inject(write, vectors, slots, layers), hooked_model.hf, 8
    tokens = torch.cat([tokens, torch.randint(3, 250, (2, 3))], dim=1)
    step = torch.randn(2, 1, D_MODEL)
    assert fn(step) is step
    with torch.no_grad(), output_hook(hooked_model.blocks[1], fn):
        whole = hf(tokens, use_cache=False).logits
        out = hf(tokens[:, :n_prompt], use_cache=True)
        for column in range(n_prompt, tokens.shape[1]):
            torch.testing.assert_close(out.logits[:, -1], whole[:, column - 1], rtol=1e-4, atol=1e-4)
            out = hf(tokens[:, column : column + 1], past_key_values=out.past_key_values, use_cache=True)


@on_every_op
def test_generation_of_every_model_is_the_same_with_and_without_cache(hooked_model: Hooked, op: str) -> None:
    write, tokens, slots, vectors, layers = example(op)
    settings_of = {"max_new_tokens": 4, "do_sample": False, "stop_at_eos": False, "verbose": False}
    with hooked_model.model.hooks(fwd_hooks=[(resid_post(1), inject(write, vectors, slots, layers))]):
        texts = [hooked_model.model.generate(tokens, use_past_kv_cache=cache, **settings_of) for cache in (True, False)]
    assert texts[0].shape == (2, 12)
    assert torch.equal(*texts)


@on_every_op
def test_gradients_equal_finite_differences(op: str) -> None:
    write, _, slots, vectors, layers = example(op)
    resid, weights, eps = torch.randn(2, 8, D_MODEL), torch.randn(2, 8, D_MODEL), 1e-2

    def scalar(v: Tensor) -> Tensor:
        return (inject(write, v, slots, layers)(resid) * weights).sum()

    vectors.requires_grad_()
    (grad,) = torch.autograd.grad(scalar(vectors), vectors)
    for _ in range(4):
        direction = torch.randn_like(vectors)
        with torch.no_grad():
            numeric = (scalar(vectors + eps * direction) - scalar(vectors - eps * direction)).double() / (2 * eps)
        torch.testing.assert_close((grad * direction).sum().double(), numeric, rtol=2e-2, atol=2e-2)
    if op in ("add", "embed"):  # only the direction of the vector counts
        torch.testing.assert_close((grad * vectors).sum(-1), torch.zeros(4), rtol=0, atol=1e-3)


def test_an_embedding_is_written_before_the_first_block_on_every_model(hooked_model: Hooked) -> None:
    write, tokens, slots, vectors, layers = example("embed")
    mask, fn, seen = torch.ones_like(tokens), inject(write, vectors, slots), []
    hf, block = hooked_model.hf, hooked_model.blocks[0]
    with torch.no_grad(), input_hook(block, lambda resid: seen.append(resid) or resid):
        clean = hf(tokens).logits
    with torch.no_grad(), input_hook(block, fn), input_hook(block, lambda resid: seen.append(resid) or resid):
        expected = residuals(hf, hooked_model.blocks, tokens)[0]
    torch.testing.assert_close(seen[1], by_hand("embed", write, seen[0], vectors, slots, layers), rtol=1e-4, atol=1e-4)
    with torch.no_grad(), hooked_model.model.hooks(fwd_hooks=[("blocks.0.hook_resid_pre", fn)]):
        got = capture(hooked_model.model, tokens, mask, [0])[0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(hf(tokens).logits, clean), "the hook outlived its context"


def test_the_projection_learns_each_layers_own_map() -> None:
    write, _, slots, vectors, _ = example("project")
    resid = torch.randn(2, 8, D_MODEL)
    inject(write, vectors, slots, torch.ones(4, dtype=torch.long))(resid).square().sum().backward()
    inject(write, vectors, slots, torch.ones(4, dtype=torch.long))(resid)[slots].sum().backward()
    assert write.weight.grad[0].norm() == 0
    assert write.weight.grad[1].norm() > 0


def test_a_projection_starts_as_the_identity_and_changes_the_width() -> None:
    narrow = Project(torch.zeros(1, 3), torch.ones(1, 3), 5)
    got = narrow(torch.full((1, 5), 2.0), torch.tensor([[3.0, 0.0, 4.0]]), torch.tensor([0]))
    torch.testing.assert_close(got, torch.tensor([[0.6, 0, 0.8, 0, 0]]) * 20**0.5)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_projection_refuses_a_spread_that_is_not_positive(bad: float) -> None:
    with pytest.raises(ValueError, match="not positive"):
        Project(torch.zeros(1, 3), torch.tensor([[1.0, bad, 1.0]]), 3)


def test_a_zero_vector_adds_nothing() -> None:
    resid, slots = torch.randn(1, 2, 4), torch.tensor([[True, False]])
    assert torch.equal(inject(AddNormMatched(), torch.zeros(1, 4), slots)(resid), resid)


@pytest.mark.parametrize("n_vectors", [0, 1, 3])
def test_a_wrong_number_of_vectors_is_refused(n_vectors: int) -> None:
    with pytest.raises(ValueError, match=f"got {n_vectors} vectors for 2 slots; expected one vector per slot"):
        inject(Replace(), torch.randn(n_vectors, 4), torch.tensor([[True, False, True]]))


class Pair(nn.Module):
    """A block that returns a tuple, as older architectures do."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + 1


@pytest.mark.parametrize("block", [nn.Identity(), Pair()], ids=["tensor", "tuple"])
def test_writing_keeps_the_blocks_output_form_and_ends_with_the_context(block: nn.Module) -> None:
    fn = inject(Replace(), torch.full((1, 4), 7.0), torch.tensor([[False, True]]))
    before = block(torch.zeros(1, 2, 4))
    with pytest.raises(KeyboardInterrupt), output_hook(block, fn):
        inside = block(torch.zeros(1, 2, 4))
        raise KeyboardInterrupt
    after = block(torch.zeros(1, 2, 4))
    assert type(inside) is type(before)
    resid = inside if isinstance(inside, Tensor) else inside[0]
    assert resid[0].sum(-1).tolist() == [0, 28]
    assert torch.equal(*(out if isinstance(out, Tensor) else out[0] for out in (before, after)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [None, 3, "ab", [1.0], torch.ones(3)], ids=str)
def test_what_is_no_tensor_of_that_shape_is_refused_in_words(value: Any) -> None:
    for vectors, slots in ((value, torch.ones(1, 2).bool()), (torch.ones(2, 4), value)):
        with pytest.raises(ActivationError, match="expected tensors of shape"):
            inject(Replace(), vectors, slots)
    for mean, std, width in ((value, torch.ones(1, 4), 4), (torch.ones(1, 4), value, 4), (*[torch.ones(1, 4)] * 2, -1)):
        with pytest.raises(ActivationError, match="expected two tensors of shape"):
            Project(mean, std, width)
