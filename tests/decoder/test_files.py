"""Decoders whose files are incomplete, broken, or not of this target: refused, and the target left as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, make_config, tiny_llama
from safetensors.torch import load_file, save_file

from audit_lit import Decoder, DecoderMismatch, HubError, load_target
from audit_lit.decoder.adapter import ADAPTER
from audit_lit.decoder.files import PROJECTION
from audit_lit.errors import DecoderConfigError

CONFIG, PROTOCOL = "adapter_config.json", "protocol.json"


@pytest.fixture
def folder(make_decoder: Callable[..., Any], tmp_path: Path) -> Path:
    make_decoder(write="project", lora_scaling=2.0).save(tmp_path / "decoder")
    return tmp_path / "decoder"


@pytest.fixture(autouse=True)
def _target_is_left_as_it_was(target: Any) -> Iterator[None]:
    def state() -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        with torch.no_grad():
            modules = [name for part in (target.base, target.model) for name, _ in part.named_modules()]
            return target.model(ids), target.base(ids).logits, modules

    ids = torch.arange(1, 9).unsqueeze(0)
    before = state()
    yield
    after = state()
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert before[2] == after[2] and not any("lora" in name for name in after[2])


def refuses(folder: Path, target: Any, error: type[Exception], *expected: str, **options: Any) -> None:
    with pytest.raises(error) as caught:
        Decoder.from_pretrained(str(folder), target=target, **options)
    assert type(caught.value) is error
    for words in expected:
        assert words in str(caught.value)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def save_model(folder: Path, **settings: Any) -> str:
    tiny_llama(**settings).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


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
        folder, target, DecoderConfigError, "latentqa_llama-3-8b-instruct", "Qwen3-8B", "cannot be guessed", "protocol="
    )
    given = make_config(target, write="project")
    assert Decoder.from_pretrained(str(folder), target=target, config=given).config == given


def test_other_target(folder: Path, target: Any, tmp_path: Path) -> None:
    edit(folder / PROTOCOL, target_fingerprint=target.fingerprint())
    Decoder.from_pretrained(str(folder), target=target)
    for settings, expected in (
        ({"seed": 5}, ("another model of the same shape", target.fingerprint())),
        ({"d_model": 64}, ("d_model=32", "has d_model=64")),
        ({"n_layers": 3}, ("layers=4", "has layers=3")),
    ):
        other = load_target(save_model(tmp_path / "other", **settings))
        refuses(folder, other, DecoderMismatch, *expected, "Load ", target.name, other.name)


@pytest.mark.parametrize(("settings", "expected"), [({"d_model": 64}, "size mismatch"), ({"n_layers": 6}, "missing")])
def test_adapter_of_another_base(
    folder: Path, target: Any, tmp_path: Path, settings: dict[str, int], expected: str
) -> None:
    edit(folder / PROTOCOL, target="org/target", base=save_model(tmp_path / "base", **settings), write="add")
    refuses(folder, target, DecoderMismatch, expected, "does not fit the base", "Load the base that it was trained on")


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
        (PROTOCOL, {"lora_scaling": 4.0}, DecoderMismatch, ("LoRA scaling is [2.0]", "says 4.0", "Fetch both again")),
        (PROTOCOL, {"write_layer": 4}, DecoderMismatch, ("writes at block 4", "has 4;", "load the base")),
        (PROTOCOL, {"read_layers": [1, 2]}, DecoderMismatch, ("(1, 32)", "(2, 32)", "Fetch both again")),
        (PROTOCOL, {"base": None}, DecoderMismatch, ("does not name its base model",)),
        (PROTOCOL, {"base": "org/gone", "target": "x"}, HubError, ("base model is needed", "'org/gone'")),
        (PROTOCOL, {"read_layers": [9]}, DecoderConfigError, ("read_layers=[9]", "0-3")),
        (PROTOCOL, {"format": 2}, DecoderConfigError, ("not of format 1", "Upgrade audit-lit")),
        (PROTOCOL, {"write_layr": 1}, DecoderConfigError, ("'write_layr'", "Did you mean 'write_layer'?")),
        (PROTOCOL, {"d_model": 16}, DecoderMismatch, ("d_model=16",)),
        (CONFIG, {"r": 8}, DecoderMismatch, ("size mismatch", "does not fit the base")),
        (CONFIG, {"target_modules": ["nothing"]}, DecoderMismatch, ("nothing", "does not fit the base")),
        (CONFIG, {"target_modules": ["q_proj"]}, DecoderMismatch, ("have no place", "does not fit the base")),
        (CONFIG, {"peft_type": "NOPE"}, HubError, ("missing or broken", "NOPE")),
        (CONFIG, {"peft_type": "IA3"}, HubError, ("type IA3", "plain LoRA", "Convert it")),
        (CONFIG, {"init_lora_weights": "pissa_niter_4"}, HubError, ("pissa_niter_4", "plain LoRA", "Convert it")),
    ],
)
def test_contradiction(
    folder: Path, target: Any, name: str, changes: dict[str, Any], error: type[Exception], expected: tuple[str, ...]
) -> None:
    edit(folder / name, **changes)
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


def test_adapter_without_all_its_tensors(folder: Path, target: Any) -> None:
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.pop(sorted(tensors)[-1]))
    with pytest.warns(UserWarning, match="Found missing adapter keys"):
        refuses(folder, target, DecoderMismatch, "1 tensors are missing", "does not fit the base")


def test_adapter_must_not_overwrite_the_target(folder: Path, target: Any) -> None:
    norm = "base_model.model.model.norm.weight"
    edit_tensors(folder / ADAPTER, lambda tensors: tensors.update({norm: torch.zeros(32)}))
    refuses(folder, target, HubError, norm, "would change the base model", "plain LoRA", "Ask the author")


def test_projection_of_another_decoder(folder: Path, target: Any) -> None:
    edit_tensors(folder / PROJECTION, lambda tensors: tensors.pop("std"))
    refuses(folder, target, HubError, PROJECTION, "std", "fetch the folder again")
