"""Loading models and tokenizers: what a folder gives, one copy of the weights, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama
from safetensors.torch import load_file, save_file

from audit_lit import load_target
from audit_lit.errors import HubError, TargetError
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


CODE = """
from pathlib import Path
Path({trace!r}).write_text("ran")
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tokenizer
"""


@pytest.mark.parametrize("source", ["code.{name}", "org/elsewhere--code.{name}"])
@pytest.mark.parametrize("kind", ["model", "tokenizer"])
def test_the_code_of_a_repository_never_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, source: str
) -> None:
    """Nor if somebody answers yes to whatever is asked."""
    trace = tmp_path / "trace"
    (folder / "code.py").write_text(CODE.format(trace=str(trace)))
    name = {"model": "config.json", "tokenizer": "tokenizer_config.json"}[kind]
    autos = {"AutoConfig": "Config", "AutoModelForCausalLM": "Model", "AutoTokenizer": "Tokenizer"}
    places = {auto: source.format(name=cls) for auto, cls in autos.items()}
    content = {"auto_map": places | {"AutoTokenizer": [places["AutoTokenizer"], None]}, "model_type": "own"}
    content["tokenizer_class"] = "OwnTokenizer"
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | content))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    refuses(folder, f"the {kind} in", "could not be loaded")
    assert not trace.exists()


def test_no_such_device(tiny_folder: Path) -> None:
    refuses(tiny_folder, "device 'nonsense'", "such as cpu", device="nonsense")
    refuses(tiny_folder, "device 'meta'", "hold no values", device="meta")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("device", [3.5, "", "cuda:-1", "cuda:9", "cpu:x", "cuda:99999999999999999999", ["cpu"]])
def test_a_device_that_is_not_here_is_refused_in_words(tiny_folder: Path, device: Any) -> None:
    refuses(tiny_folder, "device", "such as cpu", device=device)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "dtype", ["float7", "float64", torch.float64, "", "Tensor", torch.int64, torch.bool, torch.float8_e4m3fn, float]
)
def test_a_type_that_no_model_computes_in_is_refused(tiny_folder: Path, dtype: Any) -> None:
    refuses(tiny_folder, "got dtype=", "expected auto, float32, bfloat16", dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, "float16"])
def test_a_model_computes_in_the_type_that_was_named(tiny_folder: Path, dtype: Any) -> None:
    tokens = torch.arange(3, 20)[None]
    logits = load_target(str(tiny_folder), dtype=dtype).model(tokens, attention_mask=torch.ones_like(tokens))
    assert logits.dtype == (torch.float16 if dtype == "float16" else dtype)
    torch.testing.assert_close(logits.float(), tiny_llama()(tokens).logits, rtol=0, atol=0.1)


@pytest.mark.usefixtures("unchecked")
def test_a_model_in_place_of_a_name_is_refused(target: Any, tiny_folder: Path) -> None:
    for model in (target, target.base, target.model):
        with pytest.raises(TargetError, match=r"for the name of a target; .* goes to Auditor\(model, decoder"):
            load_target(model)
    for adapter in (3, target, ""):
        with pytest.raises(HubError, match="neither a folder here nor a Hub id"):
            load_target(tiny_folder, adapter=adapter)
    with pytest.raises(TargetError, match="'smollm2-135m' has no revisions"):
        load_target(revision="abc")


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("module", ["code.Tokenizer", "org/elsewhere--code.Tokenizer"])
@pytest.mark.parametrize("nested", [False, True])
def test_no_code_of_a_tokenizer_runs_whatever_is_answered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, nested: bool
) -> None:
    """The bridge loads a tokenizer again, with the arguments that its file holds: here, another folder to load."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    mark, auto_map = tmp_path / "ran", {"AutoTokenizer": [module, module]}
    (folder / "code.py").write_text(CODE.format(trace=str(mark)))
    if nested:
        shutil.copytree(folder, folder / "nested")
        (folder / "nested" / "config.json").write_text("{}")
        edit_json(folder / "nested" / "tokenizer_config.json", tokenizer_class="Own", auto_map=auto_map)
        edit_json(folder / "tokenizer_config.json", subfolder="nested", bos_token="<|im_start|>")
    else:
        edit_json(folder / "tokenizer_config.json", auto_map=auto_map, bos_token="<|im_start|>")
    assert load_target(str(folder)).tokenizer.bos_token == "<|im_start|>"
    assert not mark.exists()


def test_a_tokenizers_file_chooses_no_other_settings(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", bos_token="<|im_start|>", config={"model_type": "own"}, gguf_file="x")
    load_target(str(folder))


def test_no_kernels_are_fetched_that_a_config_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[str] = []
    monkeypatch.setattr(
        "transformers.modeling_utils.lazy_import_flash_attention", lambda name, **_: wanted.append(name)
    )
    edit_json(folder / "config.json", attn_implementation="org/kernels")
    load_target(str(folder))
    assert wanted == []


def test_an_adapter_beside_a_model_has_no_endless_pattern(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    get_peft_model(tiny_llama(), LoraConfig(r=1, target_modules=["q_proj"])).save_pretrained(folder)
    load_target(str(folder))
    edit_json(folder / "adapter_config.json", target_modules="((a*)*)*b")  # read before it is matched
    refuses(folder, "might take for ever to match")


def test_a_module_that_the_model_does_not_have_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(TargetError, match=r"device_map names 'nope'.*such as model, lm_head"):
        load_target(str(tiny_folder), device_map={"nope": "cpu", "model": "cpu", "lm_head": "cpu"})
