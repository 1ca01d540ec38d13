"""Edits on every kind of model: what changes, what does not, generation, and what they are refused on."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import ANY, AT, N_PROMPT, PARTS, edit_of, make
from helpers.hooked_models import D_MODEL, KINDS, N_LAYERS, Hooked, build, every_model, left_padded, n_hooks
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.hooks import (
    Ablate,
    ActivationEdit,
    Hook,
    Intervention,
    Origin,
    Steer,
    capture,
    fingerprint,
    output_hook,
    resid_post,
)

hooked_model = every_model
N_NEW = 4
GENERATE = {"max_new_tokens": N_NEW, "do_sample": False, "stop_at_eos": False, "verbose": False}
on_every_part = pytest.mark.parametrize("kind", PARTS)


def origin_of(model: Any) -> Origin:
    return replace(ANY, fingerprint=fingerprint(model))


def by_hand(part: Any, h: Tensor, index: int) -> Tensor:
    """One token's new residual, as the papers write it."""
    if isinstance(part, Steer):
        return h + part.strength * part.unit * (part.direction if part.direction.ndim == 1 else part.direction[index])
    if isinstance(part, Ablate):
        unit = part.direction / part.direction.norm()
        return h - part.strength * torch.dot(h, unit) * unit
    return h + part.strength * part.basis.T @ (part.weight @ h + part.bias - part.basis @ h)


def written_by_hand(part: Intervention) -> Any:
    """A hook that knows whole prompts only."""

    def fn(resid: Tensor) -> Tensor:
        out = resid.clone()
        for row in range(resid.shape[0]):
            for index, pos in enumerate(range(resid.shape[1]) if part.positions is None else part.positions):
                out[row, pos] = by_hand(part, resid[row, pos], index)
        return out

    return fn


def prompts() -> tuple[Tensor, Tensor]:
    return left_padded(N_PROMPT, N_PROMPT)


def logits(model: Any, hooks: list[Hook] | None = None) -> Tensor:
    torch.manual_seed(7)
    tokens, mask = prompts()
    with torch.no_grad(), model.hooks(fwd_hooks=hooks or []):
        return model(tokens, attention_mask=mask)


def tokens_of(model: Any, edit: ActivationEdit | None = None, cache: bool = True) -> Tensor:
    torch.manual_seed(7)
    tokens, _ = prompts()
    with ExitStack() as stack:
        if edit is not None:
            stack.enter_context(edit.on(model))
        return model.generate(tokens, use_past_kv_cache=cache, **GENERATE)


def double(resid: Tensor, *, hook: object = None) -> Tensor:
    return resid * 2


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@on_every_part
def test_strength_zero_changes_no_bit(hooked_model: Hooked, kind: str) -> None:
    edit = edit_of(make(kind), make(kind, layer=3)).scaled(0.0)
    assert torch.equal(logits(hooked_model.model, edit.fwd_hooks), logits(hooked_model.model))
    assert torch.equal(tokens_of(hooked_model.model, edit), tokens_of(hooked_model.model))


@on_every_part
def test_only_its_layer_and_positions_change_and_what_follows_from_them(hooked_model: Hooked, kind: str) -> None:
    part, model, (tokens, mask) = make(kind), hooked_model.model, prompts()
    clean = capture(model, tokens, mask, range(N_LAYERS))
    with edit_of(part).on(model):
        got = capture(model, tokens, mask, range(N_LAYERS))
    assert torch.equal(got[0], clean[0])
    changed = list(range(N_PROMPT)) if part.positions is None else list(AT)
    others = [pos for pos in range(N_PROMPT) if pos not in changed]
    assert torch.equal(got[1][:, others], clean[1][:, others])
    assert_close(got[1], written_by_hand(part)(clean[1]))
    for layer in (2, 3):
        assert_close(got[layer][:, : changed[0]], clean[layer][:, : changed[0]])  # nothing looks ahead
        assert ((got[layer] - clean[layer])[:, changed[0] :].norm(dim=-1) > 1e-3).all()


@on_every_part
def test_the_same_logits_as_hugging_face_edited_by_hand(hooked_model: Hooked, kind: str) -> None:
    first, second, tokens = make(kind), make(kind, layer=2, strength=-0.5), prompts()[0]
    blocks = hooked_model.blocks
    with (
        torch.no_grad(),
        output_hook(blocks[1], written_by_hand(first)),
        output_hook(blocks[2], written_by_hand(second)),
    ):
        expected = hooked_model.hf(tokens).logits
    with torch.no_grad(), edit_of(first, second).on(hooked_model.model) as model:
        assert_close(model(tokens, attention_mask=torch.ones_like(tokens)), expected)


def test_an_ablated_direction_is_gone_from_every_token_of_generate(hooked_model: Hooked) -> None:
    part, sizes = make("ablate"), []

    def look(resid: Tensor, *, hook: object) -> None:
        sizes.append((resid.shape[1], float((resid @ part.direction).abs().max())))

    with edit_of(part).on(hooked_model.model) as model, model.hooks(fwd_hooks=[(resid_post(1), look)]):
        model.generate(prompts()[0], **GENERATE)
    assert [n_tokens for n_tokens, _ in sizes[:3]] == [N_PROMPT, 1, 1]
    assert len(sizes) >= N_NEW
    assert max(size for _, size in sizes) < 1e-3


@on_every_part
def test_generate_edits_the_prompt_and_each_new_token_but_no_step_by_position(hooked_model: Hooked, kind: str) -> None:
    part, seen = make(kind), []

    def look(resid: Tensor, *, hook: object) -> None:
        seen.append(resid.clone())

    hooks = [(resid_post(1), look), *edit_of(part).fwd_hooks, (resid_post(1), look)]
    with hooked_model.model.hooks(fwd_hooks=hooks):
        hooked_model.model.generate(prompts()[0], **GENERATE)
    (before, after), *steps = list(zip(seen[::2], seen[1::2], strict=True))
    assert_close(after, written_by_hand(part)(before))
    assert len(steps) >= N_NEW - 1
    for before, after in steps:
        assert before.shape[1] == 1
        assert_close(after, written_by_hand(part)(before) if part.positions is None else before)
        assert torch.equal(after, before) == (part.positions is not None)


@on_every_part
def test_generation_is_the_same_with_and_without_cache(hooked_model: Hooked, kind: str) -> None:
    edit = edit_of(make(kind, strength=4.0), make(kind, layer=2))
    texts = [tokens_of(hooked_model.model, edit, cache) for cache in (True, False)]
    assert texts[0].shape == (2, N_PROMPT + N_NEW)
    assert torch.equal(*texts)
    assert not torch.equal(texts[0], tokens_of(hooked_model.model)), "an edit that does nothing shows nothing"
    with hooked_model.model.hooks(fwd_hooks=edit.fwd_hooks):
        assert torch.equal(tokens_of(hooked_model.model), texts[0])


def test_every_way_to_hook_does_the_same(hooked_model: Hooked) -> None:
    model, (tokens, mask), edit = hooked_model.model, prompts(), edit_of(make("steer"), make("lowrank-at", layer=2))
    with torch.no_grad():
        ran = model.run_with_hooks(tokens, attention_mask=mask, fwd_hooks=edit.fwd_hooks)
        assert n_hooks(model) == 0
        with edit.on(model) as entered:
            assert entered is model
            assert n_hooks(model) > 0
            assert torch.equal(model(tokens, attention_mask=mask), ran)
            assert torch.equal(model(tokens, attention_mask=mask), ran), "a second run differs"
        with model.hooks(fwd_hooks=edit.fwd_hooks):
            assert torch.equal(model(tokens, attention_mask=mask), ran)
        assert not torch.equal(model(tokens, attention_mask=mask), ran)


def test_hooks_are_gone_after_an_exception_and_after_generate(hooked_model: Hooked) -> None:
    model, clean, edit = hooked_model.model, logits(hooked_model.model), edit_of(make("steer"), make("ablate", layer=3))
    with pytest.raises(KeyboardInterrupt), edit.on(model):
        assert n_hooks(model) > 0
        raise KeyboardInterrupt
    assert n_hooks(model) == 0
    tokens_of(model, edit)
    assert n_hooks(model) == 0
    assert torch.equal(logits(model), clean)


def test_parts_and_a_users_own_hooks_act_in_the_order_of_the_list(hooked_model: Hooked) -> None:
    model, (tokens, mask), part = hooked_model.model, prompts(), make("steer")
    own: Hook = (resid_post(1), double)
    clean, change = capture(model, tokens, mask, [1])[1], part.unit * part.direction
    edit = edit_of(part)
    for hooks, expected in [
        ([own, *edit.fwd_hooks], clean * 2 + change),
        ([*edit.fwd_hooks, own], (clean + change) * 2),
        ([*edit.fwd_hooks, own, *edit.fwd_hooks], (clean + change) * 2 + change),
    ]:
        with model.hooks(fwd_hooks=hooks):
            assert_close(capture(model, tokens, mask, [1])[1], expected)


def test_a_users_contexts_around_and_within_survive(hooked_model: Hooked) -> None:
    model, (tokens, mask), part = hooked_model.model, prompts(), make("steer")
    clean, change, own = capture(model, tokens, mask, [1])[1], part.unit * part.direction, [(resid_post(1), double)]

    def now() -> Tensor:
        return capture(model, tokens, mask, [1])[1]

    with model.hooks(fwd_hooks=own):
        with edit_of(part).on(model):
            assert_close(now(), clean * 2 + change)
        assert_close(now(), clean * 2)
        with pytest.raises(KeyboardInterrupt), edit_of(part).on(model):
            raise KeyboardInterrupt
        assert_close(now(), clean * 2)
    with edit_of(part).on(model):
        with model.hooks(fwd_hooks=own):
            assert_close(now(), (clean + change) * 2)
        assert_close(now(), clean + change)
        with edit_of(make("ablate")).on(model):
            pass
        assert_close(now(), clean + change)
    assert torch.equal(now(), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bfloat16_copy_is_edited_in_its_own_dtype(kind: str) -> None:
    model, (tokens, mask), part = build.__wrapped__(kind).model, prompts(), make("steer-at")
    made_for = origin_of(model)
    model.to(torch.bfloat16)
    clean = capture(model, tokens, mask, [1])[1]
    with edit_of(part, origin=made_for).on(model):
        got = capture(model, tokens, mask, [1])[1]
        assert model.generate(tokens, **GENERATE).shape == (2, N_PROMPT + N_NEW)
    assert got.dtype == clean.dtype == torch.bfloat16
    assert torch.equal(got[:, AT], (clean[:, AT].float() + part.unit * part.direction).bfloat16())


def test_a_prompt_shorter_than_the_edits_is_refused_and_leaves_no_hooks(hooked_model: Hooked) -> None:
    short, _ = left_padded(N_PROMPT - 1)
    for run in (hooked_model.model, lambda tokens: hooked_model.model.generate(tokens, **GENERATE)):
        with (
            pytest.raises(EditError, match="prompt of 8 tokens, but this one has 7"),
            edit_of(make("steer-at")).on(hooked_model.model),
        ):
            run(short)
        assert n_hooks(hooked_model.model) == 0


def test_a_hook_on_a_model_of_another_width_is_refused(hooked_model: Hooked) -> None:
    wide = Steer(layer=1, direction=torch.randn(D_MODEL + 1))
    edit = ActivationEdit((wide,), replace(ANY, d_model=D_MODEL + 1))
    with pytest.raises(EditError, match="width 33 met residuals of width 32; use it on the model"):
        logits(hooked_model.model, edit.fwd_hooks)
    assert n_hooks(hooked_model.model) == 0


def refused(edit: ActivationEdit, model: Any, message: str) -> None:
    with pytest.raises(EditError, match=message):
        edit.check(model)
    with pytest.raises(EditError, match=message), edit.on(model):
        raise AssertionError("the body ran")
    assert n_hooks(model) == 0


def test_another_model_is_refused(hooked_model: Hooked) -> None:
    model, part = hooked_model.model, make("steer")
    mine = origin_of(model)
    edit_of(part, origin=mine).check(model)
    edit_of(part).check(model)  # any of the shape
    refused(edit_of(part, origin=replace(mine, fingerprint="0" * 16)), model, rf"fingerprint {mine.fingerprint}\. Load")
    refused(
        edit_of(part, origin=replace(mine, n_layers=5)), model, r"made for 'tiny' \(width 32, 5 layers.*32, 4 layers"
    )
    refused(edit_of(part, origin=replace(ANY, n_layers=3)), model, "32, 3 layers, fingerprint None")
    wide = replace(ANY, d_model=64)
    refused(edit_of(Steer(layer=0, direction=torch.ones(64)), origin=wide), model, "width 64, 4 layers")
    other = build("gpt2-bridge" if hooked_model.kind.startswith("llama") else "llama-bridge").model
    refused(edit_of(part, origin=mine), other, "Load that model, or make an edit for this one")


def test_an_edit_fits_every_class_of_the_same_weights() -> None:
    prints = {kind: fingerprint(build(kind).model) for kind in KINDS}
    assert len({prints[kind] for kind in KINDS if kind.startswith("llama")}) == 1
    assert len(set(prints.values())) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_processed_weights_are_refused(kind: str) -> None:
    model = build.__wrapped__(kind).model
    edit = edit_of(make("steer"))
    edit.check(model)
    if kind.endswith("bridge"):
        model.enable_compatibility_mode()
    else:
        model.process_weights_()
    refused(edit, model, "processed weights.*raw weights")


def test_gradients_reach_the_directions_through_the_model(hooked_model: Hooked) -> None:
    model, (tokens, mask), weights = hooked_model.model, prompts(), torch.randn(2, N_PROMPT, D_MODEL)
    direction = torch.randn(2, D_MODEL, requires_grad=True)

    def loss(direction: Tensor) -> Tensor:
        part = Steer(layer=0, direction=direction, positions=AT, n_prompt=N_PROMPT)
        with edit_of(part).on(model):
            return (capture(model, tokens, mask, [2], grad=True)[2] * weights).sum()

    (grad,) = torch.autograd.grad(loss(direction), direction)
    for row in range(2):
        way, eps = torch.zeros(2, D_MODEL), 1e-2
        way[row] = torch.nn.functional.normalize(grad[row], dim=0)
        with torch.no_grad():
            numeric = (loss(direction + eps * way) - loss(direction - eps * way)) / (2 * eps)
        torch.testing.assert_close((grad * way).sum(), numeric, rtol=2e-2, atol=1e-2)
