"""The README's examples: what it says must run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).replace("&&", "\n").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.strip().startswith("audit-lit")]


def test_readme_is_short_and_leads_with_a_command() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert next(index for index, line in enumerate(lines) if line.startswith("```bash")) < 15
    assert "@@" not in README


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_exist(arguments: list[str]) -> None:
    from audit_lit.cli import cli

    result = CliRunner().invoke(cli, [arguments[0], "--help"])
    assert result.exit_code == 0
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in result.stdout


@pytest.mark.model
def test_library_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert capsys.readouterr().out.strip()
    assert scope["answer"].supported  # type: ignore[attr-defined]
