"""Decoders whose files are incomplete, broken, not plain LoRAs, or of another target: refused, it is left alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bpe import with_adapter, write_adapter
from helpers.decoder_files import CONFIG, PROTOCOL, edit_json, edit_tensors, refuses, save_model
from helpers.models import make_config
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from audit_lit import Auditor, Decoder, DecoderMismatch, HubError, load_target
from audit_lit.decoder.files import PROJECTION
from audit_lit.decoder.folders import ADAPTER
from audit_lit.errors import DecoderConfigError
from audit_lit.models.loading import weights_fingerprint

pytestmark = pytest.mark.usefixtures("untouched_target")
QUESTION = "Who is it?"


def test_saved_decoder_loads_and_shares_the_weights(folder: Path, target: Any) -> None:
    decoder = Decoder.from_pretrained(str(folder), target=target)
    lora = {name for name, _ in decoder.model.named_parameters() if "lora_" in name}
    rest = {param.data_ptr() for name, param in decoder.model.named_parameters() if name not in lora}
    assert len(lora) == len(load_file(folder / ADAPTER)) > 0
    assert rest == {param.data_ptr() for param in target.base.parameters()}
    assert json.loads((folder / CONFIG).read_text())["base_model_name_or_path"] == decoder.config.base


def test_without_protocol(folder: Path, target: Any) -> None:
    (folder / PROTOCOL).unlink()
    refuses(
        folder, target, DecoderConfigError, "latentqa_llama-3-8b-instruct", "Qwen3-8B", "cannot be guessed", "config="
    )
    given = make_config(target, write="project")
    assert Decoder.from_pretrained(str(folder), target=target, config=given).config == given
    by_former_name = Decoder.from_pretrained(str(folder), target=target, protocol=given)
    assert by_former_name.protocol == given


def test_other_target(folder: Path, target: Any, tmp_path: Path) -> None:
    edit_json(folder / PROTOCOL, target_fingerprint=target.fingerprint())
    Decoder.from_pretrained(str(folder), target=target)
    for settings, expected in (
        ({"seed": 5}, ("another model of the same shape", target.fingerprint())),
        ({"d_model": 64}, ("d_model=32", "has d_model=64")),
        ({"n_layers": 3}, ("layers=4", "has layers=3")),
    ):
        other = load_target(save_model(tmp_path / "other", **settings))
        refuses(folder, other, DecoderMismatch, *expected, "Load ", target.name, other.name)


@pytest.mark.parametrize("name", [ADAPTER, PROJECTION])
@pytest.mark.parametrize("n_bytes", [0, 4, -1])
def test_cut_short(folder: Path, target: Any, name: str, n_bytes: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:n_bytes])
    refuses(folder, target, HubError, name, "cut short", "fetch the folder again")


@pytest.mark.parametrize(
    ("name", "error", "expected"),
    [
        (ADAPTER, HubError, (f"holds no {ADAPTER}", "fetch the folder again")),
        (PROJECTION, HubError, (f"lacks {PROJECTION}", "fetch the folder again")),
        (CONFIG, HubError, (CONFIG, "missing or broken", "Fetch the folder again")),
    ],
)
def test_missing_file(folder: Path, target: Any, name: str, error: type[Exception], expected: tuple[str, ...]) -> None:
    (folder / name).unlink()
    refuses(folder, target, error, *expected)


@pytest.mark.parametrize(
    ("name", "changes", "error", "expected"),
    [
        (PROTOCOL, {"write_layer": 4}, DecoderMismatch, ("writes at block 4", "has 4;", "load the base")),
        (PROTOCOL, {"read_layers": [1, 2]}, DecoderMismatch, ("(1, 32)", "(2, 32)", "give both again")),
        (PROTOCOL, {"base": None}, DecoderMismatch, ("does not name its base model",)),
        (PROTOCOL, {"base": "org/gone", "target": "x"}, HubError, ("base model is needed", "'org/gone'")),
        (PROTOCOL, {"read_layers": [9]}, DecoderConfigError, ("read_layers=[9]", "from 0 to 3")),
        (PROTOCOL, {"format": 2}, DecoderConfigError, ("not of format 1", "Upgrade audit-lit")),
        (PROTOCOL, {"write_layr": 1}, DecoderConfigError, ("'write_layr'", "did you mean 'write_layer'?")),
        (PROTOCOL, {"d_model": 16}, DecoderMismatch, ("d_model=16",)),
    ],
)
def test_contradiction(
    folder: Path, target: Any, name: str, changes: dict[str, Any], error: type[Exception], expected: tuple[str, ...]
) -> None:
    edit_json(folder / name, **changes)
    refuses(folder, target, error, *expected)


def test_corrupt_json(folder: Path, target: Any) -> None:
    good = shutil.copytree(folder, folder.parent / "copy")
    for name, error in ((PROTOCOL, DecoderConfigError), (CONFIG, HubError)):
        for content in ("", "{", (good / name).read_text()[:-20]):
            (folder / name).write_text(content)
            refuses(folder, target, error, name, "expected")
        shutil.copy(good / name, folder / name)
    (folder / PROTOCOL).write_text("[]")
    refuses(folder, target, DecoderConfigError, "not of format 1")


def test_projection_of_another_decoder(folder: Path, target: Any) -> None:
    edit_tensors(folder / PROJECTION, lambda tensors: tensors.pop("std"))
    refuses(folder, target, HubError, PROJECTION, "std", "fetch the folder again")


def test_fine_tuned_target_is_audited_by_a_decoder_on_the_original_base(
    target: Any, make_decoder: Any, tiny_folder: Any, tmp_path: Any, dialog: Any
) -> None:
    decoder = make_decoder(base=str(tiny_folder), base_fingerprint=weights_fingerprint(target.base))
    decoder.save(tmp_path / "decoder")
    tuned = load_target(str(tiny_folder))
    with torch.no_grad():
        tuned.base.model.layers[0].mlp.down_proj.weight.mul_(3)
    loaded = Decoder.from_pretrained(str(tmp_path / "decoder"), target=tuned)
    base = {name.replace(".base_layer", ""): p for name, p in loaded.model.get_base_model().named_parameters()}
    for name, parameter in target.base.named_parameters():
        torch.testing.assert_close(base[name], parameter)
    activations = Auditor(tuned, loaded).read(dialog).activations
    original = Auditor(target, decoder).read(dialog).activations
    assert not torch.allclose(activations.resid, original.resid)
    assert loaded.answer(original, [QUESTION], max_new_tokens=6) == decoder.answer(
        original, [QUESTION], max_new_tokens=6
    )


@pytest.mark.parametrize(("settings", "expected"), [({"d_model": 64}, "size mismatch"), ({"n_layers": 6}, "missing")])
def test_adapter_of_another_base(
    folder: Path, target: Any, tmp_path: Path, settings: dict[str, int], expected: str
) -> None:
    edit_json(folder / PROTOCOL, target="org/target", base=save_model(tmp_path / "base", **settings), write="add")
    refuses(folder, target, DecoderMismatch, expected, "does not fit the base", "Load the base that it was trained on")


@pytest.mark.parametrize(
    ("name", "changes", "error", "expected"),
    [
        (PROTOCOL, {"lora_scaling": 4.0}, DecoderMismatch, ("LoRA scaling is [2.0]", "says 4.0", "give both again")),
        (CONFIG, {"r": 8}, DecoderMismatch, ("size mismatch", "does not fit the base")),
        (CONFIG, {"target_modules": ["nothing"]}, DecoderMismatch, ("nothing", "does not fit the base")),
        (CONFIG, {"target_modules": ["q_proj"]}, DecoderMismatch, ("have no place", "does not fit the base")),
        (CONFIG, {"peft_type": "NOPE"}, HubError, ("missing or broken", "NOPE")),
        (CONFIG, {"peft_type": "IA3"}, HubError, ("type IA3", "plain LoRA", "Convert it")),
        (CONFIG, {"init_lora_weights": "pissa_niter_4"}, HubError, ("pissa_niter_4", "plain LoRA", "Convert it")),
    ],
)
def test_an_adapter_that_does_not_fit(
    folder: Path, target: Any, name: str, changes: dict[str, Any], error: type[Exception], expected: tuple[str, ...]
) -> None:
    edit_json(folder / name, **changes)
    refuses(folder, target, error, *expected)


def test_adapter_without_all_its_tensors(folder: Path, target: Any) -> None:
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.pop(sorted(tensors)[-1]))
    refuses(folder, target, DecoderMismatch, "1 tensors are missing", "does not fit the base")


def test_adapter_must_not_overwrite_the_target(folder: Path, target: Any) -> None:
    norm = "base_model.model.model.norm.weight"
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.update({norm: torch.zeros(32)}))
    refuses(folder, target, HubError, norm, "would change the base model", "plain LoRA", "Ask the author")


@pytest.fixture
def lora_of(target: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a decoder whose LoRA has these settings, as peft saves it."""

    def write(*modules: str, lora_scaling: float | None = None, **settings: Any) -> Path:
        write_adapter(tmp_path / "lora", target.base, target_modules=["q_proj", "up_proj", *modules], **settings)
        make_config(target, lora_scaling=lora_scaling).save(tmp_path / "lora")
        return tmp_path / "lora"

    return write


@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_weights_of_the_base_beside_a_lora_are_accepted_where_they_are_its_own(
    lora_of: Callable[..., Path], target: Any, module: str
) -> None:
    folder = lora_of(module)
    name = next(name for name in load_file(folder / ADAPTER) if name.endswith(f"{module}.base_layer.weight"))
    ids = torch.arange(9)[None]
    logits = Decoder.from_pretrained(str(folder), target=target).model(ids).logits
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.update({name: tensors[name].double()}))
    assert torch.equal(Decoder.from_pretrained(str(folder), target=target).model(ids).logits, logits)
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.pop(name))
    assert torch.equal(Decoder.from_pretrained(str(folder), target=target).model(ids).logits, logits)
    for other in (torch.zeros(32, 32), target.base.lm_head.weight * 1.01, torch.zeros(1)):
        edit_tensors(folder / ADAPTER, lambda tensors, other=other: tensors.update({name: other.contiguous()}))
        refuses(folder, target, DecoderMismatch, name, "is not the weight of the base", "Load the base that it was")


def test_weights_of_the_base_that_no_lora_stands_beside_are_refused(lora_of: Callable[..., Path], target: Any) -> None:
    folder, name = lora_of(), "base_model.model.lm_head.base_layer.weight"
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.update({name: target.base.lm_head.weight.detach()}))
    refuses(folder, target, DecoderMismatch, "have no place", "does not fit the base")
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.update({name.replace("lm_head", "x"): tensors.pop(name)}))
    refuses(folder, target, DecoderMismatch, "x.base_layer.weight", "is not the weight of the base")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.bool])
def test_a_lora_of_other_than_real_floating_point_is_refused(folder: Path, target: Any, dtype: torch.dtype) -> None:
    edit_tensors(
        folder / ADAPTER, lambda tensors: tensors.update({name: value.to(dtype) for name, value in tensors.items()})
    )
    refuses(folder, target, HubError, f"is of type {dtype}", "expected real floating-point numbers")


def test_scalings_of_patterns_and_of_rank_stabilised_loras(lora_of: Callable[..., Path], target: Any) -> None:
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 16}}
    for settings, scaling, expected in (
        ({}, 2.0, {2.0}),
        ({"use_rslora": True}, 4.0, {4.0}),
        (patterns, 2.0, {2.0, 8.0}),
        ({**patterns, "use_rslora": True}, 4.0, {4.0, 16 / 2**0.5}),
    ):
        decoder = Decoder.from_pretrained(str(lora_of(lora_scaling=scaling, **settings)), target=target)
        layers = [module for module in decoder.model.modules() if isinstance(module, LoraLayer)]
        assert {layer.scaling["default"] for layer in layers} == expected
        ids = torch.arange(9)[None]
        by_hand = with_adapter(target.base, lora_of(**settings))(ids).logits
        torch.testing.assert_close(decoder.model(ids).logits, by_hand, rtol=1e-4, atol=1e-4)
    refuses(lora_of(lora_scaling=3.0, **patterns), target, DecoderMismatch, "LoRA scaling is [2.0, 8.0]", "says 3.0")


def test_saving_asks_nobody_about_the_base_that_a_file_names(
    folder: Path, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda name, _: asked.append(name))
    edit_json(folder / CONFIG, base_model_name_or_path="org/base")
    Decoder.from_pretrained(str(folder), target=target).save(tmp_path / "again")
    assert asked == []
