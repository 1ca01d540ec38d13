"""Making an edit: its layers, its budget, what its origin says, the unit of strength, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.edits import DIALOGS, WISH, resid_by_hand
from helpers.hooked_models import D_MODEL, n_hooks

from audit_lit import Auditor, Decoder
from audit_lit.edits.make import capture_residuals, median_norms
from audit_lit.errors import DialogError, EditError

Make = Callable[..., Decoder]

BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"strength": float("nan")}, "strength: .*finite"),
    ({"strength": float("inf")}, "strength: .*finite"),
    ({"strength": 0}, "strength: .*greater than 0"),
    ({"strength": -0.1}, "strength: .*greater than 0"),
    ({"lr": float("nan")}, "lr: .*finite"),
    ({"budget": -1}, "budget: .*greater than 0"),
    ({"budget": float("nan")}, "budget: .*finite"),
    ({"steps": 0}, "steps: .*greater than or equal to 1"),
    ({"rank": 0}, "rank: .*greater than or equal to 1"),
    ({"seed": -1}, "seed: .*greater than or equal to 0"),
    ({"method": "vectr"}, "method: .*'vector', 'gradient', 'lowrank' or 'weights'"),
    ({"strenght": 0.1}, "unknown key 'strenght', did you mean 'strength'"),
    ({"quux": 1}, "unknown key 'quux'; expected some of method, layers, strength"),
    ({"layers": [3]}, r"layer 3 comes after layer 2, the last that the decoder reads.*choose among 0-2"),
    ({"layers": [4]}, r"layers \[4\] must name some of 0-3"),
    ({"layers": [-1]}, r"layers \[-1\] must name some of 0-3"),
    ({"layers": []}, r"layers \[\] must name some of 0-3"),
    ({"layers": 1.5}, "layers"),
    ({"local": True, "method": "weights", "layers": [2]}, "one loss for all its layers; leave local out"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_settings_out_of_range_are_refused(auditor: Auditor, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EditError, match=message):
        auditor.edit(WISH, DIALOGS, **{"steps": 1, **settings})
    assert n_hooks(auditor.target.model) == 0


def test_dialogs_that_cannot_be_read_are_refused(auditor: Auditor) -> None:
    with pytest.raises(EditError, match="there are no dialogs"):
        auditor.edit(WISH, [], steps=1)
    with pytest.raises(DialogError, match="has role 'robot'"):
        auditor.edit(WISH, [[{"role": "robot", "content": "Hi"}]], steps=1)
    with pytest.raises(DialogError, match="target's context holds 1024"):
        auditor.edit(WISH, [[{"role": "user", "content": "word " * 300}]], steps=1)
    assert n_hooks(auditor.target.model) == 0


def test_the_layer_is_two_thirds_of_the_way_to_the_one_that_is_read(target: Any, make_decoder: Make) -> None:
    for read_layer, layer in ((1, 1), (2, 1), (3, 2)):
        edit = Auditor(target, make_decoder(read_layers=(read_layer,))).edit(WISH, DIALOGS[:1], steps=1)
        assert edit.layers == (layer,)


def test_what_is_revealed_decides_what_the_decoder_reads(auditor: Auditor) -> None:
    user, last = (auditor.edit(WISH, DIALOGS, steps=1, reveal=reveal) for reveal in ("user", "last:2"))
    assert user.origin.metrics["loss_before"] != last.origin.metrics["loss_before"]


def test_an_edit_is_scaled_to_its_budget(auditor: Auditor) -> None:
    settings: dict[str, Any] = {"layers": [1], "steps": 2}
    free = auditor.edit(WISH, DIALOGS, **settings).origin.metrics
    tight = auditor.edit(WISH, DIALOGS, budget=free["kl"] / 4, **settings).origin.metrics
    assert free["scaled_to_budget"] == 1.0 and tight["kl"] <= free["kl"] / 4
    assert 0.3 < tight["scaled_to_budget"] < 0.7
    assert tight["strength"]["1"] == pytest.approx(tight["scaled_to_budget"] * free["strength"]["1"], rel=1e-4)
    assert tight["loss_before"] > tight["loss_after"] > free["loss_after"]


@pytest.mark.parametrize("method", ["vector", "gradient", "lowrank", "weights"])
def test_origin_says_what_decided_it(auditor: Auditor, target: Any, method: str) -> None:
    dialogs = DIALOGS[:1] if method == "gradient" else DIALOGS
    origin = auditor.edit(WISH, dialogs, method=method, layers=[1], steps=4, seed=2).origin
    assert (origin.target, origin.d_model, origin.n_layers) == (target.name, D_MODEL, 4)
    assert (origin.fingerprint, origin.goal, origin.method) == (target.fingerprint(), WISH, method)
    assert {"layers": [1], "steps": 4, "seed": 2, "decoder": "tiny"}.items() <= origin.settings.items()
    assert len(origin.settings["dialogs"]) == len(dialogs)
    assert json.loads(json.dumps(origin.settings))["pairs"][0][1] == WISH


def test_the_unit_is_the_median_norm_over_all_tokens(target: Any) -> None:
    norms = {
        layer: torch.cat([resid_by_hand(target, dialog, layer) for dialog in DIALOGS]).norm(dim=-1) for layer in (0, 2)
    }
    expected = {layer: float(rows.median()) for layer, rows in norms.items()}
    assert median_norms(capture_residuals(target, DIALOGS, (0, 2))) == pytest.approx(expected, rel=1e-4)
