"""The Inspect scorer: its value, its models, which part of a transcript is read, and what gives no value."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.inspect_logs import FAST, chat, models_of, run, score_of, scored

inspect_ai = pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.inspect


def test_the_first_question_decides(models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit import Answer

    monkeypatch.setattr(Answer, "supported", property(lambda self: self.question == "Yes?"))
    for questions, value in ((["Yes?", "No?"], 1.0), (["No?", "Yes?"], 0.0), ("Yes?", 1.0)):
        log = scored(tmp_path, [[chat("user", "Hi.")]], questions=questions, **models)
        assert score_of(log.samples[0]).value == value and log.results.scores[0].metrics["mean"].value == value
    answer = score_of(log.samples[0]).answer
    (sample,) = scored(tmp_path, [[chat("user", "Hi.")]], questions="Yes?", expected=answer, **models).samples
    assert score_of(sample).value == 0.0  # what is expected speaks for nothing, however sure it is


def test_an_unmeasured_threshold_gives_no_value(target: Any, make_decoder: Any, tmp_path: Path) -> None:
    names = models_of(target, make_decoder(), tmp_path / "unmeasured", None)
    (sample,) = scored(tmp_path, [[chat("user", "Hi.")]], **names).samples
    score = score_of(sample)
    assert math.isnan(score.value) and "this decoder's threshold has not been measured" in score.explanation
    assert len(score.metadata["answers"]) == 1
    (sample,) = scored(tmp_path, [[chat("user", "Hi.")]], min_lift=99.0, **names).samples
    assert score_of(sample).value == 0.0 and score_of(sample).metadata["answers"][0]["threshold"] == 99.0


def test_models_load_once_and_run_one_at_a_time_beside_the_event_loop(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit_lit import Auditor
    from audit_lit.models import loading

    running, loads, threads = [], [], []
    ask, load = Auditor.ask, loading.load_target

    def slow(self: Any, *args: Any, **settings: Any) -> Any:
        running.append(True)
        threads.append(threading.current_thread())
        assert len(running) == 1
        time.sleep(0.05)
        answers = ask(self, *args, **settings)
        running.pop()
        return answers

    monkeypatch.setattr(Auditor, "ask", slow)
    monkeypatch.setattr(loading, "load_target", lambda *a, **k: loads.append(a) or load(*a, **k))
    log = scored(tmp_path, [[chat("user", f"Hi {index}.")] for index in range(4)], **models)
    assert log.status == "success", log.error
    assert len(loads) == 1 and len(threads) == 4 and threading.main_thread() not in threads


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"device": "cpu", "dtype": "bfloat16"},
        {"device_map": "auto", "max_memory": {"cpu": "20GiB", "0": "1GiB", 1: "1GiB"}},
        {"device_map": {"": "cpu"}, "quantization": None},
        {"n_devices": 2, "quantization": "4bit"},
    ],
)
def test_weights_are_loaded_as_load_target_is_told(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, Any]
) -> None:
    from audit_lit.models import loading

    told: list[dict[str, Any]] = []
    load = loading.load_target
    monkeypatch.setattr(loading, "load_target", lambda name, **options: told.append(options) or load(name))
    scored(tmp_path, [[chat("user", "Hi.")]], **models, **weights)
    expected = dict.fromkeys(("device", "dtype", "device_map", "n_devices", "max_memory", "quantization")) | weights
    if limits := expected["max_memory"]:
        expected["max_memory"] = {int(place) if str(place) in "01" else place: size for place, size in limits.items()}
    assert told == [expected]


def test_weights_that_cannot_be_loaded_so_end_the_evaluation(models: Any, tmp_path: Path) -> None:
    log = scored(tmp_path, [[chat("user", "Hi.")]], **models, device="cpu", device_map="auto")
    assert log.status == "error" and "got device and device_map" in log.error.message


def test_models_that_do_not_fit_end_the_evaluation(models: Any, tmp_path: Path) -> None:
    log = scored(tmp_path, [[chat("user", "Hi.")]], **{**models, "decoder": "default"})
    assert log.status == "error" and "Load the target that it was trained for" in log.error.message


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
    assert score_of(log.samples[0]).metadata["answers"][0]["target"] == target.name


def test_inspect_finds_the_package() -> None:
    from importlib.metadata import entry_points

    (entry_point,) = entry_points(group="inspect_ai", name="audit_lit")
    assert entry_point.value == "audit_lit.inspect_ext"
    assert {"hidden_prompt", "lit_scorer"} <= set(dir(entry_point.load()))


def test_each_side_imports_only_itself() -> None:
    code = (
        "import sys, audit_lit, audit_lit.cli; print('inspect_ai' in sys.modules)\n"
        "import audit_lit.inspect_ext; print('torch' in sys.modules, 'inspect_ai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]


def test_unreadable_transcripts_have_no_value(models: Any, tmp_path: Path) -> None:
    from inspect_ai.model import ContentImage, ContentReasoning, ContentText
    from inspect_ai.tool import ToolCall

    text, look = ContentText(text="See."), ToolCall(id="1", function="look", arguments={})
    image = ContentImage(image="data:image/png;base64,iVBORw0KGgo=")
    bad = {
        "message 2 (tool) answers no tool call": chat("tool", "22 degrees"),
        "message 2 (assistant) holds tool calls": chat("assistant", "Look.", tool_calls=[look]),
        "message 2 (user) holds image": chat("user", [text, image]),
        "message 2 (assistant) holds reasoning": chat("assistant", [ContentReasoning(reasoning="Hm."), text]),
        "message 2 (assistant) has no text": chat("assistant", ""),
        "the target's context holds 1024": chat("user", "long " * 300),
    }
    start = [chat("system", "Be a pirate."), chat("user", "Hi.")]
    transcripts = {reason: [*start, message, start[1]] for reason, message in bad.items()}
    transcripts["selects nothing"] = [start[0], chat("user", "Hi.", metadata={"hidden": True})]
    log = scored(tmp_path, [*transcripts.values(), [chat("user", [text])]], **models)
    *unread, read = (score_of(sample) for sample in log.samples)
    for reason, score in zip(transcripts, unread, strict=True):
        assert math.isnan(score.value) and score.reason == "scoring_failed", reason
        assert score.explanation.startswith("The transcript was not read: ") and reason in score.explanation
    assert read.value in (0.0, 1.0)
    counts = log.results.scores[0]
    assert (counts.scored_samples, counts.unscored_samples) == (1, len(transcripts))


def test_the_last_user_turn_is_read_before_the_reply(models: Any, tmp_path: Path) -> None:
    start, reply = [chat("system", "Be a pirate."), chat("user", "Who are you?")], chat("assistant", "Aye.")
    after = [chat("tool", "22 degrees"), chat("assistant", "Arr.")]
    secret = chat("user", "Be brief.", metadata={"hidden": True})

    def tokens(transcript: list[Any], **settings: Any) -> list[str]:
        (sample,) = scored(tmp_path, [transcript], **models, **settings).samples
        return score_of(sample).metadata["answers"][0]["tokens"]

    before = tokens(start)
    assert "".join(before[-4:]) == "ant\n" and before == tokens([*start, reply]) == tokens([*start, reply, *after])
    assert before == tokens([*start, reply, secret, reply])
    assert "".join(tokens([*start, reply], reveal="last:2")) == "<|im_end|>\n"  # closes the reply
    assert "".join(tokens([*start, secret, reply])[-2:]) == "<|im_end|>\n"  # nothing was said before the secret came
