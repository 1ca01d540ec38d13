"""Run folders: which are refused, and what a full disk leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.reports import finished_records
from helpers.support import FAST, dialogs, record

from audit_lit.errors import ScanError


def test_run_folders_are_refused_when_they_cannot_be_used(auditor: Any, tmp_path: Path) -> None:
    from filelock import FileLock

    run = tmp_path / "run"
    auditor.scan(dialogs(1), "persona", out=run, **FAST)
    with pytest.raises(ScanError, match="differs in dialogs, n_dialogs, n_twins"):
        auditor.scan(dialogs(2), "persona", out=run, **FAST)
    with pytest.raises(ScanError, match="differs in seed"):
        auditor.scan(dialogs(1), "persona", out=run, seed=1, **FAST)
    with FileLock(run / ".lock"), pytest.raises(ScanError, match="in use by another run"):
        auditor.scan(dialogs(1), "persona", out=run, **FAST)
    (tmp_path / "file").write_text("")
    with pytest.raises(ScanError, match="cannot be used as a folder"):
        auditor.scan(dialogs(1), "persona", out=tmp_path / "file", **FAST)


@pytest.mark.parametrize("content", ["{}", "[]", '{"data": null, "recipe": {}}', "mine"])
def test_a_folder_of_others_is_left_as_it_was(auditor: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ScanError, match=r"is not the folder of an audit|another kind of run"):
        auditor.scan(dialogs(1), "persona", out=tmp_path, **FAST)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_that_did_not_write_down_the_version_of_transformer_lens_goes_on(tmp_path: Path) -> None:
    from importlib.metadata import version

    from audit_lit.scan.folder import RUN, RunFolder

    def manifest(lens: str) -> dict[str, Any]:
        versions = {"audit_lit": "1", "torch": "2", "transformers": "5", "transformer_lens": lens}
        return {"recipe": {}, "questions": [], "threshold": 0.1, "n_dialogs": 1, "versions": versions}

    folder = RunFolder(tmp_path)
    with folder.claimed(manifest("unknown")):
        pass
    with folder.claimed(manifest(version("transformer-lens"))):
        pass
    (tmp_path / RUN).unlink()
    with folder.claimed(manifest("4.0.0")):
        pass
    with pytest.raises(ScanError, match="differs in versions"), folder.claimed(manifest("4.1.0")):
        pass


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
    assert len(finished_records(tmp_path / "run")) == 1


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    from audit_lit.errors import ScanError
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.records import UnreadDialog

    records = [record(0, 0.5, 5.0, [0.0, 1.0]), UnreadDialog(1, "b", "DialogError: too long")]
    folder = RunFolder(tmp_path)
    folder.append(0, records)
    assert list(folder.records()) == records
    with (tmp_path / "records-0.jsonl").open("a") as file:
        file.write('{"id": "3"}\n')
    with pytest.raises(ScanError, match=r"line 3 is not a record of an audit"):
        list(folder.records())
