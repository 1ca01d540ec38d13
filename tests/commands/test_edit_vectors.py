"""``audit-lit edit export`` and ``edit import``: what they write, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import run
from helpers.edits import edit_of, edited_logits, make_intervention

from audit_lit import ActivationEdit
from audit_lit.commands.edit_vectors import FORMATS
from audit_lit.exchange import edits


@pytest.fixture
def folder(edit: ActivationEdit, tmp_path: Path) -> str:
    return str(edit.save(tmp_path / "edit"))


def test_the_command_offers_every_format() -> None:
    assert FORMATS == edits.FORMATS


@pytest.mark.parametrize("form", FORMATS)
def test_an_edit_goes_out_and_comes_back(
    target: Any, edit: Any, folder: str, pair: list[str], tmp_path: Path, form: str
) -> None:
    file, out = str(tmp_path / "vector"), str(tmp_path / "imported")
    exported = run("edit", "export", folder, "--to", form, "--out", file)
    assert exported.exit_code == 0 and not exported.stdout and file in exported.stderr, exported.output
    imported = run("edit", "import", file, *pair[:2], "--out", out)
    assert imported.exit_code == 0 and f"imported from {form}, layers [1]" in imported.stderr, imported.output
    logits = edited_logits(target, ActivationEdit.load(out))
    torch.testing.assert_close(logits, edited_logits(target, edit), rtol=1e-4, atol=1e-4)
    shown = json.loads(run("edit", "show", out, "--json").stdout)
    assert shown["method"] == f"imported from {form}" and shown["target"] == pair[1]
    applied = run("edit", "apply", out, "--user", "Hi", "--max-new-tokens", "2")
    assert applied.exit_code == 0, applied.output


def test_edits_that_do_more_than_add_exit_2(origin: Any, tmp_path: Path) -> None:
    folder = edit_of(make_intervention("lowrank"), origin=origin).save(tmp_path / "edit")
    result = run("edit", "export", str(folder), "--to", "gguf", "--out", str(tmp_path / "v.gguf"))
    assert result.exit_code == 2 and "a steering vector only adds" in result.stderr.replace("\n", " ")
    assert not (tmp_path / "v.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "nowhere", "--to", "gguf", "--out", "v"], "neither a folder here nor a Hub id"),
        (["export", "nowhere", "--to", "pickle", "--out", "v"], "'pickle' is not one of"),
        (["export", "nowhere", "--out", "v"], "Missing option '--to'"),
        (["import", "nowhere", "--out", "v"], "does not exist"),
    ],
)
def test_usage_errors_exit_2(arguments: list[str], message: str) -> None:
    result = run("edit", *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_other_files_and_folders_exit_2(pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "vector").write_text("no vector")
    result = run("edit", "import", str(tmp_path / "vector"), *pair[:2], "--out", str(tmp_path / "out"))
    assert result.exit_code == 2 and "is not a complete steering vector" in result.stderr
    result = run("edit", "import", str(tmp_path / "vector"), *pair[:2], "--out", str(tmp_path))
    assert result.exit_code == 2 and "holds other files" in result.stderr
