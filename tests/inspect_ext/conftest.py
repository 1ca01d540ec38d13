"""Inspect's tests need the extra of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def models(target: Any, make_decoder: Any, tmp_path: Path) -> dict[str, str]:
    """The tiny models by name, with a measured threshold."""
    from helpers.inspect_logs import models_of

    return models_of(target, make_decoder(), tmp_path / "measured", 0.1)
