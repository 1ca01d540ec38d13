"""``audit-lit edit show``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import run


def test_says_what_the_edit_is_and_what_was_measured(made: Path) -> None:
    from audit_lit import ActivationEdit

    origin = ActivationEdit.load(made).origin
    shown = run("edit", "show", str(made))
    assert shown.exit_code == 0
    for expected in ("pirate", "vector, layers [1]", "drift:", "nats per token", "verdict:", "shuffled"):
        assert expected in shown.stdout
    document = json.loads(run("edit", "show", str(made), "--json").stdout)
    assert document["metrics"]["check"]["verdict"] == origin.metrics["check"]["verdict"]
    assert document["want"] == origin.goal


def test_an_edit_within_a_budget_says_how_far_it_was_scaled(made: Path, tmp_path: Path) -> None:
    content = json.loads((made / "edit.json").read_text())
    content["origin"]["metrics"]["scaled_to_budget"] = 0.25
    (tmp_path / "edit.json").write_text(json.dumps(content))
    shown = run("edit", "show", str(tmp_path))
    assert ", scaled to 0.25 of its strength for the budget, on neutral text" in shown.stdout
    assert "scaled to" not in run("edit", "show", str(made)).stdout


def test_model_text_is_inert(made: Path, tmp_path: Path) -> None:
    content = json.loads((made / "edit.json").read_text())
    bad = "\x1b[31m[bold]red[/]"
    content["origin"] |= {"want": bad, "method": bad, "target": bad}
    content["origin"]["settings"]["layers"] = bad
    content["origin"]["metrics"]["check"]["effects"] = {bad: {"wanted": 0.1, "perplexity": 1.0}}
    (tmp_path / "edit.json").write_text(json.dumps(content))
    result = run("edit", "show", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout and result.stdout.count("[bold]red[/]") == 5


def test_an_edit_of_other_figures_is_shown_without(made: Path, tmp_path: Path) -> None:
    content = json.loads((made / "edit.json").read_text())
    content["origin"]["metrics"] = {"kl": 0.1}
    (tmp_path / "edit.json").write_text(json.dumps(content))
    result = run("edit", "show", str(tmp_path))
    assert result.exit_code == 0 and "drift" not in result.stdout


def test_an_edit_that_is_cut_short_or_is_none_exits_2(made: Path, tmp_path: Path) -> None:
    assert run("edit", "show", "nowhere").exit_code == 2
    result = run("edit", "show", str(tmp_path))
    assert result.exit_code == 2 and "holds no complete edit" in result.stderr
    (tmp_path / "edit.json").write_bytes((made / "edit.json").read_bytes()[:200])
    assert run("edit", "show", str(tmp_path)).exit_code == 2
    (tmp_path / "edit.json").write_bytes((made / "edit.json").read_bytes())
    (tmp_path / "edit.safetensors").write_bytes((made / "edit.safetensors").read_bytes()[:-8])
    result = run("edit", "apply", str(tmp_path), "--user", "Hi")
    assert result.exit_code == 2 and "holds no complete edit" in result.stderr


@pytest.mark.parametrize(
    "metrics",
    [
        {"kl": "high", "perplexity_ratio": 1.0, "loss_before": 1.0, "loss_after": 1.0},
        {"scaled_to_budget": None},
        {"check": "good"},
        {"check": {"effects": [], "beats_controls": True, "verdict": "x"}},
        {"check": {"effects": {"edit": {"wanted": "much", "perplexity": 1.0}}, "beats_controls": True, "verdict": "x"}},
    ],
)
def test_metrics_of_another_shape_are_refused(edit: Any, tmp_path: Path, metrics: dict[str, Any]) -> None:
    from dataclasses import replace

    replace(edit, origin=replace(edit.origin, metrics=metrics)).save(tmp_path)
    result = run("edit", "show", str(tmp_path))
    assert result.exit_code == 2 and "the edit's metrics are malformed" in result.stderr
