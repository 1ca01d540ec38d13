"""The ways to make an edit: what each lowers, its bounds, its seed, what it leaves alone; weights' own files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hooked_models import D_MODEL, n_hooks

from audit_lit import Auditor, Decoder, load_target
from audit_lit.chat.rendering import render
from audit_lit.edits import drift
from audit_lit.edits.goal import Goal
from audit_lit.edits.objective import Objective
from audit_lit.edits.sizes import capture_residuals, median_norms
from audit_lit.edits.weights import WeightEdit, edited_target, load_edit
from audit_lit.errors import EditError, HubError
from audit_lit.hooks import ActivationEdit, LowRank, Steer, capture
from audit_lit.models.generation import generate_replies

Make = Callable[..., Decoder]
WISH = "Be glad."
DIALOGS = [[{"role": "user", "content": line}] for line in ("Hi", "Hello there you", "What now?")]
METHODS = ("vector", "gradient", "lowrank", "weights")
OWN: dict[str, dict[str, Any]] = {"weights": {"lr": 1e-2}, "gradient": {"strength": 0.5}}
LAYERS = {"read_layers": (3, 1), "layer_choice": "one", "write": "project"}
on_every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure drift on short replies."""
    monkeypatch.setattr(
        drift, "write_replies", lambda *args, **how: generate_replies(*args, **how | {"max_new_tokens": 4})
    )


@pytest.fixture
def auditor(target: Any, make_decoder: Make) -> Auditor:
    return Auditor(target, make_decoder())


def made(auditor: Auditor, method: str = "vector", **settings: Any) -> Any:
    few = {"layers": [1], "steps": 4, **OWN.get(method, {}), **settings}
    return auditor.edit(WISH, DIALOGS[:1] if method == "gradient" else DIALOGS, method=method, **few)


def loss(auditor: Auditor, edit: Any, n_dialogs: int = 3) -> float:
    target, hooks = edited_target(auditor.target, edit)
    want = Goal(WISH, tuple(map(tuple, edit.origin.settings["pairs"])))
    return Objective.of(target, auditor.decoder, DIALOGS[:n_dialogs], want).value(hooks)


def tensors(edit: Any) -> list[torch.Tensor]:
    if isinstance(edit, WeightEdit):
        return [value.detach() for name, value in edit.adapter.named_parameters() if "lora_" in name]
    return [value for part in edit.parts for value in (*part.tensors().values(), torch.tensor(part.strength))]


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


@torch.no_grad()
def logits(target: Any, edit: Any = None, dialog: Any = DIALOGS[1]) -> torch.Tensor:
    tokens = torch.tensor([render(dialog, target.tokenizer).token_ids])
    model, hooks = edited_target(target, edit) if edit is not None else (target, [])
    with model.model.hooks(fwd_hooks=hooks):
        return model.model(tokens, attention_mask=torch.ones_like(tokens))


@on_every_method
@pytest.mark.parametrize("layers", [[1], [0, 2]])
def test_loss_falls_along_the_edit_and_not_against_it(auditor: Auditor, method: str, layers: list[int]) -> None:
    edit, n = made(auditor, method, layers=layers, steps=8), 1 if method == "gradient" else 3
    metrics = edit.origin.metrics
    before, along, against = (
        loss(auditor, edit.scaled(0.0), n),
        loss(auditor, edit, n),
        loss(auditor, edit.scaled(-1.0), n),
    )
    assert (metrics["loss_before"], metrics["loss_after"]) == pytest.approx((before, along), abs=1e-5)
    assert along < before - 0.005 and along < against - 0.005
    if method in ("vector", "gradient"):
        assert against > before
    assert n_hooks(auditor.target.model) == 0
    if method != "weights":
        assert list(edit.layers) == layers


@on_every_method
def test_same_seed_same_edit_and_the_random_state_is_left_alone(auditor: Auditor, method: str) -> None:
    edits = []
    for seed in (3, 3, 4):
        torch.rand(1)
        state = torch.get_rng_state()
        edits.append(made(auditor, method, seed=seed, batch_size=1, steps=3))
        assert torch.equal(torch.get_rng_state(), state)
    assert same(edits[0], edits[1])
    assert json.dumps(edits[0].origin.metrics) == json.dumps(edits[1].origin.metrics)
    assert method == "gradient" or not same(edits[0], edits[2])


@pytest.mark.parametrize(("layers", "lr"), [([1], 0.15), ([0, 2], 100.0)])
def test_changes_stay_within_the_strength_that_layers_share(auditor: Auditor, layers: list[int], lr: float) -> None:
    bound = 0.3 / len(layers) ** 0.5
    units = median_norms(capture_residuals(auditor.target, DIALOGS, layers))
    vector = made(auditor, layers=layers, lr=lr, strength=0.3)
    for part in vector.parts:
        assert isinstance(part, Steer) and float(part.direction.norm()) == pytest.approx(1, abs=1e-5)
        assert 0 < part.strength <= bound * (1 + 1e-5) and part.unit == pytest.approx(units[part.layer])
        assert lr < 1 or part.strength == pytest.approx(bound)
        assert vector.origin.metrics["strength"][str(part.layer)] == pytest.approx(part.strength, rel=1e-4)
    for part in made(auditor, "gradient", layers=layers, lr=lr, strength=0.3).parts:
        norms = part.direction.norm(dim=-1)
        assert float(norms.max()) <= bound * (1 + 1e-5) and float(norms.min()) > 0
    for part in made(auditor, "lowrank", layers=layers, lr=lr, strength=0.3, rank=2).parts:
        assert isinstance(part, LowRank) and part.basis.shape == (2, D_MODEL)
        torch.testing.assert_close(part.basis @ part.basis.T, torch.eye(2), rtol=0, atol=1e-5)
        turned, unit = torch.linalg.matrix_norm(part.weight - part.basis, 2), units[part.layer]
        assert 0 < float(turned * unit + part.bias.norm()) <= bound * unit * (1 + 1e-4)  # of a residual of median norm


def test_more_strength_lowers_the_loss_further(auditor: Auditor) -> None:
    weak, strong = (made(auditor, strength=strength, steps=8).origin.metrics for strength in (0.1, 0.5))
    assert strong["loss_after"] < weak["loss_after"] < weak["loss_before"]
    assert strong["kl"] > weak["kl"] > 0


@torch.no_grad()
def test_gradient_changes_the_positions_that_are_read_alone(auditor: Auditor, target: Any) -> None:
    edit = made(auditor, "gradient")
    rendered = render(DIALOGS[0], target.tokenizer)
    (part,) = edit.parts
    assert part.positions == auditor.decoder.config.select(rendered, "user")
    assert part.n_prompt == len(rendered.token_ids) and len(part.positions) < part.n_prompt
    tokens = torch.tensor([rendered.token_ids])
    plain = capture(target.model, tokens, torch.ones_like(tokens), (1,))[1]
    with target.model.hooks(fwd_hooks=edit.fwd_hooks):
        moved = capture(target.model, tokens, torch.ones_like(tokens), (1,))[1]
    where = (moved - plain).norm(dim=-1)[0].nonzero().flatten().tolist()
    assert tuple(where) == part.positions
    with pytest.raises(EditError, match="one prompt, but got 3 dialogs; make an edit for each"):
        auditor.edit(WISH, DIALOGS, method="gradient", steps=1)


def test_local_losses_need_a_decoder_of_each_layer(target: Any, make_decoder: Make, auditor: Auditor) -> None:
    several = Auditor(target, make_decoder(**LAYERS))
    both = made(several, local=True, layers=[1, 3], strength=0.2 * 2**0.5)  # which they share
    alone = made(several, local=True, layers=[1], strength=0.2)
    assert both.layers == (1, 3) and torch.allclose(both.parts[0].direction, alone.parts[0].direction, atol=1e-5)
    with pytest.raises(EditError, match="there is no local loss at layer 1"):
        made(auditor, local=True)
    assert same(made(auditor, local=True, layers=[2]), made(auditor, layers=[2]))


def test_weights_leave_the_base_as_it_is(auditor: Auditor, target: Any) -> None:
    names = [{name: value.clone() for name, value in one.named_parameters()} for one in (target.base, target.model)]
    before = logits(target)
    edit = made(auditor, "weights", layers=[1])
    assert torch.equal(logits(target), before) and not torch.allclose(logits(target, edit), before, atol=1e-2)
    for one, kept in zip((target.base, target.model), names, strict=True):
        assert {name: torch.equal(value, kept[name]) for name, value in one.named_parameters()} == dict.fromkeys(
            kept, True
        )
    own = {value.data_ptr() for name, value in edit.adapter.named_parameters() if "lora_" not in name}
    assert own == {value.data_ptr() for value in target.base.parameters()}
    touched = {name.split(".layers.")[1][0] for name, _ in edit.adapter.named_parameters() if "lora_" in name}
    assert touched == {"0", "1"}  # all up to the one that is named
    assert torch.equal(logits(target, edit.scaled(0.0)), before)
    assert not torch.allclose(logits(target, edit.scaled(-1.0)), logits(target, edit), atol=1e-2)


@torch.no_grad()
def test_saved_weights_are_an_adapter_of_plain_peft(auditor: Auditor, target: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    from audit_lit.models.loading import share_weights

    edit = made(auditor, "weights")
    assert edit.save(tmp_path) == tmp_path
    tokens = torch.tensor([render(DIALOGS[1], target.tokenizer).token_ids])
    plain = PeftModel.from_pretrained(share_weights(target.base), str(tmp_path))
    torch.testing.assert_close(plain(tokens).logits, logits(target, edit), rtol=1e-4, atol=1e-4)
    state = torch.get_rng_state()
    loaded = load_edit(str(tmp_path), target)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(loaded, WeightEdit) and same(loaded, edit)
    assert json.dumps(loaded.origin.settings) == json.dumps(edit.origin.settings)
    assert loaded.origin.metrics == edit.origin.metrics
    assert torch.equal(logits(target, loaded), logits(target, edit))
    assert same(loaded.scaled(-0.5), edit.scaled(-0.5))


@on_every_method
def test_a_saved_edit_is_loaded_for_its_own_model(auditor: Auditor, target: Any, tmp_path: Path, method: str) -> None:
    from helpers.models import byte_tokenizer, tiny_llama

    edit = made(auditor, method)
    edit.save(tmp_path / "edit")
    assert same(load_edit(str(tmp_path / "edit"), target), edit)
    tiny_llama(seed=5).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(EditError, match=r"the edit was made for .*[Ll]oad that"):
        load_edit(str(tmp_path / "edit"), load_target(str(tmp_path / "other")))


def test_spoiled_adapters_are_refused(auditor: Auditor, target: Any, tmp_path: Path) -> None:
    from safetensors.torch import load, save_file

    edit = made(auditor, "weights")
    whole = edit.save(tmp_path / "whole") / "adapter_model.safetensors"
    content, state = whole.read_bytes(), load(whole.read_bytes())
    first, *rest = state
    spoiled = {
        "holds no complete adapter": lambda: whole.write_bytes(content[: len(content) // 2]),
        "holds tensors that have no place": lambda: save_file(
            {**state, "odd.lora_A.weight": state[first].clone()}, whole
        ),
        "lacks tensors": lambda: save_file({name: state[name] for name in rest}, whole),
    }
    for message, spoil in spoiled.items():
        spoil()
        with pytest.raises(EditError, match=message):
            load_edit(str(tmp_path / "whole"), target)
    whole.write_bytes(content)
    (tmp_path / "whole" / "adapter_config.json").unlink()
    with pytest.raises(EditError, match="holds no complete adapter"):
        load_edit(str(tmp_path / "whole"), target)
    (tmp_path / "whole" / "edit.json").unlink()
    with pytest.raises(EditError, match="holds no complete edit"):
        load_edit(str(tmp_path / "whole"), target)
    with pytest.raises(HubError, match="neither a folder here nor a Hub id"):
        load_edit("nowhere", target)


def test_weights_need_a_plain_model_and_a_finite_factor(auditor: Auditor, target: Any) -> None:
    from dataclasses import replace

    bare = Auditor(replace(target, base=None), auditor.decoder)
    with pytest.raises(EditError, match="needs a target of load_target"):
        made(bare, "weights")
    for method in ("vector", "weights"):
        with pytest.raises(EditError, match="finite"):
            made(auditor, method).scaled(float("nan"))


def test_unwritable_folders_are_refused(auditor: Auditor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for method in ("vector", "weights"):
        with pytest.raises(EditError, match="could not be written"):
            made(auditor, method).save(tmp_path / "file" / "edit")


@on_every_method
def test_origin_says_what_decided_it(auditor: Auditor, target: Any, method: str) -> None:
    origin = made(auditor, method, seed=2).origin
    assert (origin.target, origin.d_model, origin.n_layers) == (target.name, D_MODEL, 4)
    assert (origin.fingerprint, origin.want, origin.method) == (target.fingerprint(), WISH, method)
    assert {"layers": [1], "steps": 4, "seed": 2, "decoder": "tiny"}.items() <= origin.settings.items()
    assert len(origin.settings["dialogs"]) == (1 if method == "gradient" else 3)
    assert json.loads(json.dumps(origin.settings))["pairs"][0][1] == WISH
    assert isinstance(made(auditor), ActivationEdit)


@pytest.mark.parametrize("methods", [("weights", "vector"), ("vector", "weights")])
def test_a_folder_holds_the_edit_that_was_saved_last(
    auditor: Auditor, tmp_path: Path, methods: tuple[str, str]
) -> None:
    for method in methods:
        last = made(auditor, method, steps=1)
        last.save(tmp_path)
    assert isinstance(load_edit(tmp_path, auditor.target), type(last))
    assert (tmp_path / "adapter_model.safetensors").exists() == (methods[-1] == "weights")
    assert (tmp_path / "edit.safetensors").exists() == (methods[-1] == "vector")


@pytest.mark.parametrize("method", ["vector", "weights"])
def test_what_was_measured_at_another_strength_is_dropped(auditor: Auditor, method: str) -> None:
    edit = made(auditor, method, steps=1)
    assert edit.origin.metrics and edit.scaled(0.5).origin.metrics == {}
