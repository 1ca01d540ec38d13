"""The command line through click's runner: what it prints, and every exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **settings: Any) -> Result:
    from audit_lit.cli import cli

    return CliRunner().invoke(cli, arguments, **settings)


@pytest.fixture
def tiny(tiny_folder: Path, make_decoder: Any, tmp_path: Path) -> list[str]:
    """Options that ask the tiny decoder about the tiny target, quickly."""
    make_decoder(write="project").save(tmp_path / "decoder")
    pair = ["--target", str(tiny_folder), "--decoder", str(tmp_path / "decoder")]
    return [*pair, "--samples", "1", "--max-new-tokens", "4"]


def test_a_reader_that_has_gone_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.commands.common import tables_tmp

    def gone(*_: Any) -> None:
        raise SystemExit(1)  # as rich does

    monkeypatch.setattr(tables_tmp, "decoders_table", gone)
    assert run("decoders").exit_code == 3


def test_ask_prints_answer_controls_and_verdict(tiny: list[str]) -> None:
    result = run("ask", "Who?", "--system", "Be [bold]x[/].", "--user", "Hi\x1b[31m", *tiny)
    assert result.exit_code == 0, result.output
    for expected in (
        "no_activation",
        "null",
        "shuffled",
        "text_only",
        "verdict",
        "hidden from the decoder",
        "[bold]x[/]",
    ):
        assert expected in result.stdout
    assert "\x1b[31m" not in result.stdout


def test_ask_json_is_one_document(tiny: list[str]) -> None:
    result = run("ask", "Who?", "What?", "--system", "Be x.", "--user", "Hi", "--json", *tiny)
    document = json.loads(result.stdout)
    assert [answer["question"] for answer in document["answers"]] == ["Who?", "What?"]
    assert document["dialog"][0] == {"role": "system", "content": "Be x."}
    assert {"score", "controls", "lift", "interval", "supported", "seed", "positions"} <= set(document["answers"][0])


def test_ask_demo_dialog(tiny: list[str]) -> None:
    assert "time traveler" in run("ask", *tiny).stdout


@pytest.mark.parametrize("wrapped", [False, True])
def test_ask_dialog_from_file_and_stdin(tiny: list[str], tmp_path: Path, wrapped: bool) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    text = json.dumps({"messages": messages} if wrapped else messages)
    (tmp_path / "dialog.json").write_text(text)
    options = ["--reveal", "assistant", "--json", *tiny]
    from_file = run("ask", "Who?", "--dialog", str(tmp_path / "dialog.json"), *options)
    from_stdin = run("ask", "Who?", "--dialog", "-", *options, input=text)
    assert json.loads(from_file.stdout) == json.loads(from_stdin.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dialog", "-"], "not JSON"),
        (["--dialog", "missing.json"], "missing.json"),
        (["--target", "nowhere"], "neither a folder here nor a Hub id"),
        (["--decoder", "nowhere"], "neither a folder here nor a Hub id"),
        (["--system", "x", "--dialog", "-"], "use one"),
        (["--user", ""], "has no text"),
        (["--system", "only"], "selects nothing"),
        (["--reveal", "everyone"], "is unknown"),
        (["--reveal", "9999"], "outside the dialog"),
        (["--reveal", "1,--2"], "is unknown"),
        (["--seed", "-1"], "x>=0"),
        (["--unknown"], "No such option"),
    ],
)
def test_usage_and_environment_errors_exit_2(tiny: list[str], arguments: list[str], message: str) -> None:
    result = run("ask", "Who?", *tiny, *arguments, input="no json")
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("content", ["[]", '["a"]', '[{"content": "x"}]', '[{"role": "user"}]'])
def test_malformed_dialogs_exit_2_before_the_models_load(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    import audit_lit.target

    monkeypatch.setattr(audit_lit.target, "load_base", None)
    result = run("ask", "Who?", "--dialog", "-", input=content)
    assert result.exit_code == 2 and "expected" in result.stderr
    assert run("ask", " ", "--user", "Hi").exit_code == 2


def test_json_holds_no_control_characters(tiny: list[str]) -> None:
    result = run("ask", "Who?", "--user", "Hi \x9b31m \x1b[31m", "--json", *tiny)
    assert result.exit_code == 0 and not set(result.stdout) & {"\x9b", "\x1b"}
    assert json.loads(result.stdout)["dialog"][0]["content"] == "Hi \x9b31m \x1b[31m"


def test_crash_exits_3(monkeypatch: pytest.MonkeyPatch, tiny: list[str]) -> None:
    import audit_lit.auditor

    def crash(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(audit_lit.auditor.Auditor, "ask", crash)
    result = run("ask", "Who?", *tiny)
    assert result.exit_code == 3 and "boom" in result.stderr


def test_interruption_exits_3(monkeypatch: pytest.MonkeyPatch, tiny: list[str]) -> None:
    import audit_lit.auditor

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_lit.auditor.Auditor, "ask", interrupt)
    assert run("ask", "Who?", *tiny).exit_code == 3


def test_decoders_lists_shipped_and_published() -> None:
    document = json.loads(run("decoders", "--json").stdout)
    assert document[0]["id"] == "default" and {entry["where"] for entry in document} == {"shipped", "Hub"}
    assert "latentqa" in run("decoders").stdout


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.commands import doctor

    checks = {check["what"]: check for check in json.loads(run("doctor", "--json").stdout)}
    assert checks["torch"]["ok"] and checks["default decoder"]["ok"]
    monkeypatch.setitem(doctor.NEEDS, "no-such-package", "1")
    result = run("doctor")
    assert result.exit_code == 2 and "pip install" in result.stdout


@pytest.mark.parametrize("command", [["cli.py"], ["-m", "audit_lit"]])
def test_other_ways_to_start(command: list[str]) -> None:
    result = subprocess.run([sys.executable, *command, "-h"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ask" in result.stdout and "doctor" in result.stdout


def test_train_smoke_leaves_a_decoder_that_answers(tmp_path: Path) -> None:
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
        (["smollm2-135m", "--smoke", "--set", "lr=[1"], "no YAML value"),
        (["smollm2-135m", "--smoke", "--set", "wire=1", "--set", "wire.n_edge=2"], "goes into 'wire'"),
        (["smollm2-135m", "--smoke", "--set", "wire.n_edges=2"], "did you mean 'n_edge'"),
    ],
)
def test_train_usage_errors_exit_2(arguments: list[str], message: str) -> None:
    result = run("train", *arguments)
    assert result.exit_code == 2 and message in result.stderr
