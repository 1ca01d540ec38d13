"""The exit codes of every command."""

from __future__ import annotations

import traceback
from typing import Any

import click

from audit_lit.errors import AuditLitError, Incomplete


class ContractGroup(click.Group):
    """Keeps the exit codes: click's own would end with 1, which a pipeline reads as findings."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; known errors end with 2, an interruption, a crash or an incomplete audit with 3."""
        try:
            return super().invoke(ctx)
        except click.ClickException as err:
            err.show()
            raise click.exceptions.Exit(2) from err
        except AuditLitError as err:
            click.echo(f"{type(err).__name__}: {err}", err=True)
            raise click.exceptions.Exit(3 if isinstance(err, Incomplete) else 2) from err
        except click.exceptions.Exit:
            raise
        except SystemExit as err:  # rich's, where the reader of a pipe has gone
            raise click.exceptions.Exit(3) from err
        except (click.Abort, KeyboardInterrupt) as err:
            click.echo("interrupted; finished parts are kept.", err=True)
            raise click.exceptions.Exit(3) from err
        except Exception as err:
            click.echo(traceback.format_exc(), err=True)
            click.echo("audit-lit crashed; please report the lines above.", err=True)
            raise click.exceptions.Exit(3) from err
