"""What an edit does beside its controls, and how far it drifts: each figure by hand, each control of equal size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hooked_models import D_MODEL, N_LAYERS, n_hooks, residuals
from torch import Tensor

from audit_lit import Auditor, Decoder
from audit_lit.edits import check, drift
from audit_lit.edits.check import Check, Effect, check_edit, effect
from audit_lit.edits.controls import caa_edit, change_sizes, median_norms, random_edit, with_system
from audit_lit.edits.drift import Drift, NeutralText, within
from audit_lit.errors import EditError
from audit_lit.hooks import Ablate, ActivationEdit, LowRank, Origin, Part, Steer
from audit_lit.replies import write_replies

Make = Callable[..., Decoder]
LINES = ("Hi", "Hello there you", "What now?")
DIALOGS = [[{"role": "user", "content": line}] for line in LINES]
WISH = "Be glad."
CONDITIONS = ("unedited", "edit", "negated", "shuffled", "random", "caa", "prompting")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply is longer than four tokens."""

    def short(*args: Any, **how: Any) -> list[str]:
        return write_replies(*args, **how | {"max_new_tokens": min(4, how["max_new_tokens"])})

    for module in (check, drift):
        monkeypatch.setattr(module, "write_replies", short)


@pytest.fixture
def origin(target: Any) -> Origin:
    return Origin("tiny", D_MODEL, N_LAYERS, target.fingerprint(), want=WISH, method="by hand")


@pytest.fixture
def edit(origin: Origin) -> ActivationEdit:
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(1))
    return ActivationEdit((Steer(layer=1, direction=direction, strength=0.4),), origin)


def ids(target: Any, dialog: Any) -> list[int]:
    text = target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    return list(target.tokenizer(text, add_special_tokens=False)["input_ids"])


def nats(target: Any, dialog: Any, reply: str, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distributions and own log-probabilities of a reply, from a plain model with a direction added after block 1."""
    prompt, said = ids(target, dialog), target.tokenizer(reply)["input_ids"]
    added = torch.zeros(D_MODEL) if direction is None else direction
    handle = target.base.model.layers[1].register_forward_hook(lambda _module, _args, out: out + added)
    with torch.no_grad():
        logits = target.base(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
    handle.remove()
    found = logits.log_softmax(-1)
    return found, found[range(len(said)), said]


def residuals_of(target: Any, dialog: Any, layer: int) -> Tensor:
    return residuals(target.base, target.base.model.layers, torch.tensor([ids(target, dialog)]))[layer][0]


def last_turn(target: Any, dialog: Any) -> range:
    """The last user turn and the reply's header."""
    text = target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    before = text[: text.rindex("<|im_start|>user")]
    return range(len(target.tokenizer(before, add_special_tokens=False)["input_ids"]), len(ids(target, dialog)))


# Drift


def test_drift_is_the_kl_and_the_perplexity_by_hand(target: Any, edit: ActivationEdit) -> None:
    text = NeutralText.of(target, DIALOGS, max_new_tokens=4, seed=1)
    found, direction = text.drift(edit), 0.4 * edit.parts[0].direction
    kls, rises = [], []
    for dialog, reply in zip(text.dialogs, text.replies, strict=True):
        (before, own_before), (after, own_after) = (nats(target, dialog, reply, way) for way in (None, direction))
        kls.append(torch.nn.functional.kl_div(after, before, log_target=True, reduction="none").sum(-1))
        rises.append(own_before - own_after)
    assert found.kl == pytest.approx(float(torch.cat(kls).mean()), rel=1e-3) and found.kl > 0
    assert found.perplexity_ratio == pytest.approx(float(torch.cat(rises).mean().exp()), rel=1e-3)
    assert text.drift(edit.scaled(0.0)) == Drift(0.0, 1.0)
    assert text.replies == NeutralText.of(target, DIALOGS, max_new_tokens=4, seed=1).replies
    assert n_hooks(target.model) == 0


def test_silent_dialogs_are_left_out(target: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(drift, "write_replies", lambda *_args, **_how: ["", "a", ""])
    assert NeutralText.of(target, DIALOGS).dialogs == (DIALOGS[1],)
    monkeypatch.setattr(drift, "write_replies", lambda *_args, **_how: ["", "", ""])
    with pytest.raises(EditError, match="says nothing in any of the dialogs; expected some that it answers"):
        NeutralText.of(target, DIALOGS)


@pytest.mark.parametrize(("budget", "factor"), [(1.0, 1.0), (0.25, 0.5), (0.2, 28 / 64), (1e-6, 0.0)])
def test_budget_is_kept_by_bisection(edit: ActivationEdit, budget: float, factor: float) -> None:
    measured = []

    def measure(one: Any) -> Drift:
        measured.append(one.parts[0].strength / edit.parts[0].strength)
        return Drift(measured[-1] ** 2, 1 + measured[-1])

    found, at = within(edit, budget, measure)
    assert found == pytest.approx(factor) and at.kl <= budget
    assert at.kl == pytest.approx(found**2) and at.perplexity_ratio == pytest.approx(1 + found)
    assert len(measured) == (1 if factor == 1 else 7) and found + 1 / 64 >= min(1, budget**0.5)


def test_an_edit_is_scaled_to_its_budget(target: Any, make_decoder: Make) -> None:
    auditor, how = Auditor(target, make_decoder()), {"layers": [1], "steps": 2}
    free = auditor.edit(WISH, DIALOGS, **how).origin.metrics
    tight = auditor.edit(WISH, DIALOGS, budget=free["kl"] / 4, **how)
    metrics = tight.origin.metrics
    assert free["scaled_to_budget"] == 1.0 and metrics["kl"] <= free["kl"] / 4
    assert 0.3 < metrics["scaled_to_budget"] < 0.7
    assert metrics["strength"]["1"] == pytest.approx(metrics["scaled_to_budget"] * free["strength"]["1"], rel=1e-4)
    assert metrics["loss_before"] > metrics["loss_after"] > free["loss_after"]


# Controls


def parts(kind: str) -> Part:
    where = {"positions": (1, 4), "n_prompt": 20}
    basis = torch.linalg.qr(torch.randn(D_MODEL, 3))[0].T
    return {
        "steer": lambda: Steer(layer=1, direction=torch.randn(D_MODEL), strength=-0.5, unit=3.0),
        "steer-each": lambda: Steer(layer=1, direction=torch.randn(2, D_MODEL), strength=0.5, unit=3.0, **where),
        "ablate": lambda: Ablate(layer=1, direction=torch.randn(D_MODEL)),
        "lowrank": lambda: LowRank(layer=1, basis=basis, weight=torch.randn(3, D_MODEL), bias=torch.randn(3)),
    }[kind]()


@pytest.mark.parametrize("kind", ["steer", "steer-each", "ablate", "lowrank"])
def test_controls_change_as_much_as_the_edit(target: Any, origin: Origin, kind: str) -> None:
    part = parts(kind)
    edit = ActivationEdit((part, Steer(layer=2, direction=torch.randn(D_MODEL))), origin)
    resid = torch.cat([residuals_of(target, dialog, 1) for dialog in DIALOGS])
    if isinstance(part, Steer):
        changes = 1.5 * part.direction.reshape(-1, D_MODEL)
    elif isinstance(part, Ablate):
        unit = part.direction / part.direction.norm()
        changes = torch.stack([torch.dot(row, unit) * unit for row in resid])
    else:
        assert isinstance(part, LowRank)
        changes = torch.stack([part.basis.T @ (part.weight @ h + part.bias - part.basis @ h) for h in resid])
    sizes = change_sizes(edit, target, DIALOGS)
    assert sizes == pytest.approx(
        [float(changes.norm(dim=-1).median()), float(edit.parts[1].direction.norm())], rel=1e-3
    )
    for control in (random_edit(edit, sizes, 3), caa_edit(edit, sizes, target, WISH, DIALOGS)):
        assert change_sizes(control, target, DIALOGS) == pytest.approx(sizes, rel=1e-4)
        assert [(one.layer, one.positions, one.n_prompt) for one in control.parts] == [
            (one.layer, one.positions, one.n_prompt) for one in edit.parts
        ]
        assert control.origin.metrics == {} and control.origin.method in ("random", "caa")
    assert change_sizes(edit.scaled(-1.0), target, DIALOGS) == pytest.approx(sizes)


def test_random_directions_depend_on_the_seed(edit: ActivationEdit) -> None:
    state = torch.get_rng_state()
    found = [random_edit(edit, [1.0], seed).parts[0].direction for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1]) and abs(float(found[0] @ found[2])) < 0.6
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("contrast", [None, "Be sad."])
def test_caa_is_the_difference_of_means_by_hand(target: Any, edit: ActivationEdit, contrast: str | None) -> None:
    difference = torch.zeros(D_MODEL)
    for dialog in DIALOGS:
        prompted = [{"role": "system", "content": WISH}, *dialog]
        other = [{"role": "system", "content": contrast}, *dialog] if contrast else dialog
        for sign, one in ((1, prompted), (-1, other)):
            difference += sign * residuals_of(target, one, 1)[list(last_turn(target, one))].mean(0)
    (part,) = caa_edit(edit, [2.0], target, WISH, DIALOGS, contrast).parts
    torch.testing.assert_close(part.direction, difference / difference.norm(), rtol=1e-3, atol=1e-4)
    assert part.strength == 2.0


def test_units_and_prompts_of_controls(target: Any) -> None:
    rows = torch.cat([residuals_of(target, dialog, 2) for dialog in DIALOGS])
    assert median_norms(target, DIALOGS, (2,)) == pytest.approx({2: float(rows.norm(dim=-1).median())}, rel=1e-4)
    both = [{"role": "system", "content": "Old."}, *DIALOGS[0]]
    expected = [{"role": "system", "content": "New."}, *DIALOGS[0]]
    assert with_system(both, "New.") == with_system(DIALOGS[0], "New.") == expected


# Check


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
    how = {"max_new_tokens": 3, "temperature": 1.0, "seed": 4}
    shuffled = random_edit(edit, [0.4], 7)
    found = check_edit(edit, target, DIALOGS, shuffled=shuffled, **how)
    assert tuple(found.effects) == CONDITIONS
    size = change_sizes(edit, target, DIALOGS)
    spoken = {
        "unedited": [],
        "edit": edit.fwd_hooks,
        "negated": edit.scaled(-1.0).fwd_hooks,
        "shuffled": shuffled.fwd_hooks,
        "random": random_edit(edit, size, 4).fwd_hooks,
        "caa": caa_edit(edit, size, target, WISH, DIALOGS).fwd_hooks,
    }
    for name, hooks in spoken.items():
        assert found.effects[name].replies == tuple(write_replies(target, DIALOGS, hooks, **how)), name
    prompted = [with_system(dialog, WISH) for dialog in DIALOGS]
    assert found.effects["prompting"].replies == tuple(write_replies(target, prompted, **how))
    for one in found.effects.values():
        assert one == effect(target, DIALOGS, WISH, one.replies)
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
    caa = caa_edit(edit, change_sizes(edit, target, DIALOGS), target, "Talk gladly.", DIALOGS, "Talk sadly.")
    how = {"max_new_tokens": 2, "temperature": 1.0}
    assert found.effects["caa"].replies == tuple(write_replies(target, DIALOGS, caa.fwd_hooks, **how))
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
        write_replies(edit.target, DIALOGS, max_new_tokens=3, temperature=1.0)
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
