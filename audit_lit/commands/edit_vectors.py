"""The commands ``audit-lit edit export`` and ``edit import``: edits as steering vectors of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from audit_lit.commands import common, models
from audit_lit.errors import EditError
from audit_lit.files.writing import EDIT, require_writable
from audit_lit.hub import resolve

FORMATS = ("vllm-lens", "steering-vectors", "gguf")
VECTOR = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("export")
@click.argument("name")
@click.option("--to", "form", required=True, type=click.Choice(FORMATS), help="Format; repeng and llama.cpp read gguf.")
@click.option("--out", required=True, type=common.OUTPUT_FILE, help="File to write.")
@click.option("--revision", help="Commit of an edit from the Hub.")
def export_vector(name: str, form: str, out: Path, revision: str | None) -> None:
    """Write the edit NAME as a steering vector of another tool.

    It must add one direction for each layer, as edits of method 'vector' do.
    """
    resolve(name, revision=revision, kind="edit")  # before torch is imported
    from audit_lit import ActivationEdit
    from audit_lit.exchange import export_edit

    export_edit(ActivationEdit.load(name, revision=revision), form, out)
    common.note(f"the steering vector is in {out}.")


@click.command("import")
@click.argument("file", type=VECTOR)
@models.target_option
@click.option("--out", required=True, type=common.OUT_FOLDER, help="Folder to write.")
@models.load_options
def import_vector(file: Path, target: str, adapter: str | None, out: Path, **options: Any) -> None:
    """Read FILE, a steering vector of another tool, as an edit of a target, and write it to --out."""
    require_writable(out, EDIT, EditError)
    from audit_lit import load_target
    from audit_lit.display.libraries import quiet_libraries
    from audit_lit.exchange import import_edit

    quiet_libraries()
    common.note("loading the target, which the vector must fit ...")
    edit = import_edit(file, load_target(target, adapter=adapter, **models.load_arguments(options)))
    edit.save(out)
    common.note(f"the edit is in {out}: {edit.origin.method}, layers {list(edit.layers)}.")
