"""``audit-lit scan`` and ``report``: exit codes, run folders, several processes, and every form of a report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers.commands import run
from helpers.reports import HOSTILE, finding, hostile, report
from helpers.support import FAST, dialogs, record, write_lines

FAST_SETTINGS = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture
def scan(auditor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Scan the tiny target quickly."""
    import audit_lit

    monkeypatch.setattr(audit_lit, "load_target", lambda *_, **__: auditor.target)
    monkeypatch.setattr(audit_lit.Decoder, "from_pretrained", lambda *_, **__: auditor.decoder)
    monkeypatch.chdir(tmp_path)  # where run folders go by default
    (tmp_path / "tiny").mkdir()  # what is named must be there
    return lambda *arguments: run("scan", "tiny", *arguments, *FAST_SETTINGS)


@pytest.fixture
def lines(tmp_path: Path) -> str:
    """A file with two dialogs."""
    return str(write_lines(tmp_path / "dialogs.jsonl", dialogs(2)))


@pytest.fixture
def suspicious(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two dialogs be measured that stand out from their twins."""
    questions = {"compared": ("persona-name", "persona-topic"), "described": ("persona-or-goal",)}
    twins = ([0.0, 1.0, 2.0, 0.5, 0.2] * 5)[:21]  # as many as two dialogs need
    records = [record(place, 0.5 + place / 100, 5.0, twins, **questions) for place in range(2)]
    monkeypatch.setattr("audit_lit.scan.measure.Measurement.records", lambda *_: records)
    monkeypatch.setattr("audit_lit.scan.engine.find_heatmaps", lambda *_: {})


def test_nothing_found_exits_0(scan: Any, lines: str) -> None:
    clean = scan("--recipe", "persona", "--dialogs", lines, "--out", "run", "--json")
    assert clean.exit_code == 0, clean.output
    assert json.loads(clean.stdout)["flagged"] is False
    reported = run("report", "run")
    assert reported.exit_code == 0 and "not a clean bill of health" in reported.output


def test_more_twins_than_the_recipe_names_are_said_before_the_work(scan: Any, lines: str, tmp_path: Path) -> None:
    said = scan("--recipe", "persona", "--dialogs", lines, "--out", "run").stderr
    n_twins = json.loads((tmp_path / "run/run.json").read_text())["n_twins"]
    note = f"each dialog gets {n_twins} neutral twins, since 2 are too few to tell a finding from chance"
    assert n_twins > 2 and said.count("neutral twins") == 1 and said.index(note) < said.index("audit:")


@pytest.mark.usefixtures("suspicious")
def test_a_finding_exits_1(scan: Any, lines: str) -> None:
    flagged = scan("--recipe", "persona", "--dialogs", lines, "--out", "run")
    assert flagged.exit_code == 1, flagged.output
    assert "flagged: high finding" in flagged.output and run("report", "run").exit_code == 1


@pytest.mark.usefixtures("suspicious")
def test_dialogs_that_were_not_read_exit_3(scan: Any) -> None:
    described = scan("--recipe", "user-model", "--fail-on", "high", "--set", "questions=[persona-or-goal]")
    assert described.exit_code == 3  # the probes are four, of which two come back


def test_a_run_folder_that_cannot_be_written_exits_3(scan: Any, lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.scan import folder

    monkeypatch.setattr(folder, "RECORDS", "none/records-{rank}.jsonl")
    assert scan("--recipe", "persona", "--dialogs", lines, "--out", "run").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "persna"], "Did you mean 'persona'"),
        (["--recipe", "smollm2-135m"], "expected one that asks questions"),
        (["--dialogs", "dialogs.jsonl", "--system", "Hi."], "mark hidden turns there"),
        (["--dialogs", "none.jsonl"], "none.jsonl"),
        (["--set", "twins"], "has no '='"),
        (["--set", "twin=3"], "did you mean 'twins'"),
        (["--fail-on", "severe"], "'severe' is not one of"),
        (["--library", "dialogs.jsonl"], "'hidden-prompt' does not; leave it out"),
    ],
)
def test_usage_errors_exit_2_before_the_models_load(
    lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    import audit_lit

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit_lit, "load_target", None)
    result = run("scan", "tiny", *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_the_same_request_has_the_same_folder(scan: Any, lines: str, tmp_path: Path) -> None:
    first, again, other = (
        scan("--recipe", recipe, "--dialogs", lines) for recipe in ("persona", "persona", "deception")
    )
    assert [result.exit_code for result in (first, again, other)] == [0, 0, 0]
    assert len(list((tmp_path / "runs").iterdir())) == 2 and "run the same command again" in first.stderr
    assert first.stdout == again.stdout


def test_the_first_of_several_processes_speaks_for_all(scan: Any, lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    result = scan("--recipe", "persona", "--dialogs", lines, "--out", "run", "--json")
    assert result.exit_code == 0 and result.stdout == ""


@pytest.mark.parametrize(
    ("device", "local_rank", "expected"), [("cuda", "1", "cuda:1"), ("cuda", None, "cuda"), ("cpu", "1", "cpu")]
)
def test_each_process_has_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch, device: str, local_rank: str | None, expected: str
) -> None:
    from audit_lit.commands import scan

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert scan._device_here(device) == expected


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the command on a folder that holds a report."""
    from audit_lit.report import audit_report

    (tmp_path / "run.json").touch()

    def show(content: Any, *arguments: str) -> Any:
        monkeypatch.setattr(audit_report, "load_report", lambda _: content)
        return run("report", str(tmp_path), *arguments, env={"COLUMNS": "200"})

    return show


def test_exit_codes_are_those_of_scan(show: Any) -> None:
    assert show(report(finding(raised=False))).exit_code == 0
    assert show(report(finding(severity="medium"))).exit_code == 0  # below fail_on
    assert show(report(finding())).exit_code == 1
    assert show(report(finding(), n_dialogs=5)).exit_code == 3  # one was not read, whatever was found
    assert show(report(finding(raised=False), n_dialogs=5), "--json").exit_code == 3


@pytest.mark.parametrize(
    ("form", "start"), [("--html", "<!doctype html>"), ("--md", "# "), ("--junit", "<testsuite"), ("--json", "{")]
)
def test_every_form_is_printed_alone(show: Any, form: str, start: str) -> None:
    result = show(report(finding()), form)
    assert result.exit_code == 1 and result.stdout.lower().startswith(start)
    if form == "--json":
        assert json.loads(result.stdout)["flagged"] is True


def test_a_person_sees_verdict_findings_and_what_was_not_read(show: Any) -> None:
    raised, other = finding(), finding("other", raised=False, reason="as under neutral prompts")
    shown = show(report(raised, other, n_dialogs=5, errors=(("d5", "it is too long"),))).stdout
    for expected in (
        "flagged: high finding",
        "high   hidden-instruction: What is hidden-instruction?",
        "answer: persona: pirate (dialog 'd1')",
        "lift +0.75, 95% interval +0.50 to +1.00",
        "-      other: What is other?",
        "as under neutral prompts",
        "not read d5: it is too long",
        "4 of 5 dialogs read; neutral twins: 10 per dialog.",
        "Threshold: 0.12 nats per token (it comes with the decoder).",
        "The rate of false alarms was not measured for this recipe.",
    ):
        assert expected in shown


def test_model_text_is_inert(show: Any) -> None:
    shown = show(hostile()).stdout
    assert not set(HOSTILE) & {char for char in shown if not char.isprintable()} - {"\n"}
    assert "<script>" in shown and "\x1b" not in shown


def test_a_folder_without_an_audit_exits_2(tmp_path: Path) -> None:
    assert run("report", str(tmp_path)).exit_code == 2
    assert run("report", str(tmp_path / "none")).exit_code == 2
    assert run("report").exit_code == 2


def test_dialogs_that_cannot_be_read_stop_the_audit_or_are_reported(scan: Any, tmp_path: Path) -> None:
    image = {"id": "seen", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}
    long = {"id": "long", "messages": [{"role": "user", "content": "long " * 400}]}
    path = str(write_lines(tmp_path / "d.jsonl", [{"id": "a", "messages": dialogs(1)[0]}, image, long]))
    stopped = scan("--recipe", "persona", "--dialogs", path, "--out", "run")
    assert stopped.exit_code == 2 and f"{path}, line 2: message 0 (user) holds image_url" in stopped.stderr
    assert "--skip-unreadable" in stopped.stderr
    long_alone = str(write_lines(tmp_path / "long.jsonl", [{"id": "a", "messages": dialogs(1)[0]}, long]))
    assert "--skip-unreadable" in scan("--recipe", "persona", "--dialogs", long_alone, "--out", "other").stderr
    (tmp_path / "d.csv").write_text("prompt,response\nHi.,Ho.\n")
    table = scan("--recipe", "persona", "--dialogs", str(tmp_path / "d.csv"))
    assert "is CSV" in table.stderr and "--skip-unreadable" not in table.stderr
    skipped = scan("--recipe", "persona", "--dialogs", path, "--out", "run", "--skip-unreadable")
    assert skipped.exit_code == 3 and "was read as OpenAI chat" in skipped.stderr
    for expected in ("not read seen: ", "holds image_url", "not read long: ", "the target's context", "1 of 3 dialogs"):
        assert expected in skipped.stdout
    again = scan("--recipe", "persona", "--dialogs", path, "--out", "run", "--skip-unreadable", "--json")
    errors = json.loads(again.stdout)["errors"]
    assert again.exit_code == 3 and [error["dialog"] for error in errors] == ["seen", "long"]
    assert scan("--recipe", "persona", "--dialogs", path, "--format", "sharegpt").exit_code == 2


@pytest.mark.parametrize(
    ("name", "start"),
    [("r.html", "<!doctype"), ("r.md", "# "), ("r.xml", "<testsuite"), ("r.json", "{"), ("r.txt", "fla")],
)
def test_a_report_goes_to_a_file_whose_name_says_its_form(show: Any, tmp_path: Path, name: str, start: str) -> None:
    result = show(report(finding()), "--out", str(tmp_path / name))
    written = (tmp_path / name).read_text(encoding="utf-8")
    assert result.exit_code == 1 and result.stdout == "" and written.lower().startswith(start)
    show(report(finding()), "--json", "--out", str(tmp_path / "r"))
    assert json.loads((tmp_path / "r").read_text(encoding="utf-8"))["flagged"] is True


def test_a_report_that_cannot_be_written_exits_2(show: Any, scan: Any, tmp_path: Path) -> None:
    for name, message in (("r.pdf", "ends in one of .html, .md"), ("none/r.md", "cannot be written")):
        refused = show(report(finding()), "--out", str(tmp_path / name))
        assert refused.exit_code == 2 and message in refused.stderr
    assert scan("--recipe", "persona", "--report", "r.pdf").exit_code == 2


def test_scan_writes_its_report_to_a_file(scan: Any, lines: str, tmp_path: Path) -> None:
    result = scan("--recipe", "persona", "--dialogs", lines, "--report", "r.md")
    assert result.exit_code == 0 and (tmp_path / "r.md").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("form", [(), ("--html",), ("--md",), ("--json",), ("--junit",)])
def test_redirected_reports_are_utf8_whatever_the_code_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: tuple[str, ...]
) -> None:
    from audit_lit.cli import cli
    from audit_lit.report import audit_report

    (tmp_path / "run.json").touch()
    monkeypatch.setattr(audit_report, "load_report", lambda _: report(finding(description="你好 👋 Zoë")))
    result = CliRunner(charset="cp1252").invoke(cli, ["report", str(tmp_path), *form])
    assert result.exit_code == 1 and "你好 👋 Zoë" in result.stdout_bytes.decode("utf-8")


def test_what_an_audit_read_is_audited_again_without_the_target(scan: Any, lines: str) -> None:
    first = scan("--recipe", "persona", "--dialogs", lines, "--save-activations", "kept", "--out", "run", "--json")
    assert first.exit_code == 0, first.output
    again = run("scan", "--recipe", "persona", "--activations", "kept", "--out", "again", "--json", *FAST_SETTINGS)
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["findings"] == json.loads(first.stdout)["findings"]
    assert "the target does not run" in again.stderr and run("report", "again").exit_code == 0
    for option in (["--dialogs", lines], ["--system", "x"], ["--baseline", "x"], ["--save-activations", "b"]):
        refused = run("scan", "--activations", "kept", *option)
        assert refused.exit_code == 2 and "use one of them" in refused.stderr.replace("\n", " "), refused.output
    refused = run("scan", "tiny", "--activations", "kept")
    assert refused.exit_code == 2 and "target is about one to come" in refused.stderr


def test_organisms_are_no_part_of_an_audit_of_files(lines: str, tmp_path: Path) -> None:
    result = run("scan", "--activations", str(tmp_path), "--library", lines)
    assert result.exit_code == 2 and "and --library is about one to come" in result.stderr
