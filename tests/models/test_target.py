"""Loading the model under audit, and refusing one whose activations would not be what they seem."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, tiny_llama
from safetensors.torch import load_file, save_file

from audit_lit import Target, load_target
from audit_lit.errors import TargetError
from audit_lit.hooks import HookedModel

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to break."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def refuses(folder: Path, *expected: str, **options: Any) -> None:
    with pytest.raises(TargetError) as caught:
        load_target(str(folder), **options)
    for words in expected:
        assert words in str(caught.value)


def test_local_folder(target: Any, tiny_folder: Path) -> None:
    assert (target.name, target.revision) == (str(tiny_folder), None)
    assert (target.d_model, target.n_layers, target.n_ctx, target.device.type) == (32, 4, 1024, "cpu")
    assert isinstance(target.model, HookedModel)
    assert target.tokenizer.padding_side == "left"
    ids = target.tokenizer("Hello", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(target.model(ids), tiny_llama()(ids).logits, rtol=0, atol=1e-4)


def test_one_copy_of_the_weights(target: Any) -> None:
    ours = {param.data_ptr() for param in target.base.parameters()}
    assert len(ours) == len(list(tiny_llama().parameters()))
    assert {param.data_ptr() for param in target.model.parameters()} == ours


def drop_layer(folder: Path) -> None:
    tensors = {name: value for name, value in load_file(folder / WEIGHTS).items() if "layers.3" not in name}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))


def half(name: str) -> Callable[[Path], Any]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return cut


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        pytest.param(half(WEIGHTS), "the model in", id="weights cut"),
        pytest.param(lambda folder: (folder / WEIGHTS).write_bytes(b""), "the model in", id="weights empty"),
        pytest.param(lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS, id="no weights"),
        pytest.param(as_pickle, WEIGHTS, id="only a pickle"),
        pytest.param(drop_layer, "9 of its weights are missing, such as 'model.layers.3.", id="a layer missing"),
        pytest.param(other_shape, "the model in", id="another shape"),
        pytest.param(lambda folder: (folder / "config.json").unlink(), "config.json", id="no config"),
        pytest.param(half("config.json"), "not a valid JSON", id="config cut"),
        pytest.param(
            lambda folder: (folder / "config.json").write_text('{"model_type": "nope"}'), "`nope`", id="unknown"
        ),
        pytest.param(half("tokenizer.json"), "the tokenizer in", id="tokenizer cut"),
        pytest.param(lambda folder: (folder / "tokenizer.json").unlink(), "the tokenizer in", id="no tokenizer"),
    ],
)
def test_broken_folder(folder: Path, breaks: Callable[[Path], Any], reason: str) -> None:
    breaks(folder)
    refuses(folder, reason, str(folder), "could not be loaded", "Expected config.json", "fetch the folder again")


def test_no_such_device(tiny_folder: Path) -> None:
    refuses(tiny_folder, "device 'nonsense'", "such as cpu", device="nonsense")
    refuses(tiny_folder, "device 'meta'", "hold no values", device="meta")


def test_other_objects_are_refused(target: Any) -> None:
    plain = object.__new__(Target)  # the type checks of the suite would stop the usual way earlier
    object.__setattr__(plain, "model", target.base)
    with pytest.raises(TargetError, match=r"got a LlamaForCausalLM.*TransformerBridge\.boot_transformers.*load_target"):
        plain.__post_init__()


class Stub:
    """Looks like a HookedTransformer."""

    def __init__(self, normalization_type: str) -> None:
        self.cfg = SimpleNamespace(normalization_type=normalization_type)

    def hooks(self, fwd_hooks: Any = (), bwd_hooks: Any = ()) -> Any: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def test_processed_weights_are_refused(tiny_folder: Path) -> None:
    loaded = load_target(str(tiny_folder))
    Target(Stub("LN"), loaded.tokenizer, "raw")
    loaded.model.enable_compatibility_mode(disable_warnings=True)
    for model in (loaded.model, Stub("LNPre"), Stub("RMSPre")):
        with pytest.raises(TargetError, match=r"processed weights.*expected raw weights.*no_processing"):
            Target(model, loaded.tokenizer, "processed")


def test_fingerprint(target: Any, folder: Path, tmp_path: Path) -> None:
    expected = target.fingerprint()
    assert len(expected) == 16
    assert load_target(str(folder), dtype=torch.bfloat16).fingerprint() == expected
    tensors = load_file(folder / WEIGHTS)
    save_file({name: value.bfloat16() for name, value in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    assert load_target(str(folder)).fingerprint() == expected

    tiny_llama(seed=1).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    assert load_target(str(tmp_path / "other")).fingerprint() != expected
