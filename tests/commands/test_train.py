"""``audit-lit train``: a trial run, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.commands import run


@pytest.mark.slow
def test_smoke_leaves_a_decoder_that_answers(tmp_path: Path) -> None:
    result = run("train", "smollm2-135m", "--smoke", "--out", str(tmp_path), "--set", "wire.n_edge=2")
    assert result.exit_code == 0, result.output
    folder = Path(result.stdout.split()[-1])
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "projection.safetensors", "protocol.json", "README.md"} <= names
    card = (folder / "README.md").read_text()
    assert "held-out labels" in card and "it reads nothing" in card and "LatentQA's *evaluation*" not in card
    assert json.loads((folder / "protocol.json").read_text())["n_edge"] == 2
    pair = ["--target", str(tmp_path / "tiny-llama"), "--decoder", str(folder)]
    asked = run("ask", "Who?", "--user", "Hi", "--samples", "0", "--max-new-tokens", "3", *pair)
    assert asked.exit_code == 0, asked.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smollm2-135n", "--smoke"], "Did you mean 'smollm2-135m'"),
        (["smollm2-135m"], "--data is missing"),
        (["smollm2-135m", "--smoke", "--set", "lr"], "has no '='"),
        (["smollm2-135m", "--smoke", "--set", "warm_up=3"], "did you mean 'warmup'"),
        (["smollm2-135m", "--data", "."], "LatentQA's layout"),
        (["smollm2-135m", "--smoke", "--data", "."], "brings its own data"),
        (["smollm2-135m", "--smoke", "--set", "lr=[1"], "is not a YAML value"),
        (["smollm2-135m", "--smoke", "--set", "wire=1", "--set", "wire.n_edge=2"], "goes into 'wire'"),
        (["smollm2-135m", "--smoke", "--set", "wire.n_edges=2"], "did you mean 'n_edge'"),
    ],
)
def test_usage_errors_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)  # an empty folder
    result = run("train", *arguments)
    assert result.exit_code == 2 and message in result.stderr
