"""The exit codes that every command keeps."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from helpers.commands import raises
from helpers.support import ROOT

from audit_lit.errors import AuditLitError, HubError, Incomplete, ScanError


def run(error: BaseException | None) -> Result:
    """Run a command that raises an error, or nothing."""
    from audit_lit.commands.contract import ContractGroup

    group = ContractGroup("group")
    group.add_command(click.Command("command", callback=raises(error) if error else lambda: None))
    return CliRunner().invoke(group, ["command"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (click.exceptions.Exit(0), 0),
        (click.exceptions.Exit(1), 1),
        (click.UsageError("wrong"), 2),
        (click.FileError("file"), 2),
        (AuditLitError("wrong"), 2),
        (HubError("offline"), 2),
        (ScanError("in use"), 2),
        (Incomplete("not read"), 3),
        (ZeroDivisionError("boom"), 3),
        (KeyboardInterrupt(), 3),
        (click.Abort(), 3),
        (SystemExit(1), 3),  # rich's, where nobody reads the pipe any more
        (MemoryError(), 3),
    ],
    ids=repr,
)
def test_exit_codes(error: BaseException | None, code: int) -> None:
    assert run(error).exit_code == code


def test_known_errors_are_named_without_a_traceback() -> None:
    assert run(HubError("fetch it first")).stderr == "HubError: fetch it first\n"
    assert "Traceback" not in run(click.UsageError("wrong")).stderr


def test_a_crash_is_shown_with_its_traceback() -> None:
    crashed = run(ZeroDivisionError("boom"))
    assert "Traceback" in crashed.stderr and "boom" in crashed.stderr and "please report" in crashed.stderr
    assert "finished parts are kept" in run(KeyboardInterrupt()).stderr


@pytest.mark.parametrize("number", [28, 5])
def test_output_that_nobody_takes_is_incomplete_without_a_traceback(number: int) -> None:
    failed = run(OSError(number, "no"))
    assert failed.exit_code == 3 and "could not be written" in failed.stderr and "Traceback" not in failed.stderr


START = "import time, click\nfrom audit_lit.commands.contract import ContractGroup\ngroup = ContractGroup('group')\n"
SLEEP = "group.add_command(click.Command('c', callback=lambda: (click.echo('on'), time.sleep(60))))\ngroup.main(['c'])"
PRINT = "group.add_command(click.Command('c', callback=lambda: click.echo('\\u2500\\u202e\\ud800')))\ngroup.main(['c'])"


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_to_end_is_an_interruption(name: str) -> None:
    command = [sys.executable, "-c", START + SLEEP]
    number = getattr(signal, name)

    def listen() -> None:  # whoever runs the tests may ignore it
        signal.signal(number, signal.SIG_DFL)

    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, preexec_fn=listen, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "on\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 3 and "finished parts are kept" in errors and "Traceback" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("argument", ["c", "--help"])
def test_a_full_device_is_incomplete(argument: str) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", START + PRINT.replace("['c']", f"['{argument}']")]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_a_code_page_lacks_is_printed(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", START + PRINT], env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and done.stdout.decode().startswith("\u2500\u202e\\ud800")


@pytest.mark.parametrize("printed", ["click.echo('x' * 9_000)", "rich.console.Console().print('x' * 9_000)"])
def test_a_reader_that_has_enough_ends_a_command_quietly(printed: str) -> None:
    command = (
        f"group.add_command(click.Command('c', callback=lambda: [{printed} for _ in range(999)]))\ngroup.main(['c'])"
    )
    code = f"import rich.console\n{START}{command}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.read(1)
        process.stdout.close()
        assert process.stderr is not None and process.stderr.read() == b""
    assert process.returncode == 3


@pytest.mark.parametrize(("closed", "code"), [(">&-", 3), ("2>&-", 0), ("<&-", 0), (">&- 2>&-", 3)])
def test_a_closed_stream_is_no_crash(closed: str, code: int) -> None:
    """A result that nobody can get is not done."""
    command = f"{shlex.quote(sys.executable)} -m audit_lit recipes list {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert ("could not be written" in done.stderr) == (closed == ">&-")
