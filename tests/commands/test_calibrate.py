"""``audit-lit calibrate``, and what other commands say of a calibration: output and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.calibrations import QUICK, record
from helpers.commands import run
from helpers.support import FAST, dialogs, write_lines

OPTIONS = ["--dialogs", str(QUICK["dialogs"]), "--batch-size", str(QUICK["batch_size"])]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few claims and requests, and few dialogs where a scan calibrates."""
    from audit_lit.calibration import calibrate

    asked, requests, quick = calibrate.asked_claims(0)[:8], ("Who are you?",), calibrate.CalibrationSettings(**QUICK)
    monkeypatch.setattr(calibrate, "asked_claims", lambda _: asked)
    monkeypatch.setattr(calibrate, "harmless_requests", lambda: requests)
    monkeypatch.setattr(calibrate, "CalibrationSettings", lambda: quick)


@pytest.fixture
def own_pair(tiny_folder: Path, make_decoder: Any, tmp_path: Path) -> list[str]:
    """Options that name the tiny target and a decoder that has no threshold, in a folder of its own."""
    make_decoder(lora_scaling=2.0).save(tmp_path / "own")
    return ["--target", str(tiny_folder), "--decoder", str(tmp_path / "own")]


def test_measures_prints_and_keeps(own_pair: list[str], tmp_path: Path) -> None:
    asked = run("ask", "Who?", "--user", "Hi", "--samples", "0", "--max-new-tokens", "2", *own_pair)
    assert asked.exit_code == 0 and "verdict:   not calibrated" in asked.stdout
    assert f"audit-lit calibrate --target {own_pair[1]} --decoder {own_pair[3]}" in asked.stderr

    out = tmp_path / "out.json"
    measured = run("calibrate", *own_pair, *OPTIONS, "--out", str(out))
    assert measured.exit_code == 0, measured.output
    for expected in ("threshold", "about nothing", "calibration error", "with nothing injected", "95% interval"):
        assert expected in measured.stdout
    assert "calibrate: dialogs" in measured.stderr and str(tmp_path / "own" / "calibration.json") in measured.stderr
    (written,) = json.loads(out.read_text())["calibrations"]
    again = run("calibrate", *own_pair, *OPTIONS, "--out", str(out), "--json")
    assert again.exit_code == 0 and json.loads(again.stdout) == written
    assert "calibrate: dialogs" not in again.stderr  # it is kept

    asked = run("ask", "Who?", "--user", "Hi", "--samples", "0", "--max-new-tokens", "2", *own_pair)
    assert asked.exit_code == 0 and "not calibrated" not in asked.output


def test_a_scan_calibrates_and_runs_through(own_pair: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    lines = write_lines(tmp_path / "dialogs.jsonl", dialogs(1))
    settings = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    command = ["scan", own_pair[1], *own_pair[2:], "--recipe", "persona", "--dialogs", str(lines), *settings]
    first = run(*command, "--out", "run")
    assert first.exit_code in (0, 1), first.output  # whatever a random decoder says
    assert "measured first, from 400 answers" in first.stderr and "calibrate: dialogs" in first.stderr
    assert f"the calibration is kept in {tmp_path / 'own' / 'calibration.json'}: threshold" in first.stderr
    second = run(*command, "--out", "run")
    assert second.exit_code == first.exit_code and second.stdout == first.stdout
    assert "measured first" not in second.stderr


def test_a_file_of_another_kind_is_not_written_over(own_pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("[]")
    result = run("calibrate", *own_pair, *OPTIONS, "--out", str(tmp_path / "notes.json"))
    assert result.exit_code == 2 and "no file of calibrations" in result.stderr
    assert (tmp_path / "notes.json").read_text() == "[]"


def test_a_calibration_of_another_decoder_is_ignored_in_words(
    own_pair: list[str], make_decoder: Any, target: Any, tmp_path: Path
) -> None:
    from audit_lit.decoder.calibration_files import CalibrationFile

    other = record(make_decoder(n_edge=7, name="another"), target)
    CalibrationFile(calibrations=(other,)).save(tmp_path / "own" / "calibration.json")
    result = run("ask", "Who?", "--user", "Hi", "--samples", "0", "--max-new-tokens", "2", *own_pair)
    assert result.exit_code == 0 and "is of another decoder or target ('another'" in result.stderr


def test_a_broken_calibration_exits_2(own_pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "own" / "calibration.json").write_text("{")
    result = run("ask", "Who?", "--user", "Hi", *own_pair)
    assert result.exit_code == 2 and "Expected" not in result.stdout and "calibration.json" in result.stderr


def test_an_interrupted_one_exits_3(own_pair: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.calibration.nothing import Nothings

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Nothings, "lifts", interrupted)
    result = run("calibrate", *own_pair, *OPTIONS)
    assert result.exit_code == 3 and "finished parts are kept" in result.stderr


def test_an_unfinished_one_is_shown_as_such(
    own_pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_lit.calibration import calibrate

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "refusals", interrupted)
        assert run("calibrate", *own_pair, *OPTIONS).exit_code == 3
    part = run("calibrate", *own_pair, *OPTIONS, "--no-safety")
    assert part.exit_code == 0 and "unfinished: no safety card" in part.stdout
    path = tmp_path / "own" / "calibration.json"
    content = json.loads(path.read_text())
    content["calibrations"][0]["claims"] = None  # as an interruption before them leaves it
    path.write_text(json.dumps(content))
    asked = run("ask", "--claim", "persona: x", "--user", "Hi", *own_pair)
    assert asked.exit_code == 0 and "since their scale was not measured: run 'audit-lit calibrate" in asked.stderr
    whole = run("calibrate", *own_pair, *OPTIONS)
    assert whole.exit_code == 0 and "unfinished: no" not in whole.output


def test_lists_and_doctor_show_what_is_kept(make_decoder: Any, target: Any) -> None:
    from audit_lit.decoder.calibration_files import store

    decoder = make_decoder(name="audit-lit/smollm2-135m")
    kept = record(decoder, target)
    store(kept, decoder)
    assert kept.summary in run("decoders").stdout
    entry = json.loads(run("decoders", "--json").stdout)[0]
    assert entry["calibrations"] == [kept.model_dump(mode="json")]
    checks = {check["what"]: check for check in json.loads(run("doctor", "--json").stdout)}
    assert kept.summary in checks["calibrations"]["found"] and checks["calibrations"]["ok"]
