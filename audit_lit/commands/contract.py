"""The exit codes that every command keeps."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import click

from audit_lit.display.inert import inert
from audit_lit.errors import AuditLitError, Incomplete

FINDINGS, USAGE, INCOMPLETE = 1, 2, 3
"""Usage is also an environment in which the command cannot run; incomplete, also a crash or an interruption."""
UNWRITTEN = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
"""What the system says of output that there is no place for."""


class ContractGroup(click.Group):
    """A group whose commands keep the exit codes; click itself ends with 1, which a pipeline takes for findings."""

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        """Run a command, and turn whatever it raises into a message and an exit code."""
        _occupy_streams()
        _print_anything()
        with _ended_by_signals():
            code = self._code(*args, **settings | {"standalone_mode": False})
        sys.exit(code)

    def _code(self, *args: Any, **settings: Any) -> int:
        try:
            code = super().main(*args, **settings)
            if sys.stdout is None:
                raise OSError(errno.EIO, "standard output is closed")
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except click.ClickException as err:
            shown = io.StringIO()
            err.show(shown)
            _say(shown.getvalue().rstrip("\n"))
            return USAGE
        except AuditLitError as err:
            _say(f"{type(err).__name__}: {err}")
            return INCOMPLETE if isinstance(err, Incomplete) else USAGE
        except (click.Abort, KeyboardInterrupt):
            _say("interrupted; of an audit, a calibration and a training, finished parts are kept.")
        except (SystemExit, BrokenPipeError):  # nobody reads the pipe any more: rich and click exit then
            _drop_output()
        except OSError as err:
            if err.errno not in UNWRITTEN:
                return _crashed()
            _drop_output()
            _say("the output could not be written; nothing else was lost.")
        except Exception:
            return _crashed()
        return INCOMPLETE


def _crashed() -> int:
    _say(traceback.format_exc())
    _say("audit-lit crashed; please report the lines above.")
    return INCOMPLETE


def _say(text: str) -> None:
    with suppress(OSError):  # there may be nobody to tell
        click.echo(inert(text), err=True)


def _drop_output() -> None:
    """Send what is left in the buffer nowhere, since Python would fail again, with a code of its own, at its end."""
    with suppress(AttributeError, OSError, ValueError):  # a stream in memory has no number, and a closed one is None
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _occupy_streams() -> None:
    """Open what the caller has closed of the three standard streams, so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _print_anything() -> None:
    """Let files and pipes have UTF-8, and a terminal whose code page lacks a character its escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a request to end interrupt the command as Ctrl-C does; a second one ends it at once."""
    kept = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with suppress(ValueError, TypeError):  # not the main thread; no such signal here
            if number and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one of them
                kept[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
