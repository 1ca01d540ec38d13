"""What the tests of hooks share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved edit with an intervention of every kind."""
    from helpers.saved_edits import edit_of_every_kind

    return edit_of_every_kind().save(tmp_path / "edits" / "kind")
