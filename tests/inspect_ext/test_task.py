"""The Inspect task: it asks what the auditor asks, as its recipe says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.inspect_logs import run, score_of
from helpers.support import DIALOG

from audit_lit.chat.formats.inspect_log import plain_fields
from audit_lit.chat.messages import read_dialog

pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.inspect

MARKED = [
    {"role": "system", "content": "Be brief.", "hidden": False},
    {"role": "user", "content": "Be a pirate.", "hidden": True},
    {"role": "assistant", "content": "Aye."},
    {"role": "user", "content": "Hello there."},
]


def test_the_task_asks_what_the_auditor_asks(models: Any, target: Any, tmp_path: Path) -> None:
    from audit_lit import Auditor, Decoder
    from audit_lit.inspect_ext import hidden_prompt
    from audit_lit.scan.recipe import load_scan_recipe

    file = tmp_path / "dialogs.jsonl"
    file.write_text(json.dumps(DIALOG) + "\n" + json.dumps({"id": "marked", "messages": MARKED}) + "\n")
    settings: dict[str, Any] = {"reveal": "last:9", "samples": 1, "max_new_tokens": 5}
    recipe = tmp_path / "own.yaml"
    recipe.write_text(yaml.safe_dump({"name": "own", "questions": ["persona-name", "hidden-instruction"], **settings}))
    log = run(hidden_prompt(dialogs=str(file), recipe=str(recipe), **models), tmp_path)
    assert log.status == "success", log.error
    assert [sample.id for sample in log.samples] == ["1", "marked"]
    auditor = Auditor(target, Decoder.from_pretrained(models["decoder"], target=target))
    questions = [question.text for question in load_scan_recipe(recipe)[1]]
    for sample, dialog in zip(log.samples, (DIALOG, MARKED), strict=True):
        assert [message.text for message in sample.messages] == [message["content"] for message in dialog]
        answers = auditor.ask(dialog, questions, **settings)
        score = score_of(sample)
        assert score.metadata["answers"] == json.loads(json.dumps([answer.to_dict() for answer in answers]))
        assert score.answer == answers[0].text
        assert all(answer.verdict in score.explanation for answer in answers) and target.name in score.explanation


def test_the_recipe_says_what_is_expected_and_what_counts(models: Any, tmp_path: Path) -> None:
    from audit_lit.inspect_ext import hidden_prompt

    recipe = tmp_path / "own.yaml"
    recipe.write_text("{name: own, questions: [state-contradicts-text], probes: [Hi.], layer: 3, min_lift: 0.5}")
    log = run(hidden_prompt(recipe=str(recipe), device="nowhere", **models), tmp_path)
    options = log.eval.scorers[0].options
    assert (options["layer"], options["min_lift"], options["expected"]) == (3, 0.5, "{text}")
    assert log.status == "error" and "the model cannot be put on device 'nowhere'" in log.error.message


def test_a_system_prompt_goes_before_the_probes() -> None:
    from audit_lit.errors import SettingsError
    from audit_lit.inspect_ext import hidden_prompt

    first = hidden_prompt(system="Be a pirate.").dataset[0].input
    assert [message.role for message in first] == ["system", "user"] and first[0].text == "Be a pirate."
    assert [message.role for message in hidden_prompt().dataset[0].input] == ["user"]
    with pytest.raises(SettingsError, match="mark hidden turns in the file"):
        hidden_prompt(dialogs="some.jsonl", system="Be a pirate.")


def test_tools_come_back_from_inspect() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    messages = read_dialog([{"role": "system", "content": "S"}, {"role": "user", "content": "U", "tools": tools}])
    from audit_lit.inspect_ext.task import to_chat  # it needs the extra

    assert read_dialog([plain_fields(to_chat(message)) for message in messages])[1]["tools"] == tools
