"""Edits of the weights, and the files of edits of either kind: what is kept, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.edits import DIALOGS, METHODS, edited_logits, same_edit, tiny_edit
from helpers.models import byte_tokenizer, tiny_llama

from audit_lit import Auditor, load_target
from audit_lit.chat.rendering import render
from audit_lit.edits.weights import WeightEdit, load_edit, load_origin, require_prompt
from audit_lit.errors import EditError, HubError
from audit_lit.hooks import edit_files


def test_weights_leave_the_base_as_it_is(auditor: Auditor, target: Any) -> None:
    models = (target.base, target.model)
    copies = [{name: value.clone() for name, value in model.named_parameters()} for model in models]
    before = edited_logits(target)
    edit = tiny_edit(auditor, "weights", layers=[1])
    assert torch.equal(edited_logits(target), before)
    assert not torch.allclose(edited_logits(target, edit), before, atol=1e-2)
    for model, copy in zip(models, copies, strict=True):
        unchanged = {name: torch.equal(value, copy[name]) for name, value in model.named_parameters()}
        assert unchanged == dict.fromkeys(copy, True)
    shared = {value.data_ptr() for name, value in edit.adapter.named_parameters() if "lora_" not in name}
    assert shared == {value.data_ptr() for value in target.base.parameters()}
    touched = {name.split(".layers.")[1][0] for name, _ in edit.adapter.named_parameters() if "lora_" in name}
    assert touched == {"0", "1"}  # all up to the one that is named
    assert torch.equal(edited_logits(target, edit.scaled(0.0)), before)
    assert not torch.allclose(edited_logits(target, edit.scaled(-1.0)), edited_logits(target, edit), atol=1e-2)


@torch.no_grad()
def test_saved_weights_are_an_adapter_of_plain_peft(auditor: Auditor, target: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    from audit_lit.models.loading import share_weights

    edit = tiny_edit(auditor, "weights")
    assert edit.save(tmp_path) == tmp_path
    tokens = torch.tensor([render(DIALOGS[1], target.tokenizer).token_ids])
    plain = PeftModel.from_pretrained(share_weights(target.base), str(tmp_path))
    torch.testing.assert_close(plain(tokens).logits, edited_logits(target, edit), rtol=1e-4, atol=1e-4)
    state = torch.get_rng_state()
    loaded = load_edit(str(tmp_path), target)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(loaded, WeightEdit) and same_edit(loaded, edit)
    assert json.dumps(loaded.origin.settings) == json.dumps(edit.origin.settings)
    assert loaded.origin.metrics == edit.origin.metrics
    assert torch.equal(edited_logits(target, loaded), edited_logits(target, edit))
    assert same_edit(loaded.scaled(-0.5), edit.scaled(-0.5))


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_edit_is_loaded_for_its_own_model(auditor: Auditor, target: Any, tmp_path: Path, method: str) -> None:
    edit = tiny_edit(auditor, method)
    edit.save(tmp_path / "edit")
    assert same_edit(load_edit(str(tmp_path / "edit"), target), edit)
    assert load_origin(str(tmp_path / "edit")) == edit.origin
    tiny_llama(seed=5).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(EditError, match=r"the edit was made for .*[Ll]oad that"):
        load_edit(str(tmp_path / "edit"), load_target(str(tmp_path / "other")))


@pytest.mark.parametrize("method", ["vector", "weights"])
def test_loading_reads_each_file_once(
    auditor: Auditor, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_edit(auditor, method, steps=1).save(tmp_path)
    read_text, names = Path.read_text, []

    def note(path: Path, *args: Any, **settings: Any) -> str:
        names.append(path.name)
        return read_text(path, *args, **settings)

    monkeypatch.setattr(Path, "read_text", note)
    load_edit(tmp_path, auditor.target)
    assert names.count(edit_files.DATA) == 1


def test_spoiled_adapters_are_refused(auditor: Auditor, target: Any, tmp_path: Path) -> None:
    from safetensors.torch import load, save_file

    folder = tiny_edit(auditor, "weights").save(tmp_path / "whole")
    weights = folder / "adapter_model.safetensors"
    content, state = weights.read_bytes(), load(weights.read_bytes())
    first, *others = state
    odd = {"odd.lora_A.weight": state[first].clone()}
    spoiled = {
        "holds no complete adapter": lambda: weights.write_bytes(content[: len(content) // 2]),
        "holds unexpected tensors, such as 'odd": lambda: save_file(state | odd, weights),
        "lacks tensors": lambda: save_file({name: state[name] for name in others}, weights),
    }
    for message, spoil in spoiled.items():
        spoil()
        with pytest.raises(EditError, match=message):
            load_edit(str(folder), target)
    weights.write_bytes(content)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(EditError, match="holds no complete adapter"):
        load_edit(str(folder), target)
    (folder / "edit.json").unlink()
    with pytest.raises(EditError, match="holds no complete edit"):
        load_edit(str(folder), target)
    with pytest.raises(HubError, match="neither a folder here nor a Hub id"):
        load_edit("nowhere", target)


def test_weights_need_a_plain_model_and_a_finite_factor(auditor: Auditor, target: Any) -> None:
    bare = Auditor(replace(target, base=None), auditor.decoder)
    with pytest.raises(EditError, match=r"needs the plain model behind a target, .*; use load_target"):
        tiny_edit(bare, "weights")
    for method in ("vector", "weights"):
        with pytest.raises(EditError, match="finite"):
            tiny_edit(auditor, method).scaled(float("nan"))


def test_unwritable_folders_are_refused(auditor: Auditor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for method in ("vector", "weights"):
        with pytest.raises(EditError, match="cannot be used as a folder"):
            tiny_edit(auditor, method).save(tmp_path / "file" / "edit")


@pytest.mark.parametrize("methods", [("weights", "vector"), ("vector", "weights")])
def test_a_folder_holds_the_edit_that_was_saved_last(
    auditor: Auditor, tmp_path: Path, methods: tuple[str, str]
) -> None:
    for method in methods:
        last = tiny_edit(auditor, method, steps=1)
        last.save(tmp_path)
    assert isinstance(load_edit(tmp_path, auditor.target), type(last))
    assert (tmp_path / "adapter_model.safetensors").exists() == (methods[-1] == "weights")
    assert (tmp_path / "edit.safetensors").exists() == (methods[-1] == "vector")


@pytest.mark.parametrize("method", ["vector", "weights"])
def test_what_was_measured_at_another_strength_is_dropped(auditor: Auditor, method: str) -> None:
    edit = tiny_edit(auditor, method, steps=1)
    assert edit.origin.metrics and edit.scaled(0.5).origin.metrics == {}


def test_an_edit_of_one_prompt_is_for_that_prompt(auditor: Auditor, target: Any) -> None:
    edit = tiny_edit(auditor, "gradient", steps=1)
    require_prompt(edit, target, DIALOGS[0])
    require_prompt(tiny_edit(auditor, steps=1), target, DIALOGS[1])  # it changes every prompt
    same_length = [{"role": "user", "content": "Ho"}]
    for dialog in (DIALOGS[1], same_length):
        with pytest.raises(EditError, match=r"changes positions of one prompt of \d+ tokens, and this is another"):
            require_prompt(edit, target, dialog)
