"""The command ``audit-lit``: ways to start it, and what help and usage errors do not wait for."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "ask",
    "scan",
    "report",
    "edit make",
    "edit show",
    "edit apply",
    "edit check",
    "edit export",
    "edit import",
    "edit evaluate",  # the former name of "edit check", hidden
    "calibrate",
    "eval",
    "recipes list",
    "recipes show",
    "organisms build",
    "organisms measure",
    "organisms prompts",
    "train",
    "decoders",
    "convert",
    "doctor",
}
HEAVY = ("torch", "transformers", "transformer_lens", "peft")
"""Packages that take seconds to import."""
NOT_FOR_HELP = (*HEAVY, "pydantic", "rich", "yaml")
USAGE_ERRORS = (
    "",
    "nonsense",
    "--nonsense",
    "ask --nonsense",
    "ask '' --user Hi",
    "ask --claim '' --user Hi",
    "ask --seed -1",
    "ask --dialog missing.json",
    "ask --dialog pyproject.toml",
    "ask --system Hi --dialog pyproject.toml",
    "scan --nonsense",
    "scan --fail-on severe",
    "scan --recipe persna",
    "scan --recipe weights",
    "scan --recipe weights --library missing",
    "organisms build",
    "organisms build nowhere --out zoo",
    "organisms measure missing --out library",
    "organisms prompts --data missing --out library",
    "organisms prompts --out library",
    "scan --recipe smollm2-135m",
    "scan --set twins",
    "scan --set twin=3",
    "scan --dialogs missing.jsonl",
    "scan --dialogs pyproject.toml",
    "scan --dialogs pyproject.toml --system Hi",
    "report",
    "report missing",
    "edit nonsense",
    "edit make",
    "edit make --out edit",
    "edit make persona --goal Hi --out edit",
    "edit make persna --out edit",
    "edit make persona --set strength --out edit",
    "edit make persona --set strenght=1 --out edit",
    "edit make --goal-file pyproject.toml --out edit",
    "edit make persona --lines missing --out edit",
    "edit show",
    "edit apply",
    "edit apply edit --temperature -1",
    "edit check",
    "edit check edit --lines missing",
    "eval",
    "eval nonsense --data docs",
    "eval null",
    "eval null --data docs",
    "eval edits --recipe nonsense",
    "ask --seed 18446744073709551616",
    "edit apply edit --scale nan",
    "edit apply edit --temperature inf",
    "edit show missing/folder/edit",
    "edit check missing",
    "edit make persona --out pyproject.toml/edit",
    "scan --out pyproject.toml/run",
    "train smollm2-135m --data docs",
    "train smollm2-135m --smoke --out pyproject.toml/run",
    "train smollm2-135m --smoke --set lora.r=0",
    "train smollm2-135m --smoke --set mixture=[]",
    "train smollm2-135m --smoke --set lr=.nan",
    "eval null --recipe persona",
    "eval null --data missing",
    "eval edits --recipe debias",
    "eval edits --set strength",
    "recipes show",
    "recipes show persna",
    "train",
    "train smollm2-135n --smoke",
    "train smollm2-135m",
    "train smollm2-135m --smoke --data .",
    "train smollm2-135m --smoke --set lr",
    "train smollm2-135m --smoke --set warm_up=3",
    "calibrate --nonsense",
    "calibrate --dialogs 7",
    "calibrate --dialogs 201",
    "calibrate --batch-size 0",
    "calibrate --seed -1",
    "calibrate --target nowhere",
    "calibrate --decoder nowhere",
    "calibrate --base nowhere",
    "ask --target nowhere",
    "ask --adapter nowhere",
    "ask --decoder nowhere",
    "ask --revision abc",
    "ask --reveal nonsense",
    "ask --format openai",
    "scan nowhere",
    "scan --decoder nowhere",
    "scan --baseline nowhere",
    "scan --report missing/report.html",
    "scan --format openai",
    "scan --skip-unreadable",
    "scan --set reveal=nonsense",
    "edit make persona --out edit --target nowhere",
    "edit make persona --out edit --decoder nowhere",
    "edit make persona --out edit --decoder-revision abc",
    "edit apply docs",
    "edit show docs",
    "edit check docs",
    "edit apply docs --target nowhere",
    "eval null --data docs --target nowhere",
    "eval null --data docs --plot missing/figures.png",
    "eval null --data docs --plot figures.nonsense",
    "report docs",
    "report docs --out missing/report.html",
    "train smollm2-135m --smoke --track wandb",
    "train smollm2-135m --data docs --track trackio",
    "train smollm2-135m --data docs --set target=nowhere",
    "train smollm2-135m --data docs --set start=nowhere",
    "train smollm2-135m --data docs --set seed=true",
    "decoders --nonsense",
    "doctor --nonsense",
)

RUN_ALL = """
import contextlib, io, json, shlex, sys
from audit_lit.cli import cli

def run(line):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            cli.main(shlex.split(line), prog_name="audit-lit")
        except SystemExit as err:
            code = err.code
    return code or 0, out.getvalue(), sorted(set(json.loads(sys.argv[2])) & set(sys.modules))

print(json.dumps({line: run(line) for line in json.loads(sys.argv[1])}))
"""


def run_all(lines: list[str], watched: tuple[str, ...] = HEAVY) -> dict[str, tuple[int, str, list[str]]]:
    """Run commands in one fresh interpreter: exit code, output and the watched packages imported after each."""
    command = [sys.executable, "-c", RUN_ALL, json.dumps(lines), json.dumps(watched)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line: (code, output, heavy) for line, (code, output, heavy) in json.loads(result.stdout).items()}


def test_help_imports_nothing_heavy() -> None:
    helps = [f"{name} --help" for name in sorted({*COMMANDS, "", "edit", "recipes"})]
    for line, (code, output, heavy) in run_all(helps, NOT_FOR_HELP).items():
        assert (code, heavy) == (0, []), line
        assert output.startswith("Usage: ") and "Show this message and exit" in output


def test_usage_errors_exit_2_and_import_nothing_heavy() -> None:
    for line, (code, output, heavy) in run_all(list(USAGE_ERRORS)).items():
        assert (code, heavy) == (2, []), (line, output)
        assert output and "Traceback" not in output, line


def test_every_command_is_listed_above() -> None:
    import click

    from audit_lit.cli import cli

    def names(group: click.Group, prefix: str = "") -> set[str]:
        found: set[str] = set()
        for name, command in group.commands.items():
            is_group = isinstance(command, click.Group)
            found |= names(command, f"{prefix}{name} ") if is_group else {prefix + name}
        return found

    assert names(cli) == COMMANDS


@pytest.mark.parametrize("command", [["cli.py"], ["-m", "audit_lit"]])
def test_other_ways_to_start(command: list[str]) -> None:
    result = subprocess.run([sys.executable, *command, "-h"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ask" in result.stdout and "doctor" in result.stdout


def test_version() -> None:
    assert run_all(["--version"])["--version"][:2] == (0, f"audit-lit, version {version('audit-lit')}\n")


def test_the_suites_are_those_that_can_be_run() -> None:
    from audit_lit.commands.evaluate import SUITES
    from audit_lit.evaluation import evaluate

    assert set(SUITES) == set(evaluate.SUITES)
