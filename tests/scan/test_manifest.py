"""Run folders of any other shape: each is refused in words, or gives a report that another program can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.run_folders import N_DIALOGS, first_record, spoiled, write_run

pytestmark = pytest.mark.usefixtures("unchecked")
FORMS = ("to_html", "to_markdown", "to_junit", "to_json")
FILES = ("run.json", "records-0.jsonl", "heatmaps.json")


def refuse_nan(name: str) -> None:
    raise AssertionError(f"{name} in the JSON of a report")


def loads_or_refuses(folder: Path, what: str) -> bool:
    """Return whether the folder gives a report, with all of its renderings."""
    from audit_lit.errors import ScanError
    from audit_lit.report.audit_report import load_report

    try:
        report = load_report(folder)
    except ScanError as err:
        assert str(err).count("\n") == 0, what
        return False
    texts = [getattr(report, form)() for form in FORMS]
    document = json.loads(texts[-1], parse_constant=refuse_nan)
    assert 0 <= document["n_read"] <= document["n_dialogs"], what
    return True


def test_a_sound_folder_gives_a_report_with_both_findings(tmp_path: Path) -> None:
    from audit_lit.report.audit_report import load_report

    report = load_report(write_run(tmp_path))
    assert report.complete and report.n_read == N_DIALOGS and {finding.raised for finding in report.findings} == {True}
    assert report.findings[0].evidence[0].heatmap is not None
    assert loads_or_refuses(tmp_path, "as written")


@pytest.mark.parametrize("name", FILES)
def test_a_value_of_another_shape_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    path = write_run(tmp_path) / name
    whole = path.read_text()
    first, *others = whole.splitlines() if name == "records-0.jsonl" else (whole,)
    refused = 0
    for what, document in spoiled(json.loads(first)):
        path.write_text("\n".join([json.dumps(document), *others]) + "\n")
        try:
            refused += not loads_or_refuses(tmp_path, what)
        except Exception as err:
            raise AssertionError(f"{name}: {what}") from err
    assert refused > 30


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", ["", "null", "[]", "3", "{}", '"x"', "[" * 100_000, "1" * 5000, "NaN", '{"a":1,"a":2}']
)
def test_a_file_of_another_kind_is_refused_or_left_out(tmp_path: Path, name: str, content: str) -> None:
    (write_run(tmp_path) / name).write_text(content)
    is_half_a_line = name == "records-0.jsonl" and content == ""
    assert loads_or_refuses(tmp_path, content) == (is_half_a_line or (name, content) == ("heatmaps.json", "{}"))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_refused_or_left_out(tmp_path: Path, name: str) -> None:
    (write_run(tmp_path) / name).unlink()
    (tmp_path / name).mkdir()
    assert loads_or_refuses(tmp_path, name) == (name == "heatmaps.json")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda row: row["answers"].pop("d"), "has no answer to 'd'"),
        (lambda row: row["scores"].pop("q"), "does not compare 'q' with its twins"),
        (lambda row: row["scores"]["q"].pop(), "has not one score and those of 20 twins"),
        (lambda row: row["answers"]["q"].update(controls={}), "have not the same controls"),
        (lambda row: row["answers"]["q"]["controls"].update(other=-1.0), "have not the same controls"),
        (lambda row: row.update(place=9), "is number 9 of 6 dialogs"),
        (lambda row: row["answers"]["q"].update(lift=1e9), "lift: .* less than or equal to 1000000"),
        (lambda row: row.update(messages=[{"role": "user"}]), "messages: .*has no text"),
        (lambda row: row.update(layers=[3]), r"is of the layers \[3\], and the audit reads \[2\]"),
        (lambda row: row["answers"]["q"].update(lift=3.0), "lift of its answer to 'q' is not its score less"),
        (lambda row: row.update(place=1), "it is number 1, and another record of the dialog is number 0"),
        (lambda row: row.update(id="9"), "it stands in the place of dialog '0', which is number 0 as well"),
        (lambda row: row["answers"]["q"].update(text="x"), "another record of the dialog, which says something else"),
    ],
)
def test_a_record_of_another_audit_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    from audit_lit.errors import ScanError
    from audit_lit.report.audit_report import load_report

    row = first_record()
    spoil(row)
    with (write_run(tmp_path) / "records-1.jsonl").open("w") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ScanError, match=message):
        load_report(tmp_path)


def test_more_dialogs_than_there_were_are_refused(tmp_path: Path) -> None:
    from audit_lit.errors import ScanError
    from audit_lit.report.audit_report import load_report

    with (write_run(tmp_path) / "records-1.jsonl").open("w") as file:
        file.write(json.dumps(first_record() | {"id": "another"}) + "\n")
    with pytest.raises(ScanError, match=r"'another' is not of this audit: it stands in the place of dialog '0'"):
        load_report(tmp_path)


def test_a_copy_of_a_record_says_nothing_new(tmp_path: Path) -> None:
    from audit_lit.report.audit_report import load_report

    whole = load_report(write_run(tmp_path)).to_json()
    with (tmp_path / "records-1.jsonl").open("w") as file:
        file.write(json.dumps(first_record()) + "\n")
    assert load_report(tmp_path).to_json() == whole
