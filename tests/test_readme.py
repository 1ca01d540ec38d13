"""The examples of the README and the guides: what they say must run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str = README) -> list[list[str]]:
    lines = re.split(r"&&|[|;\n]", "\n".join(blocks("bash", text)))
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip().startswith("audit-lit")]


def guide_commands() -> list[list[str]]:
    guides = [ROOT / "docs" / f"{name}.md" for name in ("audits", "decoders", "edits")]
    return [command for path in guides for command in commands(path.read_text(encoding="utf-8"))]


def dialogs() -> list[str]:
    return re.findall(r"echo '(\[.*\])' \|", README)


def test_readme_is_short_and_leads_with_a_command() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert next(index for index, line in enumerate(lines) if line.startswith("```bash")) < 15
    assert "@@" not in README


@pytest.mark.parametrize("arguments", [*commands(), *guide_commands()], ids=" ".join)
def test_commands_exist(arguments: list[str]) -> None:
    from audit_lit.cli import cli

    names = arguments[: 2 if arguments[0] in ("edit", "recipes", "organisms") else 1]
    result = CliRunner().invoke(cli, [*names, "--help"])
    assert result.exit_code == 0
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in result.stdout


@pytest.mark.parametrize("dialog", dialogs())
def test_example_dialogs_are_dialogs(dialog: str) -> None:
    from audit_lit.chat.dialog import is_hidden
    from audit_lit.chat.messages import read_dialog

    messages = json.loads(dialog)
    read_dialog(messages)
    assert any(is_hidden(message) for message in messages) and not is_hidden(messages[-1])


@pytest.mark.model
def test_library_examples_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ask, edit = blocks("python")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    exec(compile(ask, "README.md", "exec"), scope)
    assert capsys.readouterr().out.strip()
    assert scope["answer"].lift > 0  # type: ignore[attr-defined]
    exec(compile(edit, "README.md", "exec"), {})
    replies = capsys.readouterr().out
    assert replies[0].isupper() and len(set(replies.splitlines())) >= 3  # whole, and it changes with the strength
