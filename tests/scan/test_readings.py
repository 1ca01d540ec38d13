"""Audits of activations of files: the same findings as of the target, and no finding on less than that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.support import FAST, count_calls, dialogs

from audit_lit import Auditor, Reading
from audit_lit.answers.reading import PREFIXES
from audit_lit.errors import ActivationError, DialogError, ScanError
from audit_lit.exchange import plan

RECIPE = "persona"


@pytest.fixture
def alone(auditor: Any) -> Auditor:
    """An auditor without a target."""
    return Auditor.without_target(auditor.decoder)


@pytest.fixture
def kept(auditor: Any, tmp_path: Path) -> tuple[Path, Any]:
    """A folder of readings that an audit wrote, and its report."""
    report = auditor.scan(dialogs(2), RECIPE, kept_in=tmp_path / "kept", **FAST)
    return tmp_path / "kept", report


def figures(report: Any) -> list[Any]:
    return [
        (
            finding.question.id,
            finding.raised,
            (finding.p_value, finding.lift, finding.neutral_scores),
            [(shown.tokens, shown.messages, shown.answer.text) for shown in finding.evidence],
        )
        for finding in report.findings
    ]


def test_an_audit_of_what_was_kept_finds_the_same(auditor: Any, alone: Auditor, kept: Any, tmp_path: Path) -> None:
    folder, expected = kept
    assert sorted(path.name for path in folder.iterdir()) == ["1.safetensors", "2.safetensors"]
    with count_calls(auditor.target.model) as calls:
        report = alone.scan(folder, RECIPE, out=tmp_path / "run", **FAST)
    assert not calls and report.complete and figures(report) == figures(expected)
    assert report.manifest["target"]["name"] == auditor.target.name
    assert [[shown.dialog for shown in finding.evidence] for finding in report.findings]
    again = alone.scan(folder, RECIPE, out=tmp_path / "run", **FAST)
    assert again.to_json() == report.to_json()
    change(folder / "1.safetensors", revision="other")
    change(folder / "2.safetensors", revision="other")
    with pytest.raises(ScanError, match="differs in dialogs, target"):
        alone.scan(folder, RECIPE, out=tmp_path / "run", **FAST)


def change(path: Path, **fields: Any) -> None:
    reading = Reading.load(path)
    replace(reading, **fields).save(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"decoys": None}, "shuffled is missing, and takes 8 decoys, of which copies count once"),
        ({"twins": None}, "the twins are missing"),
        ({"visible_text": None, "dialog": None}, "does not hold its dialog"),
        ({"reveal": "assistant"}, "reveals 'assistant', and the recipe 'user'"),
    ],
)
def test_files_that_do_not_allow_all_controls_are_not_read(
    alone: Auditor, kept: Any, fields: dict[str, Any], words: str
) -> None:
    folder, _ = kept
    change(folder / "2.safetensors", **fields)
    with pytest.raises(DialogError, match=rf"2\.safetensors.*{words}"):
        alone.scan(folder, RECIPE, **FAST)


def test_files_that_cannot_be_read_leave_an_audit_incomplete(alone: Auditor, kept: Any) -> None:
    folder, _ = kept
    change(folder / "2.safetensors", decoys=None)
    (folder / "1.safetensors").rename(folder / "a.safetensors")
    for number in range(3, 6):
        (folder / f"{number}.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    report = alone.scan(folder, RECIPE, skip_unreadable=True, **FAST)
    assert not report.complete and report.n_read == 4
    ((name, error),) = report.errors
    assert name == "2" and "shuffled is missing, and takes 8 decoys, of which copies count once" in error


def test_a_broken_file_that_is_skipped_asks_no_more_twins_of_the_others(alone: Auditor, kept: Any) -> None:
    folder, expected = kept
    (folder / "2.safetensors").write_bytes(b"")
    report = alone.scan(folder, RECIPE, skip_unreadable=True, **FAST)
    assert not report.complete and report.n_read == 1
    assert report.manifest["n_twins"] == expected.manifest["n_twins"]


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda reading: reading.twins.rows([3] * len(reading.twins)), "of which only 1 differ"),
        (lambda reading: reading.activations.rows([0] * len(reading.twins)), "of which only 1 differ"),
        (lambda reading: reading.decoys.rows([n % 8 for n in range(len(reading.twins))]), "is a copy of a decoy"),
        (lambda reading: reading.twins.rows([]), "the twins are missing"),
    ],
)
def test_copies_are_no_neutral_twins(alone: Auditor, kept: Any, of: Any, words: str) -> None:
    folder, _ = kept
    change(folder / "2.safetensors", twins=of(Reading.load(folder / "2.safetensors")))
    with pytest.raises(DialogError, match=rf"2\.safetensors.*{words}"):
        alone.scan(folder, RECIPE, **FAST)


def test_the_ending_of_a_file_may_be_in_capitals(alone: Auditor, kept: Any) -> None:
    folder, expected = kept
    (folder / "2.safetensors").rename(folder / "2.SAFETENSORS")
    assert figures(alone.scan(folder, RECIPE, **FAST)) == figures(expected)


def test_folders_that_cannot_be_audited_are_refused(auditor: Any, alone: Auditor, kept: Any, tmp_path: Path) -> None:
    folder, _ = kept
    reading = Reading.load(folder / "1.safetensors")
    assert reading.twins is not None
    change(folder / "1.safetensors", twins=reading.twins.rows([0, 1]))
    with pytest.raises(ScanError, match="a file with 2 neutral twins, and this audit needs"):
        alone.scan(folder, RECIPE, **FAST)
    change(folder / "1.safetensors", twins=reading.twins, revision="other")
    with pytest.raises(ScanError, match=r"readings of .* and of .*; expected one model"):
        alone.scan(folder, RECIPE, **FAST)
    (folder / "1.safetensors").write_bytes(b"")
    with pytest.raises(ActivationError, match="is not a complete file"):
        alone.scan(folder, RECIPE, **FAST)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DialogError, match="expected one for each dialog"):
        alone.scan(tmp_path / "empty", RECIPE, **FAST)
    with pytest.raises(ScanError, match="expected no baseline, and none to keep"):
        auditor.scan(folder, RECIPE, kept_in=tmp_path / "again", **FAST)


def test_a_plan_holds_the_twins_that_an_audit_needs(make_decoder: Any, dialog: Any) -> None:
    planned = plan(dialog, make_decoder(), n_twins=3)
    assert len(planned.prompts) == 1 + 8 + 3 == len(planned.positions)
    assert planned == plan(dialog, make_decoder(), n_twins=3)
    tokens = {tuple(prompt[place] for place in places) for prompt, places in zip(*both(planned), strict=True)}
    assert len(tokens) == 1 and set(PREFIXES) == {"activations", "decoys", "twins"}


def both(planned: Any) -> tuple[Any, Any]:
    return planned.prompts, planned.positions


def test_ids_that_are_no_names_of_files_become_numbers(auditor: Any, tmp_path: Path) -> None:
    path = tmp_path / "dialogs.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"../{n}", "messages": line}) + "\n" for n, line in enumerate(dialogs(2)))
    )
    auditor.scan(path, RECIPE, kept_in=tmp_path / "kept", **FAST)
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["dialog-000000.safetensors", "dialog-000001.safetensors"]
