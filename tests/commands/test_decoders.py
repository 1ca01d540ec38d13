"""``audit-lit decoders``: what it lists."""

from __future__ import annotations

import json

import pytest
from helpers.commands import raises, run

from audit_lit.decoder.formats.published import ENTRIES


def test_lists_shipped_and_published() -> None:
    document = json.loads(run("decoders", "--json").stdout)
    assert document[0]["id"] == "default" and {entry["where"] for entry in document} == {"shipped", "Hub"}
    hub = [entry for entry in document if entry["where"] == "Hub"]
    assert [entry["id"] for entry in hub] == [entry.id for entry in ENTRIES]
    facts = {"id", "family", "reads", "size", "licence", "base", "gated", "known_by"}
    assert all(facts <= set(entry) for entry in hub)
    (lens,) = (entry for entry in hub if entry["id"] == "andyx10/oracle-lens-qwen3-4b")
    assert lens["config"]["write"] == "embed"


def test_the_text_has_every_id_with_its_facts() -> None:
    result = run("decoders")
    assert result.exit_code == 0
    for entry in ENTRIES:
        assert entry.id in result.stdout and entry.family in result.stdout and entry.reads in result.stdout
    assert "reads: smollm2-135m, layer 15 (of 30)" in result.stdout
    assert (
        "options: --target Qwen/Qwen3-8B\n" in result.stdout
        and "--target TARGET\n"
        not in result.stdout.replace("    base: as its adapter names it\n", "").partition("interp-engine")[0]
    )
    assert "gated: base" in result.stdout and "licence: cc-by-nc-sa-4.0" in result.stdout


def test_a_reader_that_has_gone_is_not_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr(Console, "print", raises(SystemExit(1)))  # as rich does
    assert run("decoders").exit_code == 3
