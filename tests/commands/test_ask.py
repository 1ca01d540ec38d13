"""``audit-lit ask``: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.commands import raises, run


@pytest.fixture
def tiny(pair: list[str]) -> list[str]:
    """Options that ask the tiny decoder about the tiny target, quickly."""
    return [*pair, "--samples", "1", "--max-new-tokens", "4"]


def test_prints_answer_controls_and_verdict(tiny: list[str]) -> None:
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


def test_json_is_one_document(tiny: list[str]) -> None:
    result = run("ask", "Who?", "What?", "--system", "Be x.", "--user", "Hi", "--json", *tiny)
    document = json.loads(result.stdout)
    assert [answer["question"] for answer in document["answers"]] == ["Who?", "What?"]
    assert document["dialog"][0] == {"role": "system", "content": "Be x."}
    assert {"score", "controls", "lift", "interval", "supported", "seed", "positions"} <= set(document["answers"][0])


def test_demo_dialog(tiny: list[str]) -> None:
    assert "time traveler" in run("ask", *tiny).stdout


def test_claims_are_printed_beside_their_controls(tiny: list[str]) -> None:
    claims = ["--claim", "persona: [bold]pirate[/]\x1b[31m", "--claim", "persona: chef"]
    result = run("ask", *claims, "--user", "Hi", *tiny, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for expected in ("persona: [bold]pirate[/]", "evidence", "shuffled", "no_activation", "exactly one of these"):
        assert expected in result.stdout
    assert "\x1b" not in result.stdout and "verdict" not in result.stdout
    document = json.loads(run("ask", *claims, "--user", "Hi", "--json", *tiny).stdout)
    assert document["answers"] == [] and document["claims"][1]["text"] == "persona: chef"
    assert set(document["claims"][0]) == {"text", "evidence", "probability", "share", "controls"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_dialog_from_file_and_stdin(tiny: list[str], tmp_path: Path, wrapped: bool) -> None:
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
        (["--seed", "-1"], "0<=x<="),
        (["--unknown"], "No such option"),
    ],
)
def test_usage_and_environment_errors_exit_2(tiny: list[str], arguments: list[str], message: str) -> None:
    result = run("ask", "Who?", *tiny, *arguments, input="no json")
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("content", ["[]", '["a"]', '[{"content": "x"}]', '[{"role": "user"}]', '{"a": 1}', "3"])
def test_malformed_dialogs_exit_2_before_the_models_load(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    import audit_lit.models.loading

    monkeypatch.setattr(audit_lit.models.loading, "load_base", None)
    result = run("ask", "Who?", "--dialog", "-", input=content)
    assert result.exit_code == 2 and "expected" in result.stderr


@pytest.mark.parametrize("arguments", [[" "], ["--claim", " "]])
def test_empty_questions_and_claims_exit_2_before_the_models_load(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    import audit_lit.models.loading

    monkeypatch.setattr(audit_lit.models.loading, "load_base", None)
    result = run("ask", *arguments, "--user", "Hi")
    assert result.exit_code == 2 and "a question is empty" in result.stderr


def test_json_holds_no_control_characters(tiny: list[str]) -> None:
    result = run("ask", "Who?", "--user", "Hi \x9b31m \x1b[31m", "--json", *tiny)
    assert result.exit_code == 0 and not set(result.stdout) & {"\x9b", "\x1b"}
    assert json.loads(result.stdout)["dialog"][0]["content"] == "Hi \x9b31m \x1b[31m"


@pytest.mark.parametrize(
    ("error", "message"), [(ZeroDivisionError("boom"), "boom"), (KeyboardInterrupt(), "interrupted")]
)
def test_crashes_and_interruptions_exit_3(
    monkeypatch: pytest.MonkeyPatch, tiny: list[str], error: BaseException, message: str
) -> None:
    import audit_lit.auditor

    monkeypatch.setattr(audit_lit.auditor.Auditor, "ask", raises(error))
    result = run("ask", "Who?", *tiny)
    assert result.exit_code == 3 and message in result.stderr


SHAREGPT = {"conversations": [{"from": "system", "value": "Be a pirate."}, {"from": "human", "value": "Grüße 🙂"}]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_dialog_in_another_format_is_read_and_said_aloud(tiny: list[str], tmp_path: Path, encoding: str) -> None:
    content = json.dumps(SHAREGPT, ensure_ascii=False, indent=1).replace("\n", "\r\n").encode(encoding)
    (tmp_path / "dialog.json").write_bytes(content)
    for source, settings in ((str(tmp_path / "dialog.json"), {}), ("-", {"input": content})):
        result = run("ask", "Who?", "--dialog", source, "--json", *tiny, **settings)
        assert result.exit_code == 0 and "was read as ShareGPT" in result.stderr
        assert json.loads(result.stdout)["dialog"][1] == {"role": "user", "content": "Grüße 🙂"}


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ([SHAREGPT, SHAREGPT], [], "holds several dialogs; expected one"),
        (SHAREGPT, ["--format", "openai"], "is not OpenAI chat such as"),
        (SHAREGPT, ["--format", "chatml"], "'chatml' is not one of"),
        (SHAREGPT, ["--prefill"], "is marked as a prefill; expected that of the last message"),
        (SHAREGPT | {"tools": "look"}, [], "the tools hold 'look', which is no function"),
        (SHAREGPT | {"unseen": "look"}, [], "the keys ['unseen'] beside"),
        (SHAREGPT | {"tools": [{"name": "look"}]}, ["--reveal", "last:1"], "does not render, so that the target"),
    ],
)
def test_a_dialog_that_is_not_read_exits_2(content: object, arguments: list[str], message: str) -> None:
    result = run("ask", "Who?", "--dialog", "-", *arguments, input=json.dumps(content))
    assert result.exit_code == 2 and message in result.stderr


def test_a_prefill_is_read_without_its_end_mark(tiny: list[str]) -> None:
    asked = ["ask", "Who?", "--user", "Hi", "--assistant", "Well, in", "--reveal", "last:2", "--json", *tiny]
    opened, closed = (json.loads(run(*asked, *more).stdout) for more in (["--prefill"], []))
    assert "".join(opened["answers"][0]["tokens"]) == "in" and opened["dialog"][1]["prefill"] is True
    assert "".join(closed["answers"][0]["tokens"]) == "<|im_end|>\n"


def test_an_empty_system_prompt_is_no_prompt(tiny: list[str]) -> None:
    result = run("ask", "Who?", "--system", "", "--user", "Hi", "--json", *tiny)
    assert json.loads(result.stdout)["dialog"] == [{"role": "user", "content": "Hi"}]


def test_an_adapter_is_put_on_the_target(tiny: list[str], tmp_path: Path) -> None:
    from helpers.models import tiny_llama
    from peft import LoraConfig, get_peft_model

    get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(
        tmp_path / "lora"
    )
    answers = []
    for adapter in ([], ["--adapter", str(tmp_path / "lora")]):
        result = run("ask", "Who?", "--user", "Hi", "--json", *tiny, *adapter)
        assert result.exit_code == 0, result.output
        answers.append(json.loads(result.stdout)["answers"][0])
    assert answers[1]["target"].endswith(f"+ {tmp_path / 'lora'}") and answers[0]["score"] != answers[1]["score"]


def test_what_is_read_is_asked_about_again_without_the_target(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import audit_lit

    file = str(tmp_path / "a.safetensors")
    dialog = ["--system", "Be x.", "--user", "Hi", "--json"]
    first = run("ask", "Who?", "--claim", "persona: x", *dialog, "--save-activations", file, *tiny)
    assert first.exit_code == 0, first.output
    monkeypatch.setattr(audit_lit, "load_target", raises(AssertionError("the target was loaded")), raising=False)
    again = run("ask", "Who?", "--claim", "persona: x", "--json", "--activations", file, *tiny[2:])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == json.loads(first.stdout)
    shown = run("ask", "Who?", "--activations", file, *tiny[2:])
    assert shown.exit_code == 0 and "hidden from the decoder" in shown.stdout and "missing" not in shown.stdout


def test_missing_controls_are_shown(tiny: list[str], tmp_path: Path) -> None:
    from dataclasses import replace

    from audit_lit import Reading

    file = tmp_path / "a.safetensors"
    assert run("ask", "Who?", "--user", "Hi", "--save-activations", str(file), *tiny).exit_code == 0
    replace(Reading.load(file), decoys=None, dialog=None, visible_text=None).save(file)
    result = run("ask", "Who?", "--activations", str(file), *tiny[2:], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for expected in (
        "cannot be judged",
        "shuffled is missing, and takes 8 decoys",
        "visibility is missing, and takes the dialog",
        "no_activation",
    ):
        assert expected in result.stdout
    assert "dialog that the target read" not in result.stdout
    refused = run("ask", "--claim", "persona: x", "--activations", str(file), *tiny[2:])
    assert refused.exit_code == 2 and "has no decoys" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "Hi"], "user is about one to come"),
        (["--target", "smollm2-135m"], "target is about one to come"),
        (["--save-activations", "b"], "save-activations is about"),
        (["--layer", "1"], "layer 1 was asked for"),
    ],
)
def test_options_of_a_run_beside_a_file_exit_2(
    tiny: list[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    file = str(tmp_path / "a.safetensors")
    assert run("ask", "Who?", "--user", "Hi", "--save-activations", file, *tiny).exit_code == 0
    result = run("ask", "Who?", "--activations", file, *arguments, *tiny[2:])
    assert result.exit_code == 2 and message in result.stderr, result.output


def test_a_file_of_another_kind_exits_2(tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no activations")
    result = run("ask", "Who?", "--activations", str(tmp_path / "a"), *tiny[2:])
    assert result.exit_code == 2 and "is not a complete file of activations" in result.stderr


def test_a_place_that_cannot_be_written_is_found_before_the_target_is_loaded(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import audit_lit

    monkeypatch.setattr(audit_lit, "load_target", raises(AssertionError("the target was loaded")), raising=False)
    result = run("ask", "Who?", "--user", "Hi", "--save-activations", str(tmp_path / "none" / "a"), *tiny)
    assert result.exit_code == 2 and "cannot be written" in result.stderr and "no folder that can be" in result.stderr
