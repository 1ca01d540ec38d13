"""Edits on every kind of model: what changes, what does not, and generation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import ANY, INTERVENTION_KINDS, N_PROMPT, POSITIONS, change_by_hand, edit_of, make_intervention
from helpers.hooked_models import D_MODEL, KINDS, N_LAYERS, Hooked, build, every_model, left_padded, n_hooks
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.hooks import (
    ActivationEdit,
    Hook,
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
on_every_kind = pytest.mark.parametrize("kind", INTERVENTION_KINDS)


def origin_of(model: Any) -> Origin:
    return replace(ANY, fingerprint=fingerprint(model))


def by_hand(change: Any) -> Callable[[Tensor], Tensor]:
    """A hook that knows whole prompts only."""

    def fn(resid: Tensor) -> Tensor:
        out = resid.clone()
        for row in range(resid.shape[0]):
            for index, position in enumerate(range(resid.shape[1]) if change.positions is None else change.positions):
                out[row, position] += change.strength * change_by_hand(change, resid[row, position], index)
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


@on_every_kind
def test_strength_zero_changes_no_bit(hooked_model: Hooked, kind: str) -> None:
    edit = edit_of(make_intervention(kind), make_intervention(kind, layer=3)).scaled(0.0)
    assert torch.equal(logits(hooked_model.model, edit.fwd_hooks), logits(hooked_model.model))
    assert torch.equal(tokens_of(hooked_model.model, edit), tokens_of(hooked_model.model))


@on_every_kind
def test_only_its_layer_and_positions_change_and_what_follows_from_them(hooked_model: Hooked, kind: str) -> None:
    change, model, (tokens, mask) = make_intervention(kind), hooked_model.model, prompts()
    clean = capture(model, tokens, mask, range(N_LAYERS))
    with edit_of(change).on(model):
        got = capture(model, tokens, mask, range(N_LAYERS))
    assert torch.equal(got[0], clean[0])
    changed = list(range(N_PROMPT)) if change.positions is None else list(POSITIONS)
    others = [pos for pos in range(N_PROMPT) if pos not in changed]
    assert torch.equal(got[1][:, others], clean[1][:, others])
    assert_close(got[1], by_hand(change)(clean[1]))
    for layer in (2, 3):
        assert_close(got[layer][:, : changed[0]], clean[layer][:, : changed[0]])  # nothing looks ahead
        assert ((got[layer] - clean[layer])[:, changed[0] :].norm(dim=-1) > 1e-3).all()


@on_every_kind
def test_the_same_logits_as_hugging_face_edited_by_hand(hooked_model: Hooked, kind: str) -> None:
    first, second, tokens = make_intervention(kind), make_intervention(kind, layer=2, strength=-0.5), prompts()[0]
    blocks = hooked_model.blocks
    with (
        torch.no_grad(),
        output_hook(blocks[1], by_hand(first)),
        output_hook(blocks[2], by_hand(second)),
    ):
        expected = hooked_model.hf(tokens).logits
    with torch.no_grad(), edit_of(first, second).on(hooked_model.model) as model:
        assert_close(model(tokens, attention_mask=torch.ones_like(tokens)), expected)


def test_an_ablated_direction_is_gone_from_every_token_of_generate(hooked_model: Hooked) -> None:
    change, sizes = make_intervention("ablate"), []

    def look(resid: Tensor, *, hook: object) -> None:
        sizes.append((resid.shape[1], float((resid @ change.direction).abs().max())))

    with edit_of(change).on(hooked_model.model) as model, model.hooks(fwd_hooks=[(resid_post(1), look)]):
        model.generate(prompts()[0], **GENERATE)
    assert [n_tokens for n_tokens, _ in sizes[:3]] == [N_PROMPT, 1, 1]
    assert len(sizes) >= N_NEW
    assert max(size for _, size in sizes) < 1e-3


@on_every_kind
def test_generate_edits_the_prompt_and_each_new_token_but_no_step_by_position(hooked_model: Hooked, kind: str) -> None:
    change, seen = make_intervention(kind), []

    def look(resid: Tensor, *, hook: object) -> None:
        seen.append(resid.clone())

    hooks = [(resid_post(1), look), *edit_of(change).fwd_hooks, (resid_post(1), look)]
    with hooked_model.model.hooks(fwd_hooks=hooks):
        hooked_model.model.generate(prompts()[0], **GENERATE)
    (before, after), *steps = list(zip(seen[::2], seen[1::2], strict=True))
    assert_close(after, by_hand(change)(before))
    assert len(steps) >= N_NEW - 1
    for before, after in steps:
        assert before.shape[1] == 1
        assert_close(after, by_hand(change)(before) if change.positions is None else before)
        assert torch.equal(after, before) == (change.positions is not None)


@on_every_kind
def test_generation_is_the_same_with_and_without_cache(hooked_model: Hooked, kind: str) -> None:
    edit = edit_of(make_intervention(kind, strength=4.0), make_intervention(kind, layer=2))
    texts = [tokens_of(hooked_model.model, edit, cache) for cache in (True, False)]
    assert texts[0].shape == (2, N_PROMPT + N_NEW)
    assert torch.equal(*texts)
    assert not torch.equal(texts[0], tokens_of(hooked_model.model)), "an edit that does nothing shows nothing"
    with hooked_model.model.hooks(fwd_hooks=edit.fwd_hooks):
        assert torch.equal(tokens_of(hooked_model.model), texts[0])


def test_every_way_to_hook_does_the_same(hooked_model: Hooked) -> None:
    model, (tokens, mask), edit = (
        hooked_model.model,
        prompts(),
        edit_of(make_intervention("steer"), make_intervention("lowrank-at", layer=2)),
    )
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
    model, clean, edit = (
        hooked_model.model,
        logits(hooked_model.model),
        edit_of(make_intervention("steer"), make_intervention("ablate", layer=3)),
    )
    with pytest.raises(KeyboardInterrupt), edit.on(model):
        assert n_hooks(model) > 0
        raise KeyboardInterrupt
    assert n_hooks(model) == 0
    tokens_of(model, edit)
    assert n_hooks(model) == 0
    assert torch.equal(logits(model), clean)


def test_interventions_and_a_users_own_hooks_act_in_the_order_of_the_list(hooked_model: Hooked) -> None:
    model, (tokens, mask), steer = hooked_model.model, prompts(), make_intervention("steer")
    doubling: Hook = (resid_post(1), double)
    clean, added, edit = capture(model, tokens, mask, [1])[1], steer.unit * steer.direction, edit_of(steer)
    for hooks, expected in [
        ([doubling, *edit.fwd_hooks], clean * 2 + added),
        ([*edit.fwd_hooks, doubling], (clean + added) * 2),
        ([*edit.fwd_hooks, doubling, *edit.fwd_hooks], (clean + added) * 2 + added),
    ]:
        with model.hooks(fwd_hooks=hooks):
            assert_close(capture(model, tokens, mask, [1])[1], expected)


def test_a_users_contexts_around_and_within_survive(hooked_model: Hooked) -> None:
    model, (tokens, mask), steer = hooked_model.model, prompts(), make_intervention("steer")
    clean, added = capture(model, tokens, mask, [1])[1], steer.unit * steer.direction
    doubling: list[Hook] = [(resid_post(1), double)]

    def now() -> Tensor:
        return capture(model, tokens, mask, [1])[1]

    with model.hooks(fwd_hooks=doubling):
        with edit_of(steer).on(model):
            assert_close(now(), clean * 2 + added)
        assert_close(now(), clean * 2)
        with pytest.raises(KeyboardInterrupt), edit_of(steer).on(model):
            raise KeyboardInterrupt
        assert_close(now(), clean * 2)
    with edit_of(steer).on(model):
        with model.hooks(fwd_hooks=doubling):
            assert_close(now(), (clean + added) * 2)
        assert_close(now(), clean + added)
        with edit_of(make_intervention("ablate")).on(model):
            pass
        assert_close(now(), clean + added)
    assert torch.equal(now(), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bfloat16_copy_is_edited_in_its_own_dtype(kind: str) -> None:
    model, (tokens, mask), change = build.__wrapped__(kind).model, prompts(), make_intervention("steer-at")
    made_for = origin_of(model)
    model.to(torch.bfloat16)
    clean = capture(model, tokens, mask, [1])[1]
    with edit_of(change, origin=made_for).on(model):
        got = capture(model, tokens, mask, [1])[1]
        assert model.generate(tokens, **GENERATE).shape == (2, N_PROMPT + N_NEW)
    assert got.dtype == clean.dtype == torch.bfloat16
    assert torch.equal(got[:, POSITIONS], (clean[:, POSITIONS].float() + change.unit * change.direction).bfloat16())


def test_a_prompt_shorter_than_the_edits_is_refused_and_leaves_no_hooks(hooked_model: Hooked) -> None:
    short, _ = left_padded(N_PROMPT - 1)
    for run in (hooked_model.model, lambda tokens: hooked_model.model.generate(tokens, **GENERATE)):
        with (
            pytest.raises(EditError, match="prompt of 8 tokens, but this one has 7"),
            edit_of(make_intervention("steer-at")).on(hooked_model.model),
        ):
            run(short)
        assert n_hooks(hooked_model.model) == 0


def test_a_hook_on_a_model_of_another_width_is_refused(hooked_model: Hooked) -> None:
    wide = Steer(layer=1, direction=torch.randn(D_MODEL + 1))
    edit = ActivationEdit((wide,), replace(ANY, d_model=D_MODEL + 1))
    with pytest.raises(EditError, match="width 33 met residuals of width 32; use it on the model"):
        logits(hooked_model.model, edit.fwd_hooks)
    assert n_hooks(hooked_model.model) == 0


def test_gradients_reach_the_directions_through_the_model(hooked_model: Hooked) -> None:
    model, (tokens, mask), weights = hooked_model.model, prompts(), torch.randn(2, N_PROMPT, D_MODEL)
    direction = torch.randn(2, D_MODEL, requires_grad=True)

    def loss(direction: Tensor) -> Tensor:
        steer = Steer(layer=0, direction=direction, positions=POSITIONS, n_prompt=N_PROMPT)
        with edit_of(steer).on(model):
            return (capture(model, tokens, mask, [2], grad=True)[2] * weights).sum()

    (grad,) = torch.autograd.grad(loss(direction), direction)
    for row in range(2):
        way, eps = torch.zeros(2, D_MODEL), 1e-2
        way[row] = torch.nn.functional.normalize(grad[row], dim=0)
        with torch.no_grad():
            numeric = (loss(direction + eps * way) - loss(direction - eps * way)) / (2 * eps)
        torch.testing.assert_close((grad * way).sum(), numeric, rtol=2e-2, atol=1e-2)
