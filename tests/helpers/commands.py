"""Run the command line in this process."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

QUICK = ["--set", "layers=[1]", "--set", "steps=1"]
"""Settings of an edit that is soon made."""


def run(*arguments: str, **settings: Any) -> Result:
    """Run ``audit-lit`` with arguments."""
    from audit_lit.cli import cli

    return CliRunner().invoke(cli, arguments, **settings)


def raises(error: BaseException) -> Any:
    """Return a function that raises an error, whatever it is called with."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail
