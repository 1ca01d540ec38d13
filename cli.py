"""The command ``audit-lit``: registers the subcommands, each a module of ``audit_lit/commands/``.

Exit codes: 0 done, 1 findings, 2 usage or environment, 3 crash or incomplete.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

if __package__ in (None, ""):  # python cli.py, from a clone
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from audit_lit import __version__
from audit_lit.commands.ask import ask
from audit_lit.commands.calibrate import calibrate
from audit_lit.commands.contract import ContractGroup
from audit_lit.commands.convert import convert
from audit_lit.commands.decoders import decoders
from audit_lit.commands.doctor import doctor
from audit_lit.commands.edit import edit
from audit_lit.commands.edit_vectors import export_vector, import_vector
from audit_lit.commands.evaluate import evaluate
from audit_lit.commands.organisms import organisms
from audit_lit.commands.recipes import recipes
from audit_lit.commands.report import report
from audit_lit.commands.scan import scan
from audit_lit.commands.train import train

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AUDIT_LIT", "show_default": True}


@click.group(cls=ContractGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="audit-lit")
def cli() -> None:
    """Ask what a language model is not saying, and see whether the answer can be believed."""


for command in (ask, scan, report, edit, convert, calibrate, evaluate, recipes, organisms, train, decoders, doctor):
    cli.add_command(command)
for subcommand in (export_vector, import_vector):
    edit.add_command(subcommand)


def main() -> None:
    """Run the command."""
    cli()


if __name__ == "__main__":
    main()
