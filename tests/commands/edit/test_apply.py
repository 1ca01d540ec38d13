"""``audit-lit edit apply``: the model with and without an edit, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from helpers.commands import QUICK, raises, run


def speak(edit: Path, *arguments: str) -> Result:
    return run("edit", "apply", str(edit), "--max-new-tokens", "4", *arguments)


def test_speaks_with_and_without(made: Path, target: Any) -> None:
    from audit_lit import ActivationEdit
    from audit_lit.models.generation import Sampling, generate_replies

    hooks = ActivationEdit.load(made).scaled(40.0).fwd_hooks
    result = speak(made, "--user", "Hi", "--user", "Hello there", "--system", "Be.", "--scale", "40", "--json")
    assert result.exit_code == 0, result.output
    dialogs = [
        [{"role": "system", "content": "Be."}, {"role": "user", "content": line}] for line in ("Hi", "Hello there")
    ]
    rows, sampling = json.loads(result.stdout), Sampling(4)
    assert [row["user"] for row in rows] == ["Hi", "Hello there"]
    assert [row["unedited"] for row in rows] == generate_replies(target, dialogs, sampling)
    assert [row["edited"] for row in rows] == [
        generate_replies(target, [dialog], sampling, hooks)[0] for dialog in dialogs
    ]
    assert rows[0]["edited"] != rows[0]["unedited"]


def test_scales_and_samples_by_seed(made: Path) -> None:
    rows = json.loads(speak(made, "--scale", "0", "--json").stdout)
    assert len(rows) == 2 and all(row["edited"] == row["unedited"] for row in rows)
    first, again, other = (
        speak(made, "--user", "Hi", "--temperature", "1", "--seed", seed, "--json").stdout for seed in "112"
    )
    assert first == again != other
    negated, plain = (speak(made, "--user", "Hi", "--scale", scale, "--json").stdout for scale in ("-40", "40"))
    assert json.loads(negated)[0]["edited"] != json.loads(plain)[0]["edited"]


def test_both_stand_side_by_side_and_model_text_is_inert(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.models import generation

    monkeypatch.setattr(generation, "generate_replies", lambda *_: ["\x1b[31m[bold]red[/]\x9b\x07"] * 2)
    result = speak(made, "--user", "a", "--user", "Hi [blink]\x1b[2J")
    assert result.exit_code == 0, result.output
    for column in ("user", "unedited", "edited", "[31m[bold]red[/]", "[blink]"):
        assert column in result.stdout
    assert not set(result.stdout) & {"\x1b", "\x9b", "\x07"}


@pytest.mark.parametrize("method", ["vector", "weights"])
def test_what_cannot_be_applied_exits_2(pair: list[str], tmp_path: Path, other_model: str, method: str) -> None:
    goal = ["--goal", "Be.", "--no-check", "--set", f"method={method}"]
    assert run("edit", "make", *goal, "--out", str(tmp_path / "edit"), *QUICK, *pair).exit_code == 0
    for arguments, message in (
        (["--target", other_model], "the edit was made for"),
        (["--scale", "nan"], "finite"),
        (["--user", ""], "has no text"),
        (["--user", "word " * 300], "the target's context holds 1024"),
        (["--temperature", "-1"], "0<=x<="),
        (["--target", "nowhere"], "neither a folder here nor a Hub id"),
    ):
        result = speak(tmp_path / "edit", *arguments)
        assert result.exit_code == 2 and message in result.stderr, (arguments, result.output)
        assert "Traceback" not in result.stderr
    assert speak(tmp_path / "edit", "--user", "Hi").exit_code == 0


@pytest.mark.parametrize(
    ("error", "message"), [(ZeroDivisionError("boom"), "boom"), (KeyboardInterrupt(), "interrupted")]
)
def test_crashes_and_interruptions_exit_3(
    made: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, message: str
) -> None:
    from audit_lit.edits import weights

    monkeypatch.setattr(weights, "load_edit", raises(error))
    result = speak(made, "--user", "Hi")
    assert result.exit_code == 3 and message in result.stderr


@pytest.mark.parametrize("command", ["apply", "check"])
def test_a_target_that_nobody_named_is_not_fetched(
    made: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from audit_lit import hub

    folder = shutil.copytree(made, tmp_path / "edit")
    content = json.loads((folder / "edit.json").read_text())
    content["origin"]["target"] = "org/model"
    (folder / "edit.json").write_text(json.dumps(content))
    monkeypatch.setattr(hub, "download", raises(AssertionError("fetched")))
    result = run("edit", command, str(folder))
    assert result.exit_code == 2 and "made for 'org/model', which is not here" in result.stderr, result.output
    assert "Give --target" in result.stderr
