"""A tiny edit on disk, and replies that are soon generated."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.commands import QUICK, run
from helpers.short_replies import shorten


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


@pytest.fixture
def made(pair: list[str], saved: Path) -> Path:
    """An edit on disk that was checked; made once."""
    if not (saved / "edit").is_dir():
        result = run("edit", "make", "persona", "--out", str(saved / "edit"), *QUICK, *pair)
        assert result.exit_code == 0, result.output
    return saved / "edit"


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of the same shape that edits of the tiny target are not for."""
    from helpers.models import byte_tokenizer, tiny_llama

    folder = tmp_path_factory.mktemp("models") / "other"
    tiny_llama(seed=5).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)
