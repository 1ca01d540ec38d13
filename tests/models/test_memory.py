"""The memory that a model takes, by its settings alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.architectures import ARCHITECTURES, tiny_model

from audit_lit.errors import TargetError
from audit_lit.models.memory import GIB, ModelSize, free_memory, size_of, ways

EIGHT_BILLION = ModelSize(total=8_030_261_248, linear=6_979_321_856)  # Llama-3.1-8B


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_size_is_that_of_the_model_without_its_weights(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    model.config.save_pretrained(tmp_path)
    size = size_of(str(tmp_path))
    assert size.total == sum(parameter.numel() for parameter in model.parameters()) > size.linear


def test_bytes_per_weight() -> None:
    assert EIGHT_BILLION.gib("float32") == 2 * EIGHT_BILLION.gib("bfloat16")
    assert EIGHT_BILLION.gib("bfloat16") == pytest.approx(1.2 * 2 * 8_030_261_248 / GIB)
    assert 6 < EIGHT_BILLION.gib("4bit") < 7 < 10 < EIGHT_BILLION.gib("8bit") < 11


@pytest.mark.parametrize(
    ("free", "first"),
    [
        ({"cpu": 60.0}, "--dtype float32"),
        ({"cpu": 20.0}, "--dtype bfloat16"),
        ({"cpu": 60.0, "cuda:0": 23.5}, "--device cuda:0 --dtype bfloat16"),
        ({"cpu": 12.0, "cuda:0": 11.0}, "--device cuda:0 --quantization 8bit --quantized-decoder"),
        ({"cpu": 12.0, "cuda:0": 7.5}, "--device cuda:0 --quantization 4bit --quantized-decoder"),
        ({"cpu": 12.0, "cuda:0": 3.5, "cuda:1": 3.6}, "--n-devices 2 --quantization 4bit --quantized-decoder"),
        ({"cpu": 60.0, **{f"cuda:{index}": 23.5 for index in range(4)}}, "--n-devices 4 --dtype float32"),
        ({"cpu": 12.0}, None),
    ],
)
def test_the_first_way_that_fits(free: dict[str, float], first: str | None) -> None:
    assert next((way.options for way in ways(EIGHT_BILLION, free) if way.fits), None) == first


def test_this_machine_has_memory() -> None:
    assert free_memory()["cpu"] > 0


@pytest.mark.parametrize("content", [{"model_type": "nope"}, {}, {"model_type": "vit"}])
def test_what_is_no_language_model_is_refused(content: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(TargetError, match=r"cannot be told.*Expected config.json of a causal language model"):
        size_of(str(tmp_path))
