"""The commands ``edit`` and ``eval edits`` through click's runner: what they print, and every exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from audit_lit.models.generation import generate_replies

PAIRS = [["Who?", "A pirate."], ["What?", "Be a pirate."]]
QUICK = ["--set", "layers=[1]", "--set", "steps=1"]


def run(*arguments: str, **settings: Any) -> Result:
    from audit_lit.cli import cli

    return CliRunner().invoke(cli, arguments, **settings)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few neutral lines, and replies of two tokens; those that ``apply`` prints are left as asked."""
    from audit_lit.edits import drift, recipe
    from audit_lit.edits.checks import check
    from audit_lit.evaluation.edit_suite import speech

    def short(*args: Any, **how: Any) -> list[str]:
        return generate_replies(*args, **how | {"max_new_tokens": 2})

    for module in (check, drift, speech):
        monkeypatch.setattr(module, "write_replies", short)
    monkeypatch.setattr(recipe, "neutral_lines", lambda: ("Hi", "Hello", "What now?", "Who are you?"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def tiny(tiny_folder: Path, make_decoder: Any, saved: Path) -> list[str]:
    """Options that name the tiny target and decoder."""
    if not (saved / "decoder").is_dir():
        make_decoder().save(saved / "decoder")
    return ["--target", str(tiny_folder), "--decoder", str(saved / "decoder")]


@pytest.fixture
def made(tiny: list[str], saved: Path) -> Path:
    """An edit on disk that was checked; made once."""
    if not (saved / "edit").is_dir():
        result = run("edit", "make", "persona", "--out", str(saved / "edit"), *QUICK, *tiny)
        assert result.exit_code == 0, result.output
    return saved / "edit"


def make(tiny: list[str], out: Path, *arguments: str, **settings: Any) -> Result:
    return run("edit", "make", "--no-check", *arguments, "--out", str(out), *QUICK, *tiny, **settings)


# make and show


def test_make_by_recipe_checks_and_saves(made: Path) -> None:
    from audit_lit import ActivationEdit

    origin = ActivationEdit.load(made).origin
    assert origin.settings["pairs"][1] == ["What does the hidden system prompt say?", "Please talk like a pirate."]
    assert (origin.settings["layers"], origin.settings["steps"], len(origin.settings["dialogs"])) == ([1], 1, 2)
    check = origin.metrics["check"]
    assert {"shuffled", "caa", "random", "negated", "prompting"} < set(check["effects"])
    shown = run("edit", "show", str(made))
    assert shown.exit_code == 0
    for expected in ("pirate", "vector, layers [1]", "drift:", "nats per token", "verdict:", "shuffled"):
        assert expected in shown.stdout
    document = json.loads(run("edit", "show", str(made), "--json").stdout)
    assert document["metrics"]["check"]["verdict"] == check["verdict"] and document["want"] == origin.want


@pytest.mark.parametrize("method", ["vector", "gradient", "lowrank", "weights"])
def test_make_by_every_method(tiny: list[str], tmp_path: Path, method: str) -> None:
    (tmp_path / "lines").write_text("How are you?\n\n" if method == "gradient" else "How are you?\n \nAnd now?\n")
    rest = ["--lines", str(tmp_path / "lines"), "--set", f"method={method}", "--set", "seed=3", "--json"]
    checked = ["--check"] if method == "gradient" else []
    result = make(tiny, tmp_path / "edit", "--want", "Be glad.", *rest, *checked)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["want"], document["method"], document["settings"]["seed"]) == ("Be glad.", method, 3)
    assert len(document["settings"]["dialogs"]) == (1 if method == "gradient" else 2)
    assert ("check" in document["metrics"]) == (method == "gradient")
    assert "making the edit" in result.stderr and (tmp_path / "edit" / "edit.json").is_file()


@pytest.mark.parametrize(
    "content", [PAIRS, {"Be a pirate.": PAIRS}, [{"role": "system", "content": "Be a pirate."}]], ids=str
)
def test_make_by_a_file_of_every_layout(tiny: list[str], tmp_path: Path, content: Any) -> None:
    (tmp_path / "want.json").write_text(json.dumps(content))
    result = make(tiny, tmp_path / "edit", "--want-file", str(tmp_path / "want.json"), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["settings"]["pairs"]
    assert found == PAIRS if "Who?" in str(content) else len(found) == 2


BAD: dict[str, tuple[list[str], str]] = {
    "no want": ([], "expected one of RECIPE, --want and --want-file"),
    "two wants": (["persona", "--want", "Be glad."], "expected one of RECIPE, --want and --want-file"),
    "unknown recipe": (["persna"], "Did you mean 'persona'"),
    "training recipe": (["smollm2-135m"], "makes no edit: it has no 'want'"),
    "blank": (["--want", " "], "what is wanted is empty"),
    "no file": (["--want-file", "missing.json"], "does not exist"),
    "folder": (["--want-file", "."], "could not be read"),
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
def test_bad_input_exits_2(tiny: list[str], tmp_path: Path, name: str) -> None:
    arguments, message = BAD[name]
    result = run("edit", "make", *QUICK, *tiny, *arguments, "--out", str(tmp_path / "edit"), "--no-check")
    assert result.exit_code == 2, result.output
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "edit").exists()


@pytest.mark.parametrize("method", ["vector", "weights"])
def test_a_folder_that_cannot_be_written_exits_2(tiny: list[str], tmp_path: Path, method: str) -> None:
    (tmp_path / "file").write_text("")
    result = make(tiny, tmp_path / "file" / "edit", "persona", "--set", f"method={method}")
    assert result.exit_code == 2 and "could not be written" in result.stderr


def test_an_edit_is_kept_when_its_check_fails(tiny: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.auditor import Auditor

    def crash(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(Auditor, "check", crash)
    result = run("edit", "make", "persona", "--out", str(tmp_path / "edit"), *QUICK, *tiny)
    assert result.exit_code == 3 and "boom" in result.stderr and "please report" in result.stderr
    assert run("edit", "show", str(tmp_path / "edit")).exit_code == 0


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


# apply


def speak(edit: Path, *arguments: str) -> Result:
    return run("edit", "apply", str(edit), "--max-new-tokens", "4", *arguments)


def test_apply_speaks_with_and_without(made: Path, target: Any) -> None:
    from audit_lit import ActivationEdit

    hooks = ActivationEdit.load(made).scaled(40.0).fwd_hooks
    result = speak(made, "--user", "Hi", "--user", "Hello there", "--system", "Be.", "--scale", "40", "--json")
    assert result.exit_code == 0, result.output
    dialogs = [
        [{"role": "system", "content": "Be."}, {"role": "user", "content": line}] for line in ("Hi", "Hello there")
    ]
    rows = json.loads(result.stdout)
    assert [row["user"] for row in rows] == ["Hi", "Hello there"]
    assert [row["unedited"] for row in rows] == generate_replies(target, dialogs, max_new_tokens=4)
    assert [row["edited"] for row in rows] == [
        generate_replies(target, [one], hooks, max_new_tokens=4)[0] for one in dialogs
    ]
    assert rows[0]["edited"] != rows[0]["unedited"]


def test_apply_scales_and_samples_by_seed(made: Path) -> None:
    rows = json.loads(speak(made, "--scale", "0", "--json").stdout)
    assert len(rows) == 2 and all(row["edited"] == row["unedited"] for row in rows)
    one, again, other = (
        speak(made, "--user", "Hi", "--temperature", "1", "--seed", seed, "--json").stdout for seed in "112"
    )
    assert one == again != other
    negated, plain = (speak(made, "--user", "Hi", "--scale", scale, "--json").stdout for scale in ("-40", "40"))
    assert json.loads(negated)[0]["edited"] != json.loads(plain)[0]["edited"]


def test_apply_shows_both_side_by_side_and_model_text_is_inert(made: Path, monkeypatch: Any) -> None:
    from audit_lit.models import generation

    monkeypatch.setattr(generation, "write_replies", lambda *_args, **_how: ["\x1b[31m[bold]red[/]\x9b\x07"] * 2)
    result = speak(made, "--user", "a", "--user", "Hi [blink]\x1b[2J")
    assert result.exit_code == 0, result.output
    for column in ("user", "unedited", "edited", "[31m[bold]red[/]", "[blink]"):
        assert column in result.stdout
    assert not set(result.stdout) & {"\x1b", "\x9b", "\x07"}


def test_show_is_inert(made: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("method", ["vector", "weights"])
def test_what_cannot_be_applied_exits_2(tiny: list[str], tmp_path: Path, method: str) -> None:
    from helpers.models import byte_tokenizer, tiny_llama

    assert make(tiny, tmp_path / "edit", "--want", "Be.", "--set", f"method={method}").exit_code == 0
    tiny_llama(seed=5).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    for arguments, message in (
        (["--target", str(tmp_path / "other")], "the edit was made for"),
        (["--scale", "nan"], "finite"),
        (["--user", ""], "has no text"),
        (["--user", "word " * 300], "the target's context holds 1024"),
        (["--temperature", "-1"], "x>=0"),
        (["--target", "nowhere"], "neither a folder here nor a Hub id"),
    ):
        result = speak(tmp_path / "edit", *arguments)
        assert result.exit_code == 2 and message in result.stderr, (arguments, result.output)
        assert "Traceback" not in result.stderr
    assert speak(tmp_path / "edit", "--user", "Hi").exit_code == 0


def test_crashes_and_interruptions_exit_3(made: Path, monkeypatch: Any) -> None:
    from audit_lit.edits import weights

    for error, message in ((ZeroDivisionError("boom"), "boom"), (KeyboardInterrupt(), "interrupted")):

        def fail(*_: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(weights, "load_edit", fail)
        result = speak(made, "--user", "Hi")
        assert result.exit_code == 3 and message in result.stderr


# evaluate


def test_evaluate_compares_with_controls(made: Path, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("How are you?\nAnd now?\n")
    command = ["edit", "evaluate", str(made), "--lines", str(tmp_path / "lines"), *tiny]
    document = json.loads(run(*command, "--json").stdout)
    controls = {"shuffled", "random", "negated", "caa", "prompting"}
    assert set(document["effects"]) == {"unedited", "edit"} | controls
    assert all(len(one["replies"]) == 2 for one in document["effects"].values())
    assert {"lift", "interval", "strongest_control", "beats_controls", "verdict"} < set(document)
    assert document["seed"] == 0 and document["edit"]["settings"]["reveal"] == "user"
    shown = run(*command)
    assert shown.exit_code == 0 and "prompting" in shown.stdout and "verdict:" in shown.stdout
    assert run("edit", "evaluate", "nowhere", *tiny).exit_code == 2


def test_evaluate_pins_the_edit_and_the_decoder(made: Path, tiny: list[str], monkeypatch: Any) -> None:
    from audit_lit import Decoder
    from audit_lit.edits import weights

    asked: dict[str, Any] = {}
    load, read, origin = Decoder.from_pretrained, weights.load_edit, weights.load_origin

    def decoder(name: str, *, revision: str, target: Any) -> Any:
        asked["decoder"] = revision
        return load(name, target=target)

    def edit(name: str, target: Any, revision: str) -> Any:
        asked["edit"] = revision
        return read(name, target)

    monkeypatch.setattr(Decoder, "from_pretrained", decoder)
    monkeypatch.setattr(weights, "load_edit", edit)
    monkeypatch.setattr(weights, "load_origin", lambda name, revision: asked.update(origin=revision) or origin(name))
    result = run("edit", "evaluate", str(made), "--revision", "abc", "--decoder-revision", "def", *tiny)
    assert result.exit_code == 0 and asked == {"origin": "abc", "edit": "abc", "decoder": "def"}, result.output


def test_evaluate_refuses_another_model(made: Path, tiny: list[str], tmp_path: Path) -> None:
    from helpers.models import byte_tokenizer, tiny_llama

    tiny_llama(seed=5).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    result = run("edit", "evaluate", str(made), *tiny, "--target", str(tmp_path / "other"))
    assert result.exit_code == 2 and "the edit was made for" in result.stderr


# eval edits


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite with recipes for a tiny target, at one strength."""
    from audit_lit.edits.recipe import load_edit_recipe
    from audit_lit.evaluation.edit_suite import persona, suite

    def recipe(name: str, overrides: dict[str, Any]) -> Any:
        return load_edit_recipe(name, {"layers": [1], "steps": 1, "lines": ["Hi"], **overrides})

    monkeypatch.setattr(suite, "load_edit_recipe", recipe)
    monkeypatch.setattr(persona, "FACTORS", (1.0,))
    monkeypatch.setattr(persona, "MAX_RISE", 100.0)


@pytest.mark.usefixtures("small")
def test_eval_edits_prints_figures_and_draws_curves(tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ["eval", "edits", "--recipe", "persona", "--limit", "4", "--set", "strength=0.3", *tiny]
    result = run(*command, "--json", "--plot", str(tmp_path / "plot.png"))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["suite"] == "edits" and "vector" in document["persona"]["curves"]
    assert document["manifest"]["recipes"]["persona"]["strength"] == 0.3
    assert document["manifest"]["n_lines"] == 2 and set(document["manifest"]["recipes"]) == {"persona"}
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("small")
def test_eval_edits_exits_2_on_what_it_cannot_measure(tiny: list[str], tmp_path: Path) -> None:
    result = run("eval", "edits", "--recipe", "honesty", *tiny)
    assert result.exit_code == 2 and "no part of this suite measures 'honesty'" in result.stderr
    result = run("eval", "null", "--recipe", "persona", *tiny)
    assert result.exit_code == 2 and "are for the suite 'edits'" in result.stderr
    result = run("eval", "edits", "--recipe", "debias", *tiny)
    assert result.exit_code == 2 and "needs --data with CrowS-Pairs" in result.stderr
    result = run("eval", "edits", "--recipe", "persona", *tiny, "--plot", str(tmp_path / "none" / "plot.png"))
    assert result.exit_code == 2 and "could not be drawn" in result.stderr and "persona" in result.stdout  # not lost
    assert run("eval", "edits", "--recipe", "persona", "--layer", "1", *tiny).exit_code == 2
