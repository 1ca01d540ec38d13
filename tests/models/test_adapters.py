"""PEFT's settings of an adapter: patterns that are read, and those that could take for ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audit_lit.models.adapters import PATTERNS, read_settings


def write(folder: Path, **settings: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": ["q"], **settings}))
    return folder


@pytest.mark.parametrize(
    "pattern", ["q_proj", "all-linear", r".*\.(q|v)_proj", r"model\.layers\.\d+\..*_proj", r"(?:.*\.)?[qk]_proj$"]
)
def test_names_and_plain_patterns_are_read(tmp_path: Path, pattern: str) -> None:
    assert read_settings(write(tmp_path, target_modules=pattern)).target_modules == pattern
    assert read_settings(write(tmp_path, rank_pattern={pattern: 4})).rank_pattern == {pattern: 4}


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in ("target_parameters", "layers_pattern")])
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"(\w{1,9}){1,99}x", ".*.*.*.*x", "a" * 1001])
def test_patterns_that_could_take_for_ever_are_refused(tmp_path: Path, name: str, pattern: str) -> None:
    value: Any = {pattern: 4} if name in ("rank_pattern", "alpha_pattern") else pattern
    with pytest.raises(ValueError, match="might take for ever to match; expected names, or a pattern with at most 3"):
        read_settings(write(tmp_path, **{name: value}))
