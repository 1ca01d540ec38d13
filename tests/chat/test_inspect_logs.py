"""Inspect's logs as files of dialogs, in both of their forms."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.inspect_logs import chat

from audit_lit.chat.formats import DialogFile, Unreadable
from audit_lit.errors import DialogError

inspect_ai = pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.inspect
START = [chat("system", "Be a pirate."), chat("user", "Who are you?")]


def log(folder: Path, kind: str, solver: Any = (), transcripts: Any = (START,)) -> Path:
    """Write a log of transcripts."""
    samples = [inspect_ai.dataset.Sample(input=list(messages), id=n) for n, messages in enumerate(transcripts)]
    task = inspect_ai.Task(dataset=samples, solver=list(solver))
    settings = {"log_dir": str(folder), "log_format": kind, "display": "none"}
    (done,) = inspect_ai.eval(task, model="mockllm/model", **settings)
    assert done.status == "success", done.error
    return Path(done.location.removeprefix("file://"))


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_each_samples_transcript_is_read(tmp_path: Path, kind: str) -> None:
    from inspect_ai.model import ContentImage, ContentText

    secret = chat("user", "Be brief. " * 30, metadata={"hidden": True})
    image = chat("user", [ContentText(text="See."), ContentImage(image="data:image/png;base64,iVBORw0KGgo=")])
    path = log(tmp_path, kind, transcripts=([*START, secret], [image]))
    first, second = DialogFile(path, skip_unreadable=True)
    assert (first.id, first.format) == ("0", "an Inspect log")
    assert first.messages[0] == {"role": "system", "content": "Be a pirate."}
    assert first.messages[2] == {"role": "user", "content": "Be brief. " * 30, "hidden": True}
    assert isinstance(second, Unreadable) and "sample 1: message 0 (user) holds image" in second.error
    with pytest.raises(DialogError, match="is not ShareGPT"):
        list(DialogFile(path, format="sharegpt"))


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_where_a_model_is_the_target_its_own_view_is_read(tmp_path: Path, kind: str) -> None:
    from inspect_ai.event import ModelEvent
    from inspect_ai.log import transcript
    from inspect_ai.model import GenerateConfig, ModelOutput

    @inspect_ai.solver.solver
    def audit() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            for role, system in (("target", "First."), ("target", "Second."), ("auditor", "Third.")):
                said = [chat("system", system), chat("user", "Hi. " * 50)]
                answer = ModelOutput.from_content("m", f"Aye, {system}")
                settings = {"tools": [], "tool_choice": "auto", "config": GenerateConfig()}
                transcript()._event(ModelEvent(model="m", role=role, input=said, output=answer, **settings))
            return state

        return solve

    (dialog,) = DialogFile(log(tmp_path, kind, solver=[audit()]))
    assert [message["content"] for message in dialog.messages] == ["Second.", "Hi. " * 50, "Aye, Second."]


def test_a_broken_log_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.eval").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DialogError, match="could not be read as an Inspect log"):
        list(DialogFile(tmp_path / "broken.eval"))
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(DialogError, match=r"pip install 'audit-lit\[inspect\]'"):
        list(DialogFile(tmp_path / "broken.eval"))
