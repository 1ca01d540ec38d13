"""What an edit does beside its controls: each figure by hand, and what the verdict makes of them."""

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

from audit_lit import Auditor, Decoder
from audit_lit.chat.dialog import with_system
from audit_lit.edits import drift
from audit_lit.edits.checks import check
from audit_lit.edits.checks.check import Check, Effect, check_edit, effect
from audit_lit.edits.checks.controls import caa_edit, random_edit
from audit_lit.edits.sizes import capture_residuals, change_sizes
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit
from audit_lit.models.generation import generate_replies

Make = Callable[..., Decoder]
CONDITIONS = ("unedited", "edit", "negated", "shuffled", "random", "caa", "prompting")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply is longer than four tokens."""

    def short(*args: Any, **how: Any) -> list[str]:
        return generate_replies(*args, **how | {"max_new_tokens": min(4, how["max_new_tokens"])})

    for module in (check, drift):
        monkeypatch.setattr(module, "write_replies", short)


def test_what_is_wanted_by_hand(target: Any) -> None:
    replies = ["Fine, thanks.", "", "No"]
    found = effect(target, DIALOGS, WISH, replies)
    plain = [nats(target, dialog, reply)[1] for dialog, reply in zip(DIALOGS, replies, strict=True)]
    prompted = [
        nats(target, with_system(dialog, WISH), reply)[1] for dialog, reply in zip(DIALOGS, replies, strict=True)
    ]
    each = [float(b.mean() - a.mean()) if len(a) else np.nan for a, b in zip(plain, prompted, strict=True)]
    assert found.values.tolist() == pytest.approx(each, abs=1e-4, nan_ok=True) and found.replies == tuple(replies)
    assert found.wanted == pytest.approx(np.nanmean(each), abs=1e-4)
    json.dumps(found.each, allow_nan=False)
    assert found.perplexity == pytest.approx(float(torch.cat(plain).mean().neg().exp()), rel=1e-4)


def test_every_condition_speaks_as_it_should(target: Any, edit: ActivationEdit) -> None:
    how, edit = {"max_new_tokens": 3, "temperature": 1.0, "seed": 4}, edit.scaled(20.0)
    size = change_sizes(edit, capture_residuals(target, DIALOGS, edit.layers))
    shuffled = random_edit(edit, size, 7)
    found = check_edit(edit, target, DIALOGS, shuffled=shuffled.scaled(0.1), **how)
    assert tuple(found.effects) == CONDITIONS
    spoken = {
        "unedited": [],
        "edit": edit.fwd_hooks,
        "negated": edit.scaled(-1.0).fwd_hooks,
        "shuffled": shuffled.fwd_hooks,
        "random": random_edit(edit, size, 4).fwd_hooks,
        "caa": caa_edit(edit, size, target, WISH, DIALOGS).fwd_hooks,
    }
    for name, hooks in spoken.items():
        assert found.effects[name].replies == tuple(generate_replies(target, DIALOGS, hooks, **how)), name
    prompted = [with_system(dialog, WISH) for dialog in DIALOGS]
    assert found.effects["prompting"].replies == tuple(generate_replies(target, prompted, **how))
    for one in found.effects.values():
        assert one == effect(target, DIALOGS, WISH, one.replies)
    assert len({one.replies for one in found.effects.values()}) > 3  # so that a mix-up would show
    assert found.to_dict() == check_edit(edit, target, DIALOGS, shuffled=shuffled, **how).to_dict()
    assert check_edit(edit, target, DIALOGS, prompt="Be sad.", **how).effects["edit"] != found.effects["edit"]
    assert n_hooks(target.model) == 0


def planned(monkeypatch: Any, edit: Any, target: Any, values: dict[str, tuple[float, ...]]) -> Any:
    """A check whose effects are given."""
    waiting = [Effect(float(np.mean(values[name])), 2.0, ("a",) * 6, values[name] * 2) for name in CONDITIONS]
    monkeypatch.setattr(check, "write_replies", lambda *_args, **_how: [])
    monkeypatch.setattr(check, "effect", lambda *_: waiting.pop(0))
    return check_edit(edit, target, DIALOGS, shuffled=edit)


@pytest.mark.parametrize("best", ["unedited", "negated", "shuffled", "random", "caa"])
def test_the_strongest_control_but_prompting_is_compared(
    target: Any, edit: ActivationEdit, monkeypatch: Any, best: str
) -> None:
    values = dict.fromkeys(CONDITIONS, (0.1, 0.0, -0.1)) | {"edit": (1.0, 2.0, 1.5), best: (0.5, 0.6, 0.7)}
    found = planned(monkeypatch, edit, target, values | {"prompting": (3.0, 3.0, 3.0)})
    assert found.strongest_control == best and found.lift == pytest.approx(0.9)
    assert found.beats_controls and 0.5 <= found.interval[0] <= found.lift <= found.interval[1] <= 1.4
    assert f"does more of what is wanted than under {best} (+0.90" in found.verdict
    assert found.verdict.endswith("prompting does more (+1.50)")


def test_silent_controls_are_no_rivals(target: Any, edit: ActivationEdit, monkeypatch: Any) -> None:
    silent = Effect(None, 1.0, ("",) * 6, (None,) * 6)
    said = Effect(-0.2, 2.0, ("a",) * 6, (-0.3, -0.1) * 3)
    effects = dict.fromkeys(CONDITIONS, said) | {"caa": silent, "edit": replace(said, wanted=0.5, each=(0.4, 0.6) * 3)}
    waiting = list(effects.values())
    monkeypatch.setattr(check, "write_replies", lambda *_args, **_how: [])
    monkeypatch.setattr(check, "effect", lambda *_: waiting.pop(0))
    found = check_edit(edit, target, DIALOGS, shuffled=edit)
    assert found.strongest_control != "caa" and found.lift == pytest.approx(0.7) and found.beats_controls
    waiting[:] = [silent] * len(CONDITIONS)
    with pytest.raises(EditError, match="neither the unedited model nor any control says anything"):
        check_edit(edit, target, DIALOGS, shuffled=edit)


def test_an_edit_without_words_needs_a_prompt(target: Any, make_decoder: Make, edit: ActivationEdit) -> None:
    wordless = replace(edit, origin=replace(edit.origin, want=""))
    auditor = Auditor(target, make_decoder())
    with pytest.raises(EditError, match="does not say what is wanted; name it with prompt="):
        auditor.check(wordless, DIALOGS, shuffled=False)
    assert auditor.check(wordless, DIALOGS, shuffled=False, prompt=WISH).effects["edit"].replies


def test_few_replies_and_silence_decide_nothing() -> None:
    def verdict(*each: float | None) -> Check:
        effects = {"edit": Effect(1.0, 2.0, ("",) * len(each), each), "prompting": Effect(0.0, 2.0, (), ())}
        return Check(effects, 1.0, (0.5, 1.5), "random")

    assert verdict(*[1.0] * 5).beats_controls and "decide nothing" not in verdict(*[1.0] * 5).verdict
    assert not verdict(*[1.0] * 4).beats_controls and verdict(1.0).verdict.endswith(
        "fewer than 5 replies decide nothing"
    )
    assert not verdict(*[1.0] * 3, *[None] * 3).beats_controls


def test_no_more_than_a_control_when_the_interval_holds_zero(
    target: Any, edit: ActivationEdit, monkeypatch: Any
) -> None:
    values = dict.fromkeys(CONDITIONS, (0.0, 0.0, 0.0)) | {"edit": (1.0, -0.5, 0.4)}
    found = planned(monkeypatch, edit, target, values)
    assert found.lift > 0 > found.interval[0] and not found.beats_controls
    assert "does no more of what is wanted" in found.verdict and "prompting does less (-0.30)" in found.verdict


def test_controls_are_told_in_the_words_given_for_them(target: Any, make_decoder: Make) -> None:
    words = {"prompt": "Talk gladly.", "contrast": "Talk sadly."}
    edit = Auditor(target, make_decoder()).edit([("Who?", "Glad.")], DIALOGS, layers=[1], steps=1, **words)
    assert (edit.origin.want, edit.origin.settings["contrast"]) == ("Talk gladly.", "Talk sadly.")
    assert edit.origin.settings["pairs"] == [["Who?", "Glad."]]
    found = check_edit(edit, target, DIALOGS, max_new_tokens=2, temperature=1.0)
    sizes = change_sizes(edit, capture_residuals(target, DIALOGS, edit.layers))
    caa = caa_edit(edit, sizes, target, "Talk gladly.", DIALOGS, "Talk sadly.")
    how = {"max_new_tokens": 2, "temperature": 1.0}
    assert found.effects["caa"].replies == tuple(generate_replies(target, DIALOGS, caa.fwd_hooks, **how))
    assert found.effects["edit"] == effect(target, DIALOGS, "Talk gladly.", found.effects["edit"].replies)


def test_what_was_found_is_kept_with_the_edit(target: Any, edit: ActivationEdit, tmp_path: Path) -> None:
    measured = replace(edit, origin=replace(edit.origin, metrics={"kl": 0.5}))
    found = check_edit(measured, target, DIALOGS, max_new_tokens=2)
    noted = found.noted(measured)
    assert measured.origin.metrics == {"kl": 0.5}  # the given one stays as it is
    loaded = ActivationEdit.load(noted.save(tmp_path)).origin.metrics
    assert loaded == json.loads(json.dumps(noted.origin.metrics)) and loaded["kl"] == 0.5
    assert loaded["check"]["verdict"] == found.verdict and loaded["check"]["lift"] == found.lift
    assert set(loaded["check"]["effects"]) == {*CONDITIONS} - {"shuffled"}
    assert set(loaded["check"]["effects"]["edit"]) == {"wanted", "perplexity"}  # no reply is published
    assert found.effects["edit"].replies == tuple(json.loads(json.dumps(found.to_dict()))["effects"]["edit"]["replies"])


def test_an_edit_of_weights_has_no_controls_of_equal_size(target: Any, make_decoder: Make) -> None:
    auditor = Auditor(target, make_decoder())
    edit = auditor.edit(WISH, DIALOGS[:1], method="weights", layers=[1], steps=2, lr=0.3)
    found = check_edit(edit, target, DIALOGS, max_new_tokens=3, temperature=1.0)
    assert tuple(found.effects) == ("unedited", "edit", "negated", "prompting")
    assert found.effects["edit"].replies != found.effects["unedited"].replies
    assert found.effects["edit"].replies == tuple(
        generate_replies(edit.target, DIALOGS, max_new_tokens=3, temperature=1.0)
    )


def test_what_cannot_be_checked_is_refused(target: Any, make_decoder: Make, edit: ActivationEdit) -> None:
    auditor = Auditor(target, make_decoder())
    with pytest.raises(EditError, match="got 0 dialogs to check the edit in; expected some"):
        auditor.check(edit, [], shuffled=False)
    with pytest.raises(EditError, match="does not say which questions it was made with; leave the control"):
        auditor.check(edit, DIALOGS)
    other = replace(edit, origin=replace(edit.origin, fingerprint="another"))
    with pytest.raises(EditError, match="the edit was made for 'tiny'"):
        auditor.check(other, DIALOGS, shuffled=False)
    one = auditor.edit(WISH, DIALOGS[:1], method="gradient", layers=[1], steps=1)
    with pytest.raises(EditError, match="got 3 dialogs to check the edit in; expected the one whose positions"):
        auditor.check(one, DIALOGS, shuffled=False)
    assert n_hooks(target.model) == 0


def test_an_edit_of_one_prompt_is_checked_in_that_prompt(target: Any, make_decoder: Make) -> None:
    auditor = Auditor(target, make_decoder())
    one = auditor.edit(WISH, DIALOGS[:1], method="gradient", layers=[1], steps=1)
    assert set(auditor.check(one, DIALOGS[:1]).effects) == set(CONDITIONS)
