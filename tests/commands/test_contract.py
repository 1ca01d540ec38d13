"""The exit codes that every command keeps."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner, Result
from helpers.commands import raises

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
