"""What reaches a terminal: every character can be seen, in results, JSON, notes and errors; nothing waits for ever."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import run
from hypothesis import given
from hypothesis import strategies as st

from audit_lit.display.inert import inert
from audit_lit.files.writing import dump_json

EVIL = "\x1b[2J\x9b31m\x7f\u202e\u2066\u200f\x07evil"


def is_inert(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda values: st.dictionaries(st.text(), values) | st.lists(values)
    )
)
def test_json_is_inert_and_holds_the_same(value: Any) -> None:
    for indent in (None, 2):
        text = dump_json(value, indent=indent)
        assert is_inert(text) and inert(text) == text and json.loads(text) == value


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense" + EVIL],
        ["ask", "--layer", EVIL],
        ["ask", "--user", "Hi", "--reveal", EVIL, "--target", EVIL],
        ["scan", EVIL],
        ["scan", "--recipe", EVIL],
        ["edit", "show", EVIL],
        ["edit", "make", "--goal", "x", "--set", EVIL, "--out", "x"],
        ["recipes", "show", EVIL],
        ["report", EVIL],
        ["train", EVIL],
    ],
)
def test_errors_are_inert(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and is_inert(result.output), repr(result.output)


def test_a_file_of_a_recipe_is_shown_inert(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(f"name: x\nabout: y  # {EVIL}\n".replace("\x07", ""))
    result = run("recipes", "show", str(path))
    assert is_inert(result.output), repr(result.output)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "--dialog", "pipe"],
        ["scan", "--dialogs", "pipe"],
        ["scan", "--recipe", "pipe.yaml"],
        ["edit", "make", "--goal-file", "pipe", "--out", "out"],
        ["edit", "make", "--goal", "x", "--lines", "pipe", "--out", "out"],
        ["ask", "--dialog", "/dev/zero"],
        ["recipes", "show", "pipe.yaml"],
    ],
)
def test_pipes_and_devices_are_not_waited_for(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkfifo("pipe.yaml")
    result = run(*arguments)
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output


@pytest.mark.parametrize("name", ["run.json", "heatmaps.json", "report.json"])
def test_a_report_never_replaces_its_run(tmp_path: Path, name: str) -> None:
    from helpers.run_folders import write_run

    path = write_run(tmp_path) / name
    path.touch()
    before = path.read_bytes()
    result = run("report", str(path.parent), "--out", str(path))
    assert result.exit_code == 2 and "is a file of the run itself" in result.stderr, result.output
    assert path.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_folders_are_not_waited_for(tmp_path: Path) -> None:
    from helpers.run_folders import write_run

    os.mkfifo(write_run(tmp_path / "run") / "records-1.jsonl")
    assert run("report", str(tmp_path / "run")).exit_code == 2
    (tmp_path / "edit").mkdir()
    os.mkfifo(tmp_path / "edit" / "edit.json")
    assert run("edit", "show", str(tmp_path / "edit")).exit_code == 2
