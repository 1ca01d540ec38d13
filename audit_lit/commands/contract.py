"""The exit codes that every command keeps."""

from __future__ import annotations

import sys
import traceback
from io import TextIOWrapper
from typing import Any

import click

from audit_lit.errors import AuditLitError, Incomplete

FINDINGS, USAGE, INCOMPLETE = 1, 2, 3
"""Usage is also an environment in which the command cannot run; incomplete, also a crash or an interruption."""


def write_utf8() -> None:
    """Write what is redirected in UTF-8, whatever the code page; a terminal keeps its own encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # as it is, unless someone has replaced it
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


class ContractGroup(click.Group):
    """A group whose commands keep the exit codes; click itself ends with 1, which a pipeline takes for findings."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn whatever it raises into a message and an exit code."""
        write_utf8()
        try:
            return super().invoke(ctx)
        except click.ClickException as err:
            err.show()
            raise click.exceptions.Exit(USAGE) from err
        except AuditLitError as err:
            click.echo(f"{type(err).__name__}: {err}", err=True)
            raise click.exceptions.Exit(INCOMPLETE if isinstance(err, Incomplete) else USAGE) from err
        except click.exceptions.Exit:
            raise
        except SystemExit as err:  # rich exits when nobody reads the pipe any more
            raise click.exceptions.Exit(INCOMPLETE) from err
        except (click.Abort, KeyboardInterrupt) as err:
            click.echo("interrupted; finished parts are kept.", err=True)
            raise click.exceptions.Exit(INCOMPLETE) from err
        except Exception as err:
            click.echo(traceback.format_exc(), err=True)
            click.echo("audit-lit crashed; please report the lines above.", err=True)
            raise click.exceptions.Exit(INCOMPLETE) from err
