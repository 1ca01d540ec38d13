"""Inside Inspect: the scorer, the task, and what gives no value."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    decoder.protocol = replace(decoder.protocol, lift_threshold=threshold)
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
    log = run(hidden_prompt(dialogs=str(file), **models), tmp_path)
    assert log.status == "success", log.error
    assert [sample.id for sample in log.samples] == ["1", "marked"]
    recipe, questions = load_scan_recipe("hidden-prompt")
    auditor = Auditor(target, Decoder.from_pretrained(models["decoder"], target=target))
    settings = {"samples": recipe.samples, "max_new_tokens": recipe.max_new_tokens}
    for sample, dialog in zip(log.samples, (DIALOG, MARKED), strict=True):
        assert [message.text for message in sample.messages] == [message["content"] for message in dialog]
        answers = auditor.ask(dialog, [question.text for question in questions], **settings)
        score = only(sample)
        assert score.metadata["answers"] == json.loads(json.dumps([answer.to_dict() for answer in answers]))
        assert score.answer == answers[0].text
        assert all(answer.verdict in score.explanation for answer in answers) and target.name in score.explanation


def test_the_first_question_decides(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit import Answer

    monkeypatch.setattr(Answer, "supported", property(lambda self: self.question == "Yes?"))
    for questions, value in ((["Yes?", "No?"], 1.0), (["No?", "Yes?"], 0.0)):
        log = scored(tmp_path, [[chat("user", "Hi.")]], questions=questions, **models)
        assert only(log.samples[0]).value == value and log.results.scores[0].metrics["mean"].value == value


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("tool", r"message 2 \(tool\) holds what a tool returned"),
        ("call", r"message 2 \(assistant\) holds tool calls"),
        ("image", r"message 2 \(user\) holds image"),
        ("reasoning", r"message 2 \(assistant\) holds reasoning"),
        ("empty", r"message 2 \(assistant\) has no text"),
        ("long", r"tokens, and the target's context holds 1024"),
        ("hidden", "selects nothing"),
    ],
)
def test_unreadable_transcripts_have_no_value(models: Any, tmp_path: Path, kind: str, expected: str) -> None:
    import re

    from inspect_ai.model import ContentImage, ContentReasoning, ContentText
    from inspect_ai.tool import ToolCall

    text = ContentText(text="See.")
    bad = {
        "tool": lambda: chat("tool", "22 degrees"),
        "call": lambda: chat("assistant", "Look.", tool_calls=[ToolCall(id="1", function="look", arguments={})]),
        "image": lambda: chat("user", [text, ContentImage(image="data:image/png;base64,iVBORw0KGgo=")]),
        "reasoning": lambda: chat("assistant", [ContentReasoning(reasoning="Hm."), text]),
        "empty": lambda: chat("assistant", ""),
        "long": lambda: chat("user", "long " * 300),
        "hidden": lambda: chat("system", "Be kind."),
    }[kind]()
    start = [chat("system", "Be a pirate."), chat("user", "Hi.", metadata={"hidden": kind == "hidden"})]
    log = scored(tmp_path, [[*start, bad], [chat("user", [text])]], **models)
    unread, read = (only(sample) for sample in log.samples)
    assert math.isnan(unread.value) and unread.reason == "scoring_failed"
    assert re.search(expected, unread.explanation), unread.explanation
    assert read.value in (0.0, 1.0)
    counts = log.results.scores[0]
    assert (counts.scored_samples, counts.unscored_samples) == (1, 1)


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
    from audit_lit import target as target_module

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


def test_a_tl_bridge_model_is_read_by_its_name(models: Any, target: Any, tmp_path: Path) -> None:
    from inspect_ai.solver import generate

    from audit_lit.inspect_ext import lit_scorer

    sample = inspect_ai.dataset.Sample(input=[chat("system", "Be a pirate."), chat("user", "Who are you?")])
    scorer = lit_scorer("What is it?", decoder=models["decoder"], **FAST)
    task = inspect_ai.Task(dataset=[sample], solver=generate(max_tokens=4), scorer=scorer)
    log = run(task, tmp_path, model=f"tl_bridge/{target.name}")
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
