"""A tiny target and a tiny decoder on disk, as options name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the tests of a module share."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def pair(tiny_folder: Path, make_decoder: Any, saved: Path) -> list[str]:
    """Options that name the tiny target and its decoder."""
    if not (saved / "decoder").is_dir():
        make_decoder(write="project").save(saved / "decoder")
    return ["--target", str(tiny_folder), "--decoder", str(saved / "decoder")]
