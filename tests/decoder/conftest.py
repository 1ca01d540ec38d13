"""A decoder's folder to break, and a check that the target is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture
def folder(make_decoder: Callable[..., Any], tmp_path: Path) -> Path:
    make_decoder(write="project", lora_scaling=2.0).save(tmp_path / "decoder")
    return tmp_path / "decoder"


@pytest.fixture
def untouched_target(target: Any) -> Iterator[None]:
    """Check after the test that the target computes what it did, and has no LoRA."""

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
