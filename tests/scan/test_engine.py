"""The engine: records, run folders, resumed runs, several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.support import DIALOG, FAST, dialogs, record, write_lines


def test_records_say_what_ask_says(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.recipe import load_scan_recipe

    report = auditor.scan(dialogs(3), "hidden-prompt", out=tmp_path / "run", **FAST)
    records = list(RunFolder(tmp_path / "run").records())
    assert [one["id"] for one in records] == ["1", "2", "3"] and report.complete and report.n_read == 3
    question = load_scan_recipe("hidden-prompt")[1][0]
    alone = auditor.ask(dialogs(3)[1], question.text, samples=0, max_new_tokens=4)
    found = records[1]["answers"][question.id]
    assert found["text"] == alone.text and found["lift"] == pytest.approx(alone.lift, abs=1e-4)
    assert found["controls"] == pytest.approx(alone.controls, abs=1e-4)


def test_scores_are_the_expected_answers_nats(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.recipe import load_scan_recipe

    auditor.scan(dialogs(1), "hidden-prompt", out=tmp_path / "run", **FAST)
    (found,) = RunFolder(tmp_path / "run").records()
    question = load_scan_recipe("hidden-prompt")[1][0]
    own = auditor.read(dialogs(1)[0]).activations
    nats = auditor.decoder.logprob(own, [question.text], [question.expected])[0]
    assert found["scores"][question.id][0] == pytest.approx(-float(nats.mean()), abs=1e-4)
    assert len(found["scores"][question.id]) == 1 + 41 and len(set(found["scores"][question.id])) > 2


@pytest.mark.parametrize("recipe", ["hidden-prompt", "persona", "user-model", "deception"])
def test_every_shipped_recipe_asks_all_that_it_names(auditor: Any, recipe: str) -> None:
    from audit_lit.scan.recipe import load_scan_recipe

    report = auditor.scan(dialogs(2), recipe, **FAST)
    questions = load_scan_recipe(recipe)[1]
    assert report.complete and report.n_read == 2
    assert [finding.question.id for finding in report.findings] == [question.id for question in questions]


def without_order(path: Path) -> list[str]:
    lines = [line for file in path.glob("records-*.jsonl") for line in file.read_text().splitlines()]
    return sorted(line for line in lines if line.endswith("}}"))


def test_a_killed_run_goes_on_without_redoing_or_losing(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.scan import engine
    from audit_lit.scan.measure import Measurement

    monkeypatch.setattr(engine, "CHUNK", 2)
    whole = auditor.scan(dialogs(5), "persona", out=tmp_path / "whole", **FAST)
    measured: list[str] = []
    original = Measurement.records

    def dies(self: Any, cases: Any) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.extend(case.id for case in cases)
        return original(self, cases)

    monkeypatch.setattr(Measurement, "records", dies)
    with pytest.raises(KeyboardInterrupt):
        auditor.scan(dialogs(5), "persona", out=tmp_path / "run", **FAST)
    with (tmp_path / "run" / "records-0.jsonl").open("a") as file:
        file.write('{"id": "3", "half": {}')  # what kill -9 leaves

    def counted(self: Any, cases: Any) -> Any:
        measured.extend(case.id for case in cases)
        return original(self, cases)

    monkeypatch.setattr(Measurement, "records", counted)
    again = auditor.scan(dialogs(5), "persona", out=tmp_path / "run", **FAST)
    assert measured == ["1", "2", "3", "4", "5"]
    assert again.to_json() == whole.to_json()
    assert without_order(tmp_path / "run") == without_order(tmp_path / "whole")
    assert (tmp_path / "run" / "report.json").read_text() == whole.to_json() + "\n"


def test_several_processes_share_the_dialogs(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from dataclasses import dataclass

    import accelerate

    from audit_lit.scan import engine

    @dataclass
    class State:
        process_index: int
        num_processes: int = 2

        @property
        def is_main_process(self) -> bool:
            return self.process_index == 0

        def wait_for_everyone(self) -> None:
            pass

    monkeypatch.setattr(engine, "CHUNK", 2)
    one = auditor.scan(dialogs(5), "persona", out=tmp_path / "one", **FAST)
    for rank in (1, 0):
        monkeypatch.setattr(accelerate, "PartialState", lambda cpu, rank=rank: State(rank if cpu else -1))
        if rank == 1:  # the main process writes it first
            (tmp_path / "two").mkdir()
            (tmp_path / "two" / "run.json").write_bytes((tmp_path / "one" / "run.json").read_bytes())
        two = auditor.scan(dialogs(5), "persona", out=tmp_path / "two", **FAST)
    assert {path.name for path in (tmp_path / "two").glob("records*")} == {"records-0.jsonl", "records-1.jsonl"}
    assert two.to_json() == one.to_json()


def test_a_dialog_that_fails_while_read_leaves_the_audit_incomplete(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.errors import DialogError
    from audit_lit.scan.outcome import load_report

    original, broken = auditor.decoder.check_length, [True]

    def check_length(prompts: Any, n_new: int) -> None:
        if broken[0] and any("number 1" in auditor.target.tokenizer.decode(one.token_ids) for one in prompts):
            raise DialogError("a reader of text does not fit")  # its prompt is longer than the dialog
        original(prompts, n_new)

    auditor.decoder.check_length = check_length
    report = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert (
        not report.complete
        and report.n_read == 2
        and report.errors == (("2", "DialogError: a reader of text does not fit"),)
    )
    assert report.verdict.startswith("incomplete, 1 of 3")
    assert not load_report(tmp_path / "run").complete
    broken[0] = False
    (tmp_path / "run" / "records-0.jsonl").rename(tmp_path / "run" / "records-1.jsonl")  # of a run in two processes
    again = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert again.complete and not again.errors


def test_heatmaps_follow_the_best_evidence_and_records_are_read_once(
    auditor: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from audit_lit.answers.patching import Heatmap
    from audit_lit.scan import engine
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.measure import Measurement

    patched, read, lifts = [], [], {"1": 0.5, "2": 0.9, "3": 0.7}

    def records(self: Any, cases: Any) -> Any:
        for case in cases:
            row = record(int(case.id), lifts[case.id], 5.0, [0.0] * 41)
            if lifts[case.id] > whole:
                yield {"id": case.id, "error": "not yet"}
                continue
            names = ("persona-name", "persona-topic", "persona-or-goal")
            yield row | {key: dict.fromkeys(names, row[key]["q"]) for key in ("answers", "expected", "scores")}

    def patch(_auditor: Any, messages: Any, *_: Any, **__: Any) -> Heatmap:
        patched.append(messages[-1]["content"])
        return Heatmap(("a",), (0,), ((float(len(patched)),),), 1.0)

    original = RunFolder.records
    monkeypatch.setattr(Measurement, "records", records)
    monkeypatch.setattr(engine, "patch", patch)
    monkeypatch.setattr(RunFolder, "records", lambda self: read.append(1) or original(self))
    for whole, best in ((0.8, "3"), (1.0, "2"), (1.0, "2")):
        report = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
        assert len(report.raised) == 3 and report.complete == (whole == 1.0)
        for finding in report.raised:
            assert [one.dialog for one in finding.evidence if one.heatmap] == [best] == [finding.evidence[0].dialog]
    assert len(patched) == 2 * 3  # the third run keeps those of the second
    assert len(read) <= 3 * 4


def test_run_folders_are_refused_when_they_cannot_be_used(auditor: Any, tmp_path: Path) -> None:
    from filelock import FileLock

    from audit_lit.errors import ScanError

    run = tmp_path / "run"
    auditor.scan(dialogs(1), "persona", out=run, **FAST)
    with pytest.raises(ScanError, match="differs in dialogs, n_dialogs, n_twins"):
        auditor.scan(dialogs(2), "persona", out=run, **FAST)
    with pytest.raises(ScanError, match="differs in seed"):
        auditor.scan(dialogs(1), "persona", out=run, seed=1, **FAST)
    with FileLock(run / ".lock"), pytest.raises(ScanError, match="in use by another run"):
        auditor.scan(dialogs(1), "persona", out=run, **FAST)
    (tmp_path / "file").write_text("")
    with pytest.raises(ScanError, match="no folder"):
        auditor.scan(dialogs(1), "persona", out=tmp_path / "file", **FAST)


def test_a_decoder_without_a_threshold_needs_one(auditor: Any, target: Any, make_decoder: Any, tmp_path: Path) -> None:
    from audit_lit import Auditor
    from audit_lit.errors import ScanError

    unmeasured = Auditor(target, make_decoder())
    with pytest.raises(ScanError, match=r"nobody measured.*min_lift"):
        unmeasured.scan(dialogs(1), "persona", out=tmp_path / "run", **FAST)
    assert unmeasured.scan(dialogs(1), "persona", min_lift=0.2, **FAST).findings[0].threshold == 0.2


def test_a_full_disk_keeps_what_is_finished(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.errors import Incomplete
    from audit_lit.scan import engine, folder

    monkeypatch.setattr(engine, "CHUNK", 1)
    original, written = folder.RunFolder.append, []

    def full(self: Any, rank: int, records: Any) -> None:
        if len(written) == 1:
            monkeypatch.setattr(folder, "RECORDS", "full/records-{rank}.jsonl")  # a path that cannot be opened
        written.append(records)
        original(self, rank, records)

    monkeypatch.setattr(folder.RunFolder, "append", full)
    with pytest.raises(Incomplete, match="what is finished is kept"):
        auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert len(without_order(tmp_path / "run")) == 1


def test_dialogs_that_do_not_fit_are_named_before_anything_runs(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.errors import DialogError

    long = [{"role": "user", "content": "word " * 300_000}]
    path = write_lines(tmp_path / "d.jsonl", [DIALOG, long])
    with pytest.raises(DialogError, match=r"line 2 has \d+ tokens; the target's context holds"):
        auditor.scan(path, "persona", out=tmp_path / "run", **FAST)
    with pytest.raises(DialogError, match=r"line 1: reveal='user' selects nothing"):
        auditor.scan(write_lines(path, [DIALOG[:1]]), "persona", out=tmp_path / "run", **FAST)
    assert not (tmp_path / "run").exists()


def test_twins_run_in_the_baseline(auditor: Any, tmp_path: Path, tiny_folder: Path) -> None:
    import torch

    from audit_lit import load_target
    from audit_lit.scan.folder import RunFolder

    tuned = load_target(str(tiny_folder))
    with torch.no_grad():
        tuned.base.model.layers[1].mlp.down_proj.weight.mul_(3)
    from audit_lit import Auditor

    bare = [dialog[1:] for dialog in dialogs(1)]
    scores = {}
    for name, baseline in (("own", None), ("clean", auditor.target)):
        Auditor(tuned, auditor.decoder).scan(bare, "persona", out=tmp_path / name, baseline=baseline, **FAST)
        scores[name] = next(RunFolder(tmp_path / name).records())["scores"]["persona-name"]
    assert scores["own"][0] == scores["own"][1]  # the bare twin is the dialog itself
    assert scores["clean"][0] == scores["own"][0] and scores["clean"][1] != scores["own"][1]
