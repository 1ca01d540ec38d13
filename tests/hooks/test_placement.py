"""An edit of positions finds its own prompt in every input, or says that it is not there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.edits import ANY, DIALOGS, edit_of, ids, tiny_edit
from helpers.hooked_models import D_MODEL
from torch import Tensor

from audit_lit import Auditor
from audit_lit.edits.prompt import prompt_fields
from audit_lit.edits.weights import load_edit
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Steer, resid_post

PAD, BOS, OTHER = 0, 2, 9  # without a BOS of its own, TransformerLens takes the end token
QUIET = {"max_new_tokens": 3, "do_sample": False, "verbose": False, "stop_at_eos": False}


@pytest.fixture
def own(target: Any) -> Any:
    """An edit for the first of the dialogs, and the tokens of its prompt."""
    prompt = ids(target, DIALOGS[0])
    fields: dict[str, Any] = {"positions": (3, 8, 7), **prompt_fields(target, prompt)}
    steer = Steer(layer=1, direction=torch.randn(3, D_MODEL), unit=3.0, **fields)
    settings = {"dialogs": [DIALOGS[0]]}
    return edit_of(steer, origin=replace(ANY, fingerprint=target.fingerprint(), settings=settings)), prompt


def touched(target: Any, edit: ActivationEdit, tokens: list[list[int]], way: str = "on") -> list[list[int]]:
    """The columns of each row whose residual changes after block 1."""
    rows, name = torch.tensor(tokens), resid_post(1)
    run = {"attention_mask": torch.ones_like(rows)}
    seen: list[Tensor] = []
    keep = (name, lambda resid, **_: seen.append(resid.clone()))
    with torch.no_grad():
        target.model.run_with_hooks(rows, fwd_hooks=[keep], **run)
        if way == "on":
            with edit.on(target.model), target.model.hooks(fwd_hooks=[keep]):
                target.model(rows, **run)
        else:
            target.model.run_with_hooks(rows, fwd_hooks=[*edit.fwd_hooks, keep], **run)
    before, after = seen
    return [((new - old).norm(dim=-1) > 1e-3).nonzero()[:, 0].tolist() for old, new in zip(before, after, strict=True)]


@pytest.mark.parametrize("way", ["on", "run_with_hooks"])
@pytest.mark.parametrize(
    "before", [[], [BOS], [PAD] * 3, [PAD] * 5 + [BOS]], ids=["alone", "BOS", "padding", "padding and BOS"]
)
def test_positions_move_with_what_stands_before_the_prompt(own: Any, target: Any, before: list[int], way: str) -> None:
    edit, prompt = own
    expected = sorted(len(before) + position for position in edit.interventions[0].positions)
    assert touched(target, edit, [before + prompt], way) == [expected]
    assert touched(target, edit, [before + prompt + [OTHER] * 3], way) == [expected]  # a reply


def test_each_row_of_a_batch_has_its_own_place(own: Any, target: Any) -> None:
    edit, prompt = own
    positions = sorted(edit.interventions[0].positions)
    rows = [[PAD, PAD, *prompt], [*prompt, PAD, PAD], [PAD, BOS, *prompt]]
    assert touched(target, edit, rows) == [[shift + at for at in positions] for shift in (2, 0, 2)]


@pytest.mark.parametrize("way", ["on", "run_with_hooks"])
def test_another_prompt_is_refused(own: Any, target: Any, way: str) -> None:
    edit, prompt = own
    others = [
        ids(target, [{"role": "user", "content": "Hello there, and a long line more."}]),
        ids(target, [{"role": "system", "content": "Be."}, *DIALOGS[0]]),
        [OTHER, *prompt],
        [*prompt[:-1], OTHER],
        prompt[:-1],
        [PAD] * len(prompt),
    ]
    for other in others:
        with pytest.raises(EditError, match=rf"one prompt of {len(prompt)} tokens, and row 0 .* does not begin with"):
            touched(target, edit, [other], way)
    padded = [PAD] * (len(others[0]) - len(prompt)) + prompt
    with pytest.raises(EditError, match="row 1 of the input"):
        touched(target, edit, [padded, others[0]], way)


def test_generation_is_the_same_with_and_without_a_cache(own: Any, target: Any) -> None:
    edit, prompt = own
    rows = torch.tensor([prompt])
    with edit.on(target.model) as model:
        cached, whole = (model.generate(rows, use_past_kv_cache=cache, **QUIET) for cache in (True, False))
        model.run_with_cache(rows)
    assert torch.equal(cached, whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_copy_in_another_precision_knows_the_prompt(own: Any, tiny_folder: Any, dtype: torch.dtype) -> None:
    from audit_lit import load_target

    edit, prompt = own
    copy = load_target(str(tiny_folder), dtype=dtype)
    assert touched(copy, edit, [[PAD, *prompt]]) == [[4, 8, 9]]


def test_a_saved_edit_knows_its_prompt(own: Any, target: Any, tmp_path: Any) -> None:
    edit, prompt = own
    loaded = ActivationEdit.load(edit.save(tmp_path))
    assert touched(target, loaded, [[BOS, *prompt]]) == touched(target, edit, [[BOS, *prompt]])
    with pytest.raises(EditError, match="does not begin with it"):
        touched(target, loaded, [[OTHER, *prompt]])


def test_an_edit_of_a_first_version_learns_its_prompt_from_its_dialog(own: Any, target: Any, tmp_path: Any) -> None:
    edit, prompt = own
    first = replace(edit, interventions=tuple(replace(x, prompt=None, padding=None) for x in edit.interventions))
    loaded = load_edit(str(first.save(tmp_path)), target)
    with pytest.raises(EditError, match="does not begin with it"):
        touched(target, loaded, [[OTHER, *prompt]])
    assert touched(target, loaded, [[BOS, *prompt]]) == touched(target, edit, [[BOS, *prompt]])
    by_length = ActivationEdit.load(tmp_path)  # without the target, the length is all that is known
    assert touched(target, by_length, [prompt]) == touched(target, edit, [prompt])


def test_residuals_without_tokens_are_refused(own: Any) -> None:
    edit, prompt = own
    (_, _), (_, write) = edit.fwd_hooks
    with pytest.raises(EditError, match="has not seen the tokens"):
        write(torch.zeros(1, len(prompt), D_MODEL))


def test_embeddings_must_be_of_the_whole_prompt() -> None:
    with pytest.raises(EditError, match="embeddings of 2 tokens for a prompt of 4"):
        Steer(layer=0, direction=torch.ones(4), positions=(1,), n_prompt=4, prompt=torch.ones(2, 4))


def test_scaled_negated_and_summed_edits_keep_the_prompt(own: Any, target: Any) -> None:
    edit, prompt = own
    for other in (edit.scaled(0.5), -edit, edit + edit, edit.to("cpu")):
        assert touched(target, other, [[BOS, *prompt]]) == touched(target, edit, [[BOS, *prompt]])


def test_a_gradient_edit_is_made_with_its_prompt(auditor: Auditor, target: Any) -> None:
    edit, prompt = tiny_edit(auditor, "gradient", steps=1), ids(target, DIALOGS[0])
    (alone,), (moved,) = touched(target, edit, [prompt]), touched(target, edit, [[PAD, BOS, *prompt]])
    assert moved == [2 + at for at in alone] and set(alone) <= set(edit.interventions[0].positions)
    with pytest.raises(EditError, match="does not begin with it"):
        touched(target, edit, [[OTHER, *prompt]])
