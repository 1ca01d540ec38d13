"""``audit-lit eval``: what it prints and draws, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import run
from helpers.short_replies import shorten


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite ``edits`` with recipes for a tiny target, at one strength."""
    from audit_lit.edits.recipe import load_edit_recipe
    from audit_lit.evaluation.edit_suite import persona, suite

    def recipe(name: str, overrides: dict[str, Any]) -> Any:
        return load_edit_recipe(name, {"layers": [1], "steps": 1, "lines": ["Hi"], **overrides})

    shorten(monkeypatch)
    monkeypatch.setattr(suite, "load_edit_recipe", recipe)
    monkeypatch.setattr(persona, "FACTORS", (1.0,))
    monkeypatch.setattr(persona, "MAX_RISE", 100.0)


def test_a_suite_prints_figures_beside_controls(pair: list[str], folders: tuple[Path, Path]) -> None:
    command = ["eval", "null", "--data", str(folders[1]), "--limit", "4", *pair]
    shown = run(*command)
    assert shown.exit_code == 0, shown.output
    assert "null: " in shown.stdout and "confident_share" in shown.stdout
    document = json.loads(run(*command, "--json").stdout)
    assert document["suite"] == "null" and 0 <= document["confident_share"] <= 1
    assert (document["manifest"]["limit"], document["manifest"]["seed"]) == (4, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["null"], "--data is missing"),
        (["null", "--data", "nowhere"], "does not exist"),
        (["null", "--recipe", "persona"], "are for the suite 'edits'"),
        (["null", "--set", "strength=1"], "are for the suite 'edits'"),
        (["null", "--library", __file__], "--library is for the suite 'organisms'"),
        (["null", "--limit", "3"], "x>=4"),
        (["edits", "--recipe", "debias"], "needs --data with CrowS-Pairs"),
        (["edits", "--set", "strength"], "has no '='"),
        ([], "Missing argument 'SUITE'"),
    ],
)
def test_usage_errors_exit_2(arguments: list[str], message: str) -> None:
    result = run("eval", *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_an_unknown_suite_exits_2(pair: list[str], folders: tuple[Path, Path]) -> None:
    result = run("eval", "nulls", "--data", str(folders[1]), *pair)
    assert result.exit_code == 2 and "unknown suite 'nulls'" in result.stderr


@pytest.mark.usefixtures("small")
def test_edits_prints_figures_and_draws_curves(pair: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ["eval", "edits", "--recipe", "persona", "--limit", "4", "--set", "strength=0.3", *pair]
    result = run(*command, "--json", "--plot", str(tmp_path / "plot.png"))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["suite"] == "edits" and "vector" in document["persona"]["curves"]
    assert document["manifest"]["recipes"]["persona"]["strength"] == 0.3
    assert document["manifest"]["n_lines"] == 2 and set(document["manifest"]["recipes"]) == {"persona"}
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("small")
def test_edits_exits_2_on_what_it_cannot_measure(pair: list[str], tmp_path: Path) -> None:
    result = run("eval", "edits", "--recipe", "honesty", *pair)
    assert result.exit_code == 2 and "no part of this suite measures 'honesty'" in result.stderr
    result = run("eval", "edits", "--recipe", "persona", *pair, "--plot", str(tmp_path / "none" / "plot.png"))
    assert result.exit_code == 2 and "cannot be written" in result.stderr and not result.stdout  # before it measures
    assert run("eval", "edits", "--recipe", "persona", "--layer", "1", *pair).exit_code == 2
