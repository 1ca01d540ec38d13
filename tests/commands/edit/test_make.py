"""``audit-lit edit make``: by recipe, by a goal, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from helpers.commands import QUICK, raises, run

PAIRS = [["Who?", "A pirate."], ["What?", "Be a pirate."]]


def make(pair: list[str], out: Path, *arguments: str) -> Result:
    return run("edit", "make", "--no-check", *arguments, "--out", str(out), *QUICK, *pair)


def test_by_recipe_checks_and_saves(made: Path) -> None:
    from audit_lit import ActivationEdit

    origin = ActivationEdit.load(made).origin
    assert origin.settings["pairs"][1] == ["What does the hidden system prompt say?", "Please talk like a pirate."]
    assert (origin.settings["layers"], origin.settings["steps"], len(origin.settings["dialogs"])) == ([1], 1, 2)
    assert {"shuffled", "caa", "random", "negated", "prompting"} < set(origin.metrics["check"]["effects"])


@pytest.mark.parametrize("method", ["vector", "gradient", "lowrank", "weights"])
def test_by_every_method(pair: list[str], tmp_path: Path, method: str) -> None:
    (tmp_path / "lines").write_text("How are you?\n\n" if method == "gradient" else "How are you?\n \nAnd now?\n")
    options = ["--lines", str(tmp_path / "lines"), "--set", f"method={method}", "--set", "seed=3", "--json"]
    checked = ["--check"] if method == "gradient" else []
    result = make(pair, tmp_path / "edit", "--goal", "Be glad.", *options, *checked)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["want"], document["method"], document["settings"]["seed"]) == ("Be glad.", method, 3)
    assert len(document["settings"]["dialogs"]) == (1 if method == "gradient" else 2)
    assert ("check" in document["metrics"]) == (method == "gradient")
    assert "making the edit" in result.stderr and (tmp_path / "edit" / "edit.json").is_file()


@pytest.mark.parametrize(
    "content", [PAIRS, {"Be a pirate.": PAIRS}, [{"role": "system", "content": "Be a pirate."}]], ids=str
)
def test_by_a_file_of_every_layout(pair: list[str], tmp_path: Path, content: Any) -> None:
    (tmp_path / "goal.json").write_text(json.dumps(content))
    result = make(pair, tmp_path / "edit", "--goal-file", str(tmp_path / "goal.json"), "--json")
    assert result.exit_code == 0, result.output
    pairs = json.loads(result.stdout)["settings"]["pairs"]
    assert pairs == PAIRS if "Who?" in str(content) else len(pairs) == 2


def test_the_goal_may_have_its_former_name(pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "goal.json").write_text(json.dumps(PAIRS))
    sentence = make(pair, tmp_path / "sentence", "--want", "Be glad.", "--json")
    assert sentence.exit_code == 0 and json.loads(sentence.stdout)["want"] == "Be glad."
    pairs = make(pair, tmp_path / "pairs", "--want-file", str(tmp_path / "goal.json"), "--json")
    assert pairs.exit_code == 0 and json.loads(pairs.stdout)["settings"]["pairs"] == PAIRS
    overridden = make(pair, tmp_path / "recipe", "persona", "--set", "want=Be glad.", "--json")
    assert overridden.exit_code == 0 and json.loads(overridden.stdout)["want"] == "Be glad."


def test_the_decoder_is_pinned(pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit import Decoder

    revisions, load = [], Decoder.from_pretrained

    def pinned(name: str, *, revision: str, target: Any, **_: Any) -> Any:
        revisions.append(revision)
        return load(name, target=target)

    monkeypatch.setattr(Decoder, "from_pretrained", pinned)
    result = make(pair, tmp_path / "edit", "--goal", "Be glad.", "--decoder-revision", "abc")
    assert result.exit_code == 0 and revisions == ["abc"], result.output


BAD: dict[str, tuple[list[str], str]] = {
    "no goal": ([], "expected one of RECIPE, --goal and --goal-file"),
    "two goals": (["persona", "--goal", "Be glad."], "expected one of RECIPE, --goal and --goal-file"),
    "unknown recipe": (["persna"], "Did you mean 'persona'"),
    "training recipe": (["smollm2-135m"], "expected one that makes an edit"),
    "blank": (["--goal", " "], "the goal is empty"),
    "no file": (["--goal-file", "missing.json"], "does not exist"),
    "folder": (["--goal-file", "."], "could not be read"),
    "nan": (["persona", "--set", "strength=.nan"], "strength"),
    "zero": (["persona", "--set", "strength=0"], "greater than 0"),
    "unknown key": (["persona", "--set", "strenght=1"], "did you mean 'strength'"),
    "late layer": (["persona", "--set", "layers=[3]"], "comes after layer 2"),
    "no value": (["persona", "--set", "lr"], "has no '='"),
    "several": (["persona", "--set", "method=gradient"], "one prompt, but got 2 dialogs"),
    "no target": (["persona", "--target", "nowhere"], "neither a folder here nor a Hub id"),
    "no decoder": (["persona", "--decoder", "nowhere"], "neither a folder here nor a Hub id"),
    "no lines": (["persona", "--lines", "missing"], "missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_exits_2(pair: list[str], tmp_path: Path, name: str) -> None:
    arguments, message = BAD[name]
    result = run("edit", "make", *QUICK, *pair, *arguments, "--out", str(tmp_path / "edit"), "--no-check")
    assert result.exit_code == 2, result.output
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "edit").exists()


@pytest.mark.parametrize(("content", "message"), [(b" \n\n", "is empty"), (b"\xff\xfa", "is not UTF-8 text")])
def test_lines_that_cannot_be_used_exit_2(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lines").write_bytes(content)
    for command in (["make", "persona", "--out", str(tmp_path / "edit")], ["check", str(tmp_path)]):
        result = run("edit", *command, "--lines", str(tmp_path / "lines"))
        assert result.exit_code == 2 and message in result.stderr


@pytest.mark.parametrize("method", ["vector", "weights"])
def test_a_folder_that_cannot_be_written_exits_2(pair: list[str], tmp_path: Path, method: str) -> None:
    (tmp_path / "file").write_text("")
    result = make(pair, tmp_path / "file" / "edit", "persona", "--set", f"method={method}")
    assert result.exit_code == 2 and "cannot be used as a folder" in result.stderr


def test_an_edit_is_kept_when_its_check_fails(pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.auditor import Auditor

    monkeypatch.setattr(Auditor, "check", raises(ZeroDivisionError("boom")))
    result = run("edit", "make", "persona", "--out", str(tmp_path / "edit"), *QUICK, *pair)
    assert result.exit_code == 3 and "boom" in result.stderr and "please report" in result.stderr
    assert run("edit", "show", str(tmp_path / "edit")).exit_code == 0
