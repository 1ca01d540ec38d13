"""``audit-lit decoders``: what it lists."""

from __future__ import annotations

import json

import pytest
from helpers.commands import raises, run


def test_lists_shipped_and_published() -> None:
    document = json.loads(run("decoders", "--json").stdout)
    assert document[0]["id"] == "default" and {entry["where"] for entry in document} == {"shipped", "Hub"}
    assert "latentqa" in run("decoders").stdout


def test_a_reader_that_has_gone_is_not_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr(Console, "print", raises(SystemExit(1)))  # as rich does
    assert run("decoders").exit_code == 3
