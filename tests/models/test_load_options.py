"""Where weights go: what transformers is told, and contradictions that are refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from audit_lit import load_target
from audit_lit.errors import TargetError
from audit_lit.models import load_options
from audit_lit.models.load_options import LoadOptions

GPU_AND_CPU = {"model.embed_tokens": 0, "model.layers": "cpu"}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cpu", "device_map": "auto"}, "got device and device_map, which each say where"),
        ({"device": "cuda", "n_devices": 2}, "got device and n_devices"),
        ({"device_map": "auto", "n_devices": 2}, "got device_map and n_devices"),
        ({"max_memory": {0: "20GiB"}}, "max_memory without device_map or n_devices"),
        ({"device_map": "cuda"}, "got device_map='cuda'; expected auto, balanced"),
        ({"device_map": GPU_AND_CPU}, "device_map has 0, cpu, but TransformerLens"),
        ({"device_map": {}}, "got device_map={}; expected auto"),
        ({"device_map": ["cpu"]}, "got device_map=['cpu']; expected auto"),
        ({"device_map": {0: "cpu"}}, "got device_map={0: 'cpu'}"),
        ({"device_map": {"": "nonsense"}}, "cannot be put on device 'nonsense'"),
        ({"device_map": "auto", "max_memory": [1]}, "got max_memory=[1]; expected numbers of GPUs"),
        ({"device_map": "auto", "max_memory": {0: "x"}}, "got max_memory={0: 'x'}"),
        ({"device_map": "auto", "max_memory": {0: 0}}, "got max_memory={0: 0}"),
        ({"device_map": "auto", "max_memory": {"foo": "1GiB"}}, "got max_memory={'foo': '1GiB'}"),
        ({"n_devices": 99}, "got n_devices=99; expected 2 or more"),
        ({"n_devices": "2"}, "got n_devices='2'; expected 2 or more"),
        ({"n_devices": True}, "got n_devices=True"),
        ({"n_devices": 1}, "For one GPU, use device='cuda'"),
        ({"device": "nonsense"}, "cannot be put on device 'nonsense'"),
        ({"device": "meta"}, "meta tensors hold no values"),
        ({"dtype": "float8"}, "got dtype='float8'; expected auto, float32"),
        ({"dtype": torch.int8}, "got dtype=torch.int8"),
        ({"quantization": "2bit"}, "got quantization='2bit'; expected 8bit or 4bit"),
        ({"quantization": 4}, "got 4 for quantization"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_fetched(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_target("no-such/model", **options)
    assert words in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_options, "find_spec", lambda _: None)
    with pytest.raises(TargetError, match=r"needs bitsandbytes, .* pip install 'audit-lit\[quantize\]'"):
        load_target("no-such/model", quantization="4bit")


def test_a_machine_that_cannot_quantise_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.integrations

    def refuse(raise_exception: bool) -> None:
        raise RuntimeError("no supported device.")

    monkeypatch.setattr(load_options, "find_spec", lambda _: object())
    monkeypatch.setattr(transformers.integrations, "validate_bnb_backend_availability", refuse)
    with pytest.raises(TargetError, match=r"quantization='8bit' does not run here: no supported device\. Use a GPU"):
        load_target("no-such/model", quantization="8bit")


def test_by_default_a_model_is_in_float32_on_the_cpu() -> None:
    assert (LoadOptions().arguments(), LoadOptions().single_device) == ({"dtype": torch.float32}, "cpu")


@pytest.mark.parametrize(
    ("dtype", "told"), [("auto", "auto"), ("bfloat16", torch.bfloat16), (torch.float16, torch.float16)]
)
def test_types_have_names(dtype: Any, told: Any) -> None:
    assert LoadOptions(dtype=dtype).arguments()["dtype"] == told


def test_a_split_is_passed_on_as_it_is() -> None:
    options = LoadOptions(device_map="balanced", max_memory={0: "20GiB"}, dtype="bfloat16")
    told = {"dtype": torch.bfloat16, "device_map": "balanced", "max_memory": {0: "20GiB"}}
    assert (options.arguments(), options.single_device) == (told, None)


def test_n_devices_splits_over_the_first_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate.utils

    free = {0: 5, 1: 6, 2: 7, "cpu": 100}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(accelerate.utils, "get_max_memory", lambda: free)
    told = LoadOptions(n_devices=2).arguments()
    assert (told["device_map"], told["max_memory"]) == ("balanced", {0: 5, 1: 6})
    assert LoadOptions(n_devices=2, max_memory={0: 1, 1: 2}).arguments()["max_memory"] == {0: 1, 1: 2}


def test_quantised_weights_are_placed_while_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_options, "_check_quantization", lambda _: None)
    eight, four = (LoadOptions(quantization=bits).arguments() for bits in ("8bit", "4bit"))
    assert eight["quantization_config"].load_in_8bit and four["quantization_config"].load_in_4bit
    assert four["quantization_config"].bnb_4bit_quant_type == "nf4"
    assert eight["dtype"] == four["dtype"] == torch.bfloat16 and eight["device_map"] == {"": "cpu"}
    assert LoadOptions(device="cpu").arguments(quantised=True) == {"dtype": torch.float32, "device_map": {"": "cpu"}}


def test_a_configuration_of_transformers_is_passed_on() -> None:
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(load_in_8bit=True)
    assert LoadOptions(quantization=config).arguments()["quantization_config"] is config


def test_an_adapter_is_not_merged_into_quantised_weights(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_options, "_check_quantization", lambda _: None)
    with pytest.raises(TargetError, match=r"cannot be merged into quantised weights.*Merge it once in bfloat16"):
        load_target(str(tiny_folder), adapter=str(tmp_path), quantization="8bit")
