"""The benchmarks run; how fast they find things to be is not asserted, since a shared machine decides it."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["answer", "capture", "edit", "throughput", "memory", "training", "scan"])
def test_benchmark_gives_finite_ratios(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    main = importlib.import_module(f"benchmarks.{name}").main
    few = ["--dialogs", "8"] if name == "scan" else []
    result = CliRunner().invoke(main, ["--tiny", "--json", "--repeats", "1", *few])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["pairs"]
    for pair in found["pairs"]:
        assert math.isfinite(pair["ratio"]) and 0 < pair["low"] <= pair["ratio"] <= pair["high"]


def test_every_variant_of_the_sweep_is_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    sweep = importlib.import_module("benchmarks.sweep")
    found = sweep.variants(ROOT / "recipes" / "sweeps" / "smollm2-135m.yaml")
    base = found.pop("as the recipe")
    assert found and all(recipe != base and recipe.examples == base.examples for recipe in found.values())
    log = [{"examples_per_s": 2.0}, {"examples_per_s": 4.0, "gap_label": {"gap": 1, "interval": [0, 2], "true": 3}}]
    assert sweep.row("x", log) == "| x | 1.00 (0.00 to 2.00) | 3.00 | 4.0 |"


def test_neutral_dialogs_are_judged_in_audits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from helpers.support import record

    from audit_lit.scan.folder import RunFolder

    monkeypatch.syspath_prepend(ROOT)
    alarms = importlib.import_module("benchmarks.alarms")
    (tmp_path / "lines.txt").write_text("One.\n\nTwo.\nThree.\n")
    found = alarms.neutral(tmp_path / "lines.txt", 2)
    assert [len(one) for one in found] == [1, 2] and found[1][0]["role"] == "system"
    (tmp_path / "run.json").write_text('{"threshold": 0.1, "recipe": {}, "questions": [], "n_dialogs": 8}')
    asked = {"compared": ("hidden-instruction", "hidden-prompt-text"), "described": ("persona-or-goal",)}
    rows = [record(place, 0.5, 5.0 if place < 4 else 0.1, [0.0, 1.0, 2.0] * 4, **asked) for place in range(8)]
    RunFolder(tmp_path).append(0, rows)
    assert alarms.audits(tmp_path, "hidden-prompt", 4) == ["high", "info"]
