"""Inside Inspect: the scorer, the task, and what gives no value."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

inspect_ai = pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.inspect

DIALOG = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"}]
MARKED = [
    {"role": "system", "content": "Be brief.", "hidden": False},
    {"role": "user", "content": "Be a pirate.", "hidden": True},
    {"role": "assistant", "content": "Aye."},
    {"role": "user", "content": "Hello there."},
]
FAST = {"samples": 1, "max_new_tokens": 4}


@pytest.fixture
def models(target: Any, make_decoder: Any, tmp_path: Path) -> dict[str, str]:
    """The tiny models by name, with a measured threshold."""
    return {"target": target.name, "decoder": saved(make_decoder(), tmp_path / "measured", 0.1)}


def saved(decoder: Any, folder: Path, threshold: float | None) -> str:
    decoder.config = decoder.config.model_copy(update=dict(lift_threshold=threshold))
    decoder.save(folder)
    return str(folder)


def run(task: Any, where: Path, model: str = "mockllm/model", **settings: Any) -> Any:
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(where), display="none", **settings)
    return inspect_ai.log.read_eval_log(log.location)


def scored(where: Path, inputs: list[Any], **settings: Any) -> Any:
    from audit_lit.inspect_ext import lit_scorer

    samples = [inspect_ai.dataset.Sample(input=one, id=str(at)) for at, one in enumerate(inputs)]
    scorer = lit_scorer(**{"questions": "What is it?", **FAST, **settings})
    return run(inspect_ai.Task(dataset=samples, solver=[], scorer=scorer), where)


def only(sample: Any) -> Any:
    return sample.scores["lit_scorer"]


def chat(role: str, content: Any, **more: Any) -> Any:
    from inspect_ai import model

    return getattr(model, f"ChatMessage{role.capitalize()}")(content=content, **more)


def test_the_task_asks_what_the_auditor_asks(models: Any, target: Any, tmp_path: Path) -> None:
    from audit_lit import Auditor, Decoder
    from audit_lit.inspect_ext import hidden_prompt
    from audit_lit.scan.recipe import load_scan_recipe

    file = tmp_path / "dialogs.jsonl"
    file.write_text(json.dumps(DIALOG) + "\n" + json.dumps({"id": "marked", "messages": MARKED}) + "\n")
    own: dict[str, Any] = {"reveal": "last:9", "samples": 1, "max_new_tokens": 5}
    recipe = tmp_path / "own.yaml"
    recipe.write_text(yaml.safe_dump({"name": "own", "questions": ["persona-name", "hidden-instruction"], **own}))
    log = run(hidden_prompt(dialogs=str(file), recipe=str(recipe), **models), tmp_path)
    assert log.status == "success", log.error
    assert [sample.id for sample in log.samples] == ["1", "marked"]
    auditor = Auditor(target, Decoder.from_pretrained(models["decoder"], target=target))
    questions = [question.text for question in load_scan_recipe(recipe)[1]]
    for sample, dialog in zip(log.samples, (DIALOG, MARKED), strict=True):
        assert [message.text for message in sample.messages] == [message["content"] for message in dialog]
        answers = auditor.ask(dialog, questions, **own)
        score = only(sample)
        assert score.metadata["answers"] == json.loads(json.dumps([answer.to_dict() for answer in answers]))
        assert score.answer == answers[0].text
        assert all(answer.verdict in score.explanation for answer in answers) and target.name in score.explanation


def test_the_first_question_decides(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit import Answer

    monkeypatch.setattr(Answer, "supported", property(lambda self: self.question == "Yes?"))
    for questions, value in ((["Yes?", "No?"], 1.0), (["No?", "Yes?"], 0.0), ("Yes?", 1.0)):
        log = scored(tmp_path, [[chat("user", "Hi.")]], questions=questions, **models)
        assert only(log.samples[0]).value == value and log.results.scores[0].metrics["mean"].value == value
    answer = only(log.samples[0]).answer
    (sample,) = scored(tmp_path, [[chat("user", "Hi.")]], questions="Yes?", expected=answer, **models).samples
    assert only(sample).value == 0.0  # what is expected speaks for nothing, however sure it is


def test_the_recipe_says_what_is_expected_and_what_counts(models: Any, tmp_path: Path) -> None:
    from audit_lit.inspect_ext import hidden_prompt

    recipe = tmp_path / "own.yaml"
    recipe.write_text("{name: own, questions: [state-contradicts-text], probes: [Hi.], layer: 3, min_lift: 0.5}")
    log = run(hidden_prompt(recipe=str(recipe), device="nowhere", **models), tmp_path)
    given = log.eval.scorers[0].options
    assert (given["layer"], given["min_lift"], given["expected"]) == (3, 0.5, "{text}")
    assert log.status == "error" and "the model could not be put on device 'nowhere'" in log.error.message


def test_unreadable_transcripts_have_no_value(models: Any, tmp_path: Path) -> None:
    from inspect_ai.model import ContentImage, ContentReasoning, ContentText
    from inspect_ai.tool import ToolCall

    text, look = ContentText(text="See."), ToolCall(id="1", function="look", arguments={})
    image = ContentImage(image="data:image/png;base64,iVBORw0KGgo=")
    bad = {
        "message 2 (tool) holds what a tool returned": chat("tool", "22 degrees"),
        "message 2 (assistant) holds tool calls": chat("assistant", "Look.", tool_calls=[look]),
        "message 2 (user) holds image": chat("user", [text, image]),
        "message 2 (assistant) holds reasoning": chat("assistant", [ContentReasoning(reasoning="Hm."), text]),
        "message 2 (assistant) has no text": chat("assistant", ""),
        "the target's context holds 1024": chat("user", "long " * 300),
    }
    said = [chat("system", "Be a pirate."), chat("user", "Hi.")]
    transcripts = {reason: [*said, message, said[1]] for reason, message in bad.items()}
    transcripts["selects nothing"] = [said[0], chat("user", "Hi.", metadata={"hidden": True})]
    log = scored(tmp_path, [*transcripts.values(), [chat("user", [text])]], **models)
    *unread, read = (only(sample) for sample in log.samples)
    for reason, score in zip(transcripts, unread, strict=True):
        assert math.isnan(score.value) and score.reason == "scoring_failed", reason
        assert score.explanation.startswith("The transcript was not read: ") and reason in score.explanation
    assert read.value in (0.0, 1.0)
    counts = log.results.scores[0]
    assert (counts.scored_samples, counts.unscored_samples) == (1, len(transcripts))


def test_an_unmeasured_threshold_gives_no_value(target: Any, make_decoder: Any, tmp_path: Path) -> None:
    names = {"target": target.name, "decoder": saved(make_decoder(), tmp_path / "unmeasured", None)}
    (sample,) = scored(tmp_path, [[chat("user", "Hi.")]], **names).samples
    assert math.isnan(only(sample).value) and "nobody measured this decoder's threshold" in only(sample).explanation
    assert len(only(sample).metadata["answers"]) == 1
    (sample,) = scored(tmp_path, [[chat("user", "Hi.")]], min_lift=99.0, **names).samples
    assert only(sample).value == 0.0 and only(sample).metadata["answers"][0]["threshold"] == 99.0


def test_models_load_once_and_run_one_at_a_time_beside_the_event_loop(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_lit import Auditor
    from audit_lit.models import target as target_module

    running, loads, threads = [], [], []
    ask, load = Auditor.ask, target_module.load_target

    def slow(self: Any, *args: Any, **settings: Any) -> Any:
        running.append(True)
        threads.append(threading.current_thread())
        assert len(running) == 1
        time.sleep(0.05)
        found = ask(self, *args, **settings)
        running.pop()
        return found

    monkeypatch.setattr(Auditor, "ask", slow)
    monkeypatch.setattr(target_module, "load_target", lambda *a, **k: loads.append(a) or load(*a, **k))
    log = scored(tmp_path, [[chat("user", f"Hi {index}.")] for index in range(4)], **models)
    assert log.status == "success", log.error
    assert len(loads) == 1 and len(threads) == 4 and threading.main_thread() not in threads


def test_models_that_do_not_fit_end_the_evaluation(models: Any, tmp_path: Path) -> None:
    log = scored(tmp_path, [[chat("user", "Hi.")]], **{**models, "decoder": "default"})
    assert log.status == "error" and "Load the target that it was trained for" in log.error.message


def test_the_last_user_turn_is_read_before_the_reply(models: Any, tmp_path: Path) -> None:
    start, reply = [chat("system", "Be a pirate."), chat("user", "Who are you?")], chat("assistant", "Aye.")
    after = [chat("tool", "22 degrees"), chat("assistant", "Arr.")]
    secret = chat("user", "Be brief.", metadata={"hidden": True})

    def tokens(transcript: list[Any], **settings: Any) -> list[str]:
        (sample,) = scored(tmp_path, [transcript], **models, **settings).samples
        return only(sample).metadata["answers"][0]["tokens"]

    before = tokens(start)
    assert "".join(before[-4:]) == "ant\n" and before == tokens([*start, reply]) == tokens([*start, reply, *after])
    assert before == tokens([*start, reply, secret, reply])
    assert "".join(tokens([*start, reply], reveal="last:2")) == "<|im_end|>\n"  # closes the reply
    assert "".join(tokens([*start, secret, reply])[-2:]) == "<|im_end|>\n"  # nothing was said before the secret came


@pytest.mark.parametrize("provider", ["hf", "tl_bridge"])
def test_models_with_open_weights_are_read_by_their_name(
    models: Any, target: Any, tmp_path: Path, provider: str
) -> None:
    from inspect_ai.solver import generate

    from audit_lit.inspect_ext import lit_scorer

    sample = inspect_ai.dataset.Sample(input=[chat("system", "Be a pirate."), chat("user", "Who are you?")])
    scorer = lit_scorer("What is it?", decoder=models["decoder"], **FAST)
    # TransformerLens 4.3 cannot generate with a chat template: transformers 5 gives it more than the token ids.
    solver = [] if provider == "tl_bridge" else generate(max_tokens=4)
    task = inspect_ai.Task(dataset=[sample], solver=solver, scorer=scorer)
    log = run(task, tmp_path, model=f"{provider}/{target.name}")
    assert log.status == "success", log.error
    assert only(log.samples[0]).metadata["answers"][0]["target"] == target.name


def test_a_system_prompt_goes_before_the_probes() -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.inspect_ext import hidden_prompt

    first = hidden_prompt(system="Be a pirate.").dataset[0].input
    assert [message.role for message in first] == ["system", "user"] and first[0].text == "Be a pirate."
    assert [message.role for message in hidden_prompt().dataset[0].input] == ["user"]
    with pytest.raises(RecipeError, match="mark hidden turns in the file"):
        hidden_prompt(dialogs="some.jsonl", system="Be a pirate.")


def test_inspect_finds_the_package() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="inspect_ai", name="audit_lit")
    assert found.value == "audit_lit.inspect_ext" and {"hidden_prompt", "lit_scorer"} <= set(dir(found.load()))


def test_each_side_imports_only_itself() -> None:
    code = (
        "import sys, audit_lit, audit_lit.cli; print('inspect_ai' in sys.modules)\n"
        "import audit_lit.inspect_ext; print('torch' in sys.modules, 'inspect_ai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
