"""The engine: shipped recipes, resumed runs, several processes, heatmaps, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.calibrations import QUICK
from helpers.calibrations import record as calibration
from helpers.reports import finished_records
from helpers.support import DIALOG, FAST, dialogs, record, write_lines

from audit_lit.errors import RecipeError, ScanError


@pytest.mark.parametrize("recipe", ["hidden-prompt", "persona", "user-model", "deception"])
def test_every_shipped_recipe_asks_all_that_it_names(auditor: Any, recipe: str) -> None:
    from audit_lit.scan.recipe import load_scan_recipe

    report = auditor.scan(dialogs(2), recipe, **FAST)
    questions = load_scan_recipe(recipe)[1]
    assert report.complete and report.n_read == 2
    assert [finding.question.id for finding in report.findings] == [question.id for question in questions]


def test_a_killed_run_goes_on_without_redoing_or_losing(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.scan import engine
    from audit_lit.scan.measure import Measurement

    monkeypatch.setattr(engine, "CHUNK", 2)
    whole = auditor.scan(dialogs(5), "persona", out=tmp_path / "whole", **FAST)
    measured: list[str] = []
    original = Measurement.records

    def dies(self: Any, chunk: Any, first: int) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.extend(dialog.id for dialog in chunk)
        return original(self, chunk, first)

    monkeypatch.setattr(Measurement, "records", dies)
    with pytest.raises(KeyboardInterrupt):
        auditor.scan(dialogs(5), "persona", out=tmp_path / "run", **FAST)
    with (tmp_path / "run" / "records-0.jsonl").open("a") as file:
        file.write('{"id": "3", "half": {}')  # what kill -9 leaves

    def counted(self: Any, chunk: Any, first: int) -> Any:
        measured.extend(dialog.id for dialog in chunk)
        return original(self, chunk, first)

    monkeypatch.setattr(Measurement, "records", counted)
    again = auditor.scan(dialogs(5), "persona", out=tmp_path / "run", **FAST)
    assert measured == ["1", "2", "3", "4", "5"]
    assert again.to_json() == whole.to_json()
    assert finished_records(tmp_path / "run") == finished_records(tmp_path / "whole")
    assert (tmp_path / "run" / "report.json").read_text() == whole.to_json() + "\n"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[0].update(messages=DIALOG), "'1' is not of this audit: it has other messages"),
        (lambda rows: rows[0].update(place=2), "'1' is not of this audit: it is number 2, and the dialog number 0"),
        (lambda rows: rows[0].update(place=1) or rows[1].update(place=0), "'1' is not of this audit: it is number 1"),
        (lambda rows: rows[0].update(id="x"), "'x' is not of this audit: no dialog has that id"),
        (lambda rows: rows[0].update(layers=[3]), "'1' is not of this audit: it is of the layers"),
        (lambda rows: rows.append(rows[0] | {"tokens": ["a"]}), "'1' is not of this audit: there is another record"),
    ],
)
def test_a_record_that_somebody_changed_stops_a_run_before_it_measures(
    auditor: Any, tmp_path: Path, monkeypatch: Any, spoil: Any, message: str
) -> None:
    from audit_lit.scan.measure import Measurement

    auditor.scan(dialogs(3), "persona", out=tmp_path, **FAST)
    path = tmp_path / "records-0.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()][:2]  # the last is not finished
    spoil(rows)
    write_lines(path, rows)
    monkeypatch.setattr(Measurement, "records", lambda *_: pytest.fail("it measures"))
    with pytest.raises(ScanError, match=message + r".*Delete its line in records-\*.jsonl"):
        auditor.scan(dialogs(3), "persona", out=tmp_path, **FAST)


def test_a_chunk_that_was_cut_off_gives_no_second_record(auditor: Any, tmp_path: Path) -> None:
    whole = auditor.scan(dialogs(3), "persona", out=tmp_path, **FAST)
    path = tmp_path / "records-0.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert auditor.scan(dialogs(3), "persona", out=tmp_path, **FAST).to_json() == whole.to_json()
    assert len(finished_records(tmp_path)) == 3


@dataclass
class State:
    """What Accelerate tells a process about itself and the others."""

    process_index: int
    num_processes: int = 2

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0

    def wait_for_everyone(self) -> None:
        pass


def test_several_processes_share_the_dialogs(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    import accelerate

    from audit_lit.scan import engine

    monkeypatch.setattr(engine, "CHUNK", 2)
    alone = auditor.scan(dialogs(5), "persona", out=tmp_path / "one", **FAST)
    for rank in (1, 0):
        monkeypatch.setattr(accelerate, "PartialState", lambda cpu, rank=rank: State(rank if cpu else -1))
        if rank == 1:  # the main process writes it first
            (tmp_path / "two").mkdir()
            (tmp_path / "two" / "run.json").write_bytes((tmp_path / "one" / "run.json").read_bytes())
        together = auditor.scan(dialogs(5), "persona", out=tmp_path / "two", **FAST)
    assert {path.name for path in (tmp_path / "two").glob("records*")} == {"records-0.jsonl", "records-1.jsonl"}
    assert together.to_json() == alone.to_json()


def test_a_dialog_that_fails_while_read_leaves_the_audit_incomplete(
    auditor: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from audit_lit.decoder.text_baseline import TextBaseline
    from audit_lit.errors import QuestionError
    from audit_lit.report.audit_report import load_report

    original, broken = TextBaseline.check_length, [True]

    def check_length(self: Any, prompts: Any, n_new: int) -> None:
        texts = (self.tokenizer.decode(prompt.token_ids) for prompt in prompts)
        if broken[0] and any("number 1" in text for text in texts):
            raise QuestionError("a text baseline does not fit")  # its prompt is longer than the dialog
        original(self, prompts, n_new)

    monkeypatch.setattr(TextBaseline, "check_length", check_length)
    report = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert not report.complete and report.n_read == 2
    assert report.errors == (("2", "QuestionError: a text baseline does not fit"),)
    assert report.verdict.startswith("incomplete, 1 of 3")
    assert not load_report(tmp_path / "run").complete
    broken[0] = False
    (tmp_path / "run" / "records-0.jsonl").rename(tmp_path / "run" / "records-1.jsonl")  # of a run in two processes
    again = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert again.complete and not again.errors


def test_a_threshold_that_is_missing_is_measured_first(
    target: Any, make_decoder: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from audit_lit import Auditor
    from audit_lit.calibration import calibrate, nothing
    from audit_lit.decoder.calibration_files import stored_calibrations

    quick = calibrate.CalibrationSettings(**QUICK)
    monkeypatch.setattr(calibrate, "CalibrationSettings", lambda: quick)
    unmeasured = Auditor(target, make_decoder())
    assert unmeasured.scan(dialogs(1), "persona", min_lift=0.2, **FAST).findings[0].threshold == 0.2
    assert not stored_calibrations()  # the settings gave one
    report = unmeasured.scan(dialogs(1), "persona", out=tmp_path / "run", **FAST)
    (record,) = stored_calibrations()
    lower = Auditor(target, make_decoder()).scan(dialogs(1), "persona", min_lift=record.lift_threshold - 1, **FAST)
    assert lower.findings[0].threshold == record.lift_threshold  # the highest counts
    assert report.findings[0].threshold == record.lift_threshold and record.claims is None
    assert report.manifest["calibration"] == record.model_dump(mode="json")
    assert record.summary in report.to_markdown().replace("\\", "") and "Calibration" in report.to_html()
    monkeypatch.setattr(nothing.Nothings, "lifts", None)
    again = Auditor(target, make_decoder()).scan(dialogs(1), "persona", out=tmp_path / "run", **FAST)
    assert again.to_json() == report.to_json()


def test_it_is_measured_in_the_baseline_and_not_in_several_processes(
    target: Any, make_decoder: Any, monkeypatch: Any
) -> None:
    from audit_lit.answers.session import Session
    from audit_lit.scan import engine

    session, clean = Session.of(target, make_decoder()), replace(target, name="clean")
    measured_in, fitting = [], calibration(session.decoder, target)

    def calibrate(used: Any, *, parts: tuple[str, ...]) -> Any:
        assert not parts
        measured_in.append(used.target.name)
        return fitting

    monkeypatch.setattr(engine, "calibrate", calibrate)
    assert engine._measure_threshold(session, clean).decoder.config.lift_threshold == 0.25
    engine._measure_threshold(session, None)
    assert measured_in == ["clean", target.name]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ScanError, match=r"the threshold of 'tiny' has not been measured.*calibrate.*min_lift"):
        engine._measure_threshold(session, None)


def test_dialogs_that_do_not_fit_are_named_before_anything_runs(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.errors import DialogError

    long = [{"role": "user", "content": "word " * 300_000}]
    path = write_lines(tmp_path / "d.jsonl", [DIALOG, long])
    with pytest.raises(DialogError, match=r"line 2 has \d+ tokens; the target's context holds"):
        auditor.scan(path, "persona", out=tmp_path / "run", **FAST)
    with pytest.raises(DialogError, match=r"line 1: reveal='user' selects nothing"):
        auditor.scan(write_lines(path, [DIALOG[:1]]), "persona", out=tmp_path / "run", **FAST)
    assert not (tmp_path / "run").exists()


def test_heatmaps_follow_the_best_evidence_and_records_are_read_once(
    auditor: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from audit_lit.answers.patching import Heatmap
    from audit_lit.scan import engine
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.measure import Measurement
    from audit_lit.scan.records import UnreadDialog

    patched, read, lifts = [], [], {"1": 0.5, "2": 0.9, "3": 0.7}
    questions = ("persona-name", "persona-topic", "persona-or-goal")

    def records(_measurement: Any, chunk: Any, first: int) -> Any:
        return [
            UnreadDialog(place, dialog.id, "not yet")
            if lifts[dialog.id] > readable
            else replace(
                record(place, lifts[dialog.id], 5.0, [0.0] * 15, compared=questions),
                id=dialog.id,
                messages=dialog.messages,
            )
            for place, dialog in enumerate(chunk, start=first)
        ]

    def patch(_session: Any, messages: Any, *_: Any, **__: Any) -> Heatmap:
        patched.append(messages[-1]["content"])
        return Heatmap(("a",), (0,), ((float(len(patched)),),), 1.0)

    original = RunFolder.records
    monkeypatch.setattr(Measurement, "records", records)
    monkeypatch.setattr(engine, "patch_activations", patch)
    monkeypatch.setattr(RunFolder, "records", lambda self: read.append(1) or original(self))
    for readable, best in ((0.8, "3"), (1.0, "2"), (1.0, "2")):
        report = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
        assert len(report.raised) == 3 and report.complete == (readable == 1.0)
        for finding in report.raised:
            with_heatmap = [evidence.dialog for evidence in finding.evidence if evidence.heatmap]
            assert with_heatmap == [best] == [finding.evidence[0].dialog]
    assert len(patched) == 2 * 3  # the third run keeps those of the second
    assert len(read) <= 3 * 4


@pytest.mark.parametrize("settings", [{"alpha": 1e-320}, {"alpha": 1e-9}, {"alpha": 2e-6}, {"twins": 100_000_000}])
def test_more_twins_than_an_audit_ends_with_are_refused(auditor: Any, settings: dict[str, float]) -> None:
    with pytest.raises((RecipeError, ScanError), match=r"alpha|twins"):
        auditor.scan(dialogs(3), "persona", **settings)
