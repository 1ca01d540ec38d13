"""The benchmarks run; how fast they find things to be is not asserted, since a shared machine decides it."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["answer", "capture", "throughput", "memory", "training"])
def test_benchmark_gives_finite_ratios(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    main = importlib.import_module(f"benchmarks.{name}").main
    result = CliRunner().invoke(main, ["--tiny", "--json", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["pairs"]
    for pair in found["pairs"]:
        assert math.isfinite(pair["ratio"]) and 0 < pair["low"] <= pair["ratio"] <= pair["high"]
