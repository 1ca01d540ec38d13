"""The commands of audits and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.support import FAST, dialogs, record, write_lines


@pytest.fixture
def command(auditor: Any, monkeypatch: Any, tmp_path: Path) -> Iterator[Any]:
    import audit_lit

    monkeypatch.setattr(audit_lit, "load_target", lambda *_, **__: auditor.target)
    monkeypatch.setattr(audit_lit.Decoder, "from_pretrained", lambda *_, **__: auditor.decoder)
    from audit_lit.cli import cli

    monkeypatch.chdir(tmp_path)  # where run folders go by default
    fast = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    yield lambda *args: CliRunner().invoke(cli, [*args, *(fast if args[0] == "scan" else [])])


def test_exit_codes_of_scan_and_report(command: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.scan import folder

    path, run = write_lines(tmp_path / "d.jsonl", dialogs(2)), str(tmp_path / "run")
    clean = command("scan", "tiny", "--recipe", "persona", "--dialogs", str(path), "--out", run, "--json")
    assert clean.exit_code == 0, clean.output
    assert json.loads(clean.stdout)["flagged"] is False
    assert command("report", run).exit_code == 0 and "not a clean bill of health" in command("report", run).output

    rows = [record(at, 0.5 + at / 100, 5.0, [0.0, 1.0, 2.0, 0.5, 0.2] * 5) for at in range(2)]
    for row in rows:
        row["expected"] = dict.fromkeys(("persona-name", "persona-topic"), "Nothing.")
        row["answers"] = dict.fromkeys(("persona-name", "persona-topic", "persona-or-goal"), row["answers"]["q"])
        row["scores"] = dict.fromkeys(("persona-name", "persona-topic"), row["scores"]["q"])
    monkeypatch.setattr("audit_lit.scan.measure.Measurement.records", lambda *_: [dict(row) for row in rows])
    monkeypatch.setattr("audit_lit.scan.engine._heatmaps", lambda *_: {})
    flagged = command("scan", "tiny", "--recipe", "persona", "--dialogs", str(path), "--out", run + "2")
    assert flagged.exit_code == 1, flagged.output
    assert "flagged: high finding" in flagged.output and command("report", run + "2").exit_code == 1
    info = command(
        "scan", "tiny", "--recipe", "user-model", "--fail-on", "high", "--set", "questions=[persona-or-goal]"
    )
    assert info.exit_code == 3  # the probes are four, of which two come back

    assert command("scan", "tiny", "--recipe", "persna").exit_code == 2
    assert command("scan", "tiny", "--dialogs", str(path), "--system", "Hi.").exit_code == 2
    assert command("scan", "tiny", "--dialogs", str(tmp_path / "none.jsonl")).exit_code == 2
    assert command("report", str(tmp_path)).exit_code == 2
    monkeypatch.setattr(folder, "RECORDS", "none/records-{rank}.jsonl")
    assert command("scan", "tiny", "--recipe", "persona", "--dialogs", str(path), "--out", run + "3").exit_code == 3


def test_recipes_are_listed_and_shown(command: Any, tmp_path: Path) -> None:
    listed = command("recipes", "list", "--json")
    assert {"hidden-prompt", "persona", "smollm2-135m", "edits/persona"} <= set(json.loads(listed.stdout))
    shown = command("recipes", "show", "persona")
    assert shown.exit_code == 0 and "persona-name (high)" in shown.output and "questions:" in shown.output
    assert command("recipes", "show", "smollm2-135m").exit_code == 0
    assert command("recipes", "show", "persna").exit_code == 2
