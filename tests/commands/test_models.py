"""The models that options name: how they are loaded, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.commands import run

from audit_lit.commands.models import load_arguments, load_models
from audit_lit.errors import DecoderMismatch, HubError, TargetError

WEIGHTS = ("--device", "--dtype", "--device-map", "--n-devices", "--max-memory", "--quantization")


@pytest.mark.parametrize(
    "command", [["ask"], ["scan"], ["eval"], ["train"], ["edit", "make"], ["edit", "apply"], ["edit", "check"]]
)
def test_every_command_that_loads_a_target_says_how(command: list[str]) -> None:
    help_text = run(*command, "--help").stdout
    assert all(option in help_text for option in WEIGHTS)


def test_options_become_arguments_of_load_target() -> None:
    none = {"device": None, "dtype": None, "n_devices": None, "quantization": None}
    assert load_arguments({}) == {**none, "device_map": None, "max_memory": None}
    limits = {"device_map": "auto", "max_memory": ("0=20GiB", "cpu=60GiB"), "dtype": "bfloat16", "seed": 3}
    told = {"device_map": "auto", "max_memory": {0: "20GiB", "cpu": "60GiB"}, "dtype": "bfloat16"}
    assert load_arguments(limits) == none | told
    assert load_arguments({"device_map": '{"": 0}'})["device_map"] == {"": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu", "--device-map", "auto"], "got device and device_map"),
        (["--n-devices", "99"], "got n_devices=99"),
        (["--max-memory", "0=20GiB"], "got max_memory without device_map"),
        (["--device-map", "auto", "--max-memory", "20GiB"], "expected DEVICE=SIZE"),
        (["--device-map", "{0: 1"], "is no JSON"),
        (["--device", "nonsense"], "cannot be put on device 'nonsense'"),
    ],
)
def test_contradictions_exit_2_before_anything_is_loaded(arguments: list[str], message: str) -> None:
    result = run("ask", "Who?", "--target", "no-such/model", *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_target_and_decoder_share_their_base(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    target, decoder = load_models(pair[1], pair[3], revision=None, device="cpu")
    weights = {parameter.data_ptr() for parameter in target.base.parameters()}
    assert weights <= {parameter.data_ptr() for parameter in decoder.model.parameters()}
    assert "loading the target" in capsys.readouterr().err


def test_what_cannot_be_loaded_raises(pair: list[str], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"revision": None, "device": "cpu"}
    with pytest.raises((TargetError, HubError), match="neither a folder here nor a Hub id"):
        load_models("nowhere", pair[3], **settings)
    with pytest.raises(HubError, match="neither a folder here nor a Hub id"):
        load_models(pair[1], "nowhere", **settings)
    from helpers.models import byte_tokenizer, tiny_llama

    tiny_llama(n_layers=2).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(DecoderMismatch):
        load_models(str(tmp_path), pair[3], **settings)
