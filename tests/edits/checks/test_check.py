"""The check of an edit: what every condition says, each figure by hand, and what the verdict makes of the effects."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.edits import DIALOGS, WISH, nats
from helpers.hooked_models import n_hooks

from audit_lit import Auditor
from audit_lit.chat.dialog import with_system
from audit_lit.edits.checks import check
from audit_lit.edits.checks.check import Check, Effect, check_edit, measure_effect
from audit_lit.edits.checks.controls import caa_edit, random_edit
from audit_lit.edits.make import capture_residuals, change_sizes
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit
from audit_lit.models.generation import Sampling, generate_replies

CONDITIONS = ("unedited", "edit", "negated", "shuffled", "random", "caa", "prompting")


def replies(target: Any, dialogs: Any, max_new_tokens: int, hooks: Any = (), seed: int = 0) -> tuple[str, ...]:
    return tuple(generate_replies(target, dialogs, Sampling(max_new_tokens, 1.0, seed=seed), hooks))


def test_every_condition_speaks_as_it_should(target: Any, edit: ActivationEdit) -> None:
    edit = edit.scaled(20.0)
    settings: dict[str, Any] = {"max_new_tokens": 3, "temperature": 1.0, "seed": 4}
    size = change_sizes(edit, capture_residuals(target, DIALOGS, edit.layers))
    shuffled = random_edit(edit, size, 7)
    checked = check_edit(edit, target, DIALOGS, make_shuffled=lambda: shuffled.scaled(0.1), **settings)
    assert tuple(checked.effects) == CONDITIONS
    spoken = {
        "unedited": [],
        "edit": edit.fwd_hooks,
        "negated": edit.scaled(-1.0).fwd_hooks,
        "shuffled": shuffled.fwd_hooks,
        "random": random_edit(edit, size, 4).fwd_hooks,
        "caa": caa_edit(edit, size, target, WISH, DIALOGS).fwd_hooks,
    }
    for name, hooks in spoken.items():
        assert checked.effects[name].replies == replies(target, DIALOGS, 3, hooks, seed=4), name
    prompted = [with_system(dialog, WISH) for dialog in DIALOGS]
    assert checked.effects["prompting"].replies == replies(target, prompted, 3, seed=4)
    for effect in checked.effects.values():
        assert effect == measure_effect(target, DIALOGS, WISH, effect.replies)
    assert len({effect.replies for effect in checked.effects.values()}) > 3  # so that a mix-up would show
    assert checked.to_dict() == check_edit(edit, target, DIALOGS, make_shuffled=lambda: shuffled, **settings).to_dict()
    assert check_edit(edit, target, DIALOGS, prompt="Be sad.", **settings).effects["edit"] != checked.effects["edit"]
    assert n_hooks(target.model) == 0


@pytest.fixture
def check_with(monkeypatch: pytest.MonkeyPatch, edit: ActivationEdit, target: Any) -> Callable[..., Check]:
    """Checks an edit with effects that are given."""

    def check_effects(effects: dict[str, Effect]) -> Check:
        waiting = [effects[name] for name in CONDITIONS]
        monkeypatch.setattr(check, "generate_replies", lambda *_args, **_settings: [])
        monkeypatch.setattr(check, "measure_effect", lambda *_: waiting.pop(0))
        return check_edit(edit, target, DIALOGS, make_shuffled=lambda: edit)

    return check_effects


def effects_of(values: dict[str, tuple[float, ...]]) -> dict[str, Effect]:
    return {name: Effect(float(np.mean(each)), 2.0, ("a",) * 6, each * 2) for name, each in values.items()}


@pytest.mark.parametrize("best", ["unedited", "negated", "shuffled", "random", "caa"])
def test_the_strongest_control_but_prompting_is_compared(check_with: Callable[..., Check], best: str) -> None:
    values = dict.fromkeys(CONDITIONS, (0.1, 0.0, -0.1)) | {"edit": (1.0, 2.0, 1.5), best: (0.5, 0.6, 0.7)}
    checked = check_with(effects_of(values | {"prompting": (3.0, 3.0, 3.0)}))
    assert checked.strongest_control == best and checked.lift == pytest.approx(0.9)
    assert checked.beats_controls and 0.5 <= checked.interval[0] <= checked.lift <= checked.interval[1] <= 1.4
    assert f"does more of what is wanted than under {best} (+0.90" in checked.verdict
    assert checked.verdict.endswith("prompting does more (+1.50)")


def test_silent_controls_are_not_compared(check_with: Callable[..., Check]) -> None:
    silent = Effect(None, 1.0, ("",) * 6, (None,) * 6)
    speaking = Effect(-0.2, 2.0, ("a",) * 6, (-0.3, -0.1) * 3)
    edited = replace(speaking, wanted=0.5, each=(0.4, 0.6) * 3)
    checked = check_with(dict.fromkeys(CONDITIONS, speaking) | {"caa": silent, "edit": edited})
    assert checked.strongest_control != "caa" and checked.lift == pytest.approx(0.7) and checked.beats_controls
    with pytest.raises(EditError, match="neither the unedited model nor any control says anything"):
        check_with(dict.fromkeys(CONDITIONS, silent))


def test_no_more_than_a_control_when_the_interval_holds_zero(check_with: Callable[..., Check]) -> None:
    checked = check_with(effects_of(dict.fromkeys(CONDITIONS, (0.0, 0.0, 0.0)) | {"edit": (1.0, -0.5, 0.4)}))
    assert checked.lift > 0 > checked.interval[0] and not checked.beats_controls
    assert "is not shown to do more of what is wanted" in checked.verdict
    assert "prompting does less (-0.30)" in checked.verdict


def test_few_replies_and_silence_decide_nothing() -> None:
    def checked(*each: float | None) -> Check:
        effects = {"edit": Effect(1.0, 2.0, ("",) * len(each), each), "prompting": Effect(0.0, 2.0, (), ())}
        return Check(effects, 1.0, (0.5, 1.5), "random")

    assert checked(*[1.0] * 5).beats_controls and "decide nothing" not in checked(*[1.0] * 5).verdict
    assert not checked(*[1.0] * 4).beats_controls
    assert checked(1.0).verdict.endswith("fewer than 5 replies decide nothing")
    assert not checked(*[1.0] * 3, *[None] * 3).beats_controls


def test_an_edit_without_words_needs_a_prompt(auditor: Auditor, edit: ActivationEdit) -> None:
    wordless = replace(edit, origin=replace(edit.origin, goal=""))
    with pytest.raises(EditError, match="does not say what its goal is; name it with prompt="):
        auditor.check(wordless, DIALOGS, shuffled=False)
    assert auditor.check(wordless, DIALOGS, shuffled=False, prompt=WISH).effects["edit"].replies


def test_controls_use_the_words_of_the_goal(target: Any, auditor: Auditor) -> None:
    words = {"prompt": "Talk gladly.", "contrast": "Talk sadly."}
    edit = auditor.edit([("Who?", "Glad.")], DIALOGS, layers=[1], steps=1, **words)
    assert (edit.origin.goal, edit.origin.settings["contrast"]) == ("Talk gladly.", "Talk sadly.")
    assert edit.origin.settings["pairs"] == [["Who?", "Glad."]]
    checked = check_edit(edit, target, DIALOGS, max_new_tokens=2)
    sizes = change_sizes(edit, capture_residuals(target, DIALOGS, edit.layers))
    caa = caa_edit(edit, sizes, target, "Talk gladly.", DIALOGS, "Talk sadly.")
    assert checked.effects["caa"].replies == replies(target, DIALOGS, 2, caa.fwd_hooks)
    edited = checked.effects["edit"]
    assert edited == measure_effect(target, DIALOGS, "Talk gladly.", edited.replies)


def test_a_check_is_kept_with_the_edit(target: Any, edit: ActivationEdit, tmp_path: Path) -> None:
    measured = replace(edit, origin=replace(edit.origin, metrics={"kl": 0.5}))
    checked = check_edit(measured, target, DIALOGS, max_new_tokens=2)
    noted = checked.noted(measured)
    assert measured.origin.metrics == {"kl": 0.5}  # the given one stays as it is
    loaded = ActivationEdit.load(noted.save(tmp_path)).origin.metrics
    assert loaded == json.loads(json.dumps(noted.origin.metrics)) and loaded["kl"] == 0.5
    assert loaded["check"]["verdict"] == checked.verdict and loaded["check"]["lift"] == checked.lift
    assert set(loaded["check"]["effects"]) == {*CONDITIONS} - {"shuffled"}
    assert set(loaded["check"]["effects"]["edit"]) == {"wanted", "perplexity"}  # no reply is published
    document = json.loads(json.dumps(checked.to_dict()))
    assert checked.effects["edit"].replies == tuple(document["effects"]["edit"]["replies"])


def test_an_edit_of_weights_has_no_controls_of_equal_size(target: Any, auditor: Auditor) -> None:
    edit = auditor.edit(WISH, DIALOGS[:1], method="weights", layers=[1], steps=2, lr=0.3)
    checked = check_edit(edit, target, DIALOGS, max_new_tokens=3)
    assert tuple(checked.effects) == ("unedited", "edit", "negated", "prompting")
    assert checked.effects["edit"].replies != checked.effects["unedited"].replies
    assert checked.effects["edit"].replies == replies(edit.target, DIALOGS, 3)


def test_what_cannot_be_checked_is_refused(auditor: Auditor, edit: ActivationEdit) -> None:
    with pytest.raises(EditError, match="got 0 dialogs to check the edit in; expected some"):
        auditor.check(edit, [], shuffled=False)
    with pytest.raises(EditError, match="does not say which questions it was made with; leave the control"):
        auditor.check(edit, DIALOGS)
    foreign = replace(edit, origin=replace(edit.origin, fingerprint="another"))
    with pytest.raises(EditError, match="the edit was made for 'tiny'"):
        auditor.check(foreign, DIALOGS, shuffled=False)
    gradient = auditor.edit(WISH, DIALOGS[:1], method="gradient", layers=[1], steps=1)
    with pytest.raises(EditError, match="got 3 dialogs to check the edit in; expected the one whose positions"):
        auditor.check(gradient, DIALOGS, shuffled=False)
    assert n_hooks(auditor.target.model) == 0


def test_an_edit_is_refused_once_and_before_its_control_is_made(auditor: Auditor, monkeypatch: Any) -> None:
    edit = auditor.edit(WISH, DIALOGS, layers=[1], steps=1)
    required, require = [], check.require_checkable
    monkeypatch.setattr(
        check, "shuffled_edit", lambda *_: pytest.fail("the control was made") if not required else edit
    )
    monkeypatch.setattr(check, "require_checkable", lambda *values: required.append(values) or require(*values))
    with pytest.raises(EditError, match="got 0 dialogs"):
        auditor.check(edit, [])
    required.clear()
    assert set(auditor.check(edit, DIALOGS).effects) == set(CONDITIONS) and len(required) == 1


def test_an_edit_of_one_prompt_is_checked_in_that_prompt(auditor: Auditor) -> None:
    edit = auditor.edit(WISH, DIALOGS[:1], method="gradient", layers=[1], steps=1)
    assert set(auditor.check(edit, DIALOGS[:1]).effects) == set(CONDITIONS)
    assert auditor.check(edit, shuffled=False) == auditor.check(edit, DIALOGS[:1], shuffled=False)


def test_what_is_wanted_by_hand(target: Any) -> None:
    replies = ["Fine, thanks.", "", "No"]
    effect = measure_effect(target, DIALOGS, WISH, replies)
    pairs = list(zip(DIALOGS, replies, strict=True))
    plain = [nats(target, dialog, reply)[1] for dialog, reply in pairs]
    prompted = [nats(target, with_system(dialog, WISH), reply)[1] for dialog, reply in pairs]
    each = [
        float(with_prompt.mean() - without.mean()) if len(without) else np.nan
        for without, with_prompt in zip(plain, prompted, strict=True)
    ]
    assert effect.values.tolist() == pytest.approx(each, abs=1e-4, nan_ok=True) and effect.replies == tuple(replies)
    assert effect.wanted == pytest.approx(np.nanmean(each), abs=1e-4)
    json.dumps(effect.each, allow_nan=False)
    assert effect.perplexity == pytest.approx(float(torch.cat(plain).mean().neg().exp()), rel=1e-4)


def test_a_model_speaks_if_most_replies_say_something(target: Any) -> None:
    assert Effect(0.1, 2.0, ("a", "b", ""), (0.1, 0.1, None)).speaks
    assert not Effect(0.1, 2.0, ("a", ""), (0.1, None)).speaks
    silent = measure_effect(target, DIALOGS, WISH, [""] * 3)
    assert (silent.wanted, silent.perplexity, silent.each) == (None, 1.0, (None,) * 3) and not silent.speaks
