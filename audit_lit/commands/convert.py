"""The command ``audit-lit convert``: what another tool kept of a dialog becomes a file of activations."""

from __future__ import annotations

from io import BufferedIOBase
from pathlib import Path
from typing import Any

import click

from audit_lit.commands import common, models
from audit_lit.commands.ask import dialog_of
from audit_lit.errors import OutputError
from audit_lit.files.writing import dump_json, require_own

FORMATS = ("vllm", "vllm-lens", "nnsight")
MOST_DIGITS = 10
"""Of the number of a layer: Python refuses to read thousands of them."""


@click.command()
@click.argument("source", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "form", type=click.Choice(FORMATS), help="Tool that ran the prompts.")
@click.option("--layers", help="List of layers that the tool was given, in its own numbers, such as 15 or 15,20.")
@click.option("--out", type=common.OUTPUT_FILE, help="File to write, for --activations of ask and scan.")
@click.option("--dialog", type=common.INPUT_FILE, help="File with one dialog, in any chat format; '-' is stdin.")
@common.format_option
@click.option("--system", help="Hidden system prompt.")
@click.option("--user", help="The user's message.")
@click.option("--assistant", help="The assistant's reply, if it has replied.")
@click.option("--reveal", default="user", help="Whose activations to read: user, assistant, last:K or positions 3,4,5.")
@click.option("--twins", default=0, type=click.IntRange(0), help="Number of neutral twins, which a scan needs.")
@click.option("--target", help="Model that ran, whose tokenizer is taken; else the decoder's own target.")
@models.decoder_files_options("--revision")
def convert(
    source: tuple[Path, ...],
    form: str | None,
    layers: str | None,
    out: Path | None,
    dialog: BufferedIOBase | None,
    reveal: str,
    twins: int,
    target: str | None,
    **options: Any,
) -> None:
    """Make one file of activations of SOURCE, the files that another tool kept of its runs.

    Without SOURCE, print what the tool must run: token ids, a line for each prompt. It keeps a file of each, and SOURCE
    names them in the order of the lines; the first alone will do, but then no answer is supported.
    """
    if bool(source) != bool(out) or bool(source) != bool(form):
        raise click.UsageError("SOURCE, --from and --out go together; leave all of them out to print the prompts.")
    kept = _numbers(layers)
    if source and bool(kept) == (form == "nnsight"):
        raise click.UsageError(
            "--layers is the list that the tool was given; files of nnsight alone name their layers."
        )
    messages = dialog_of(dialog, options["format"], options["system"], options["user"], options["assistant"])
    models.require_models(target, options["decoder"], revision=options["revision"])
    from audit_lit.answers.plan import Plan
    from audit_lit.decoder.folders import find
    from audit_lit.exchange import reading_of, run_of_file
    from audit_lit.models.activation_files import FORMAT_1, FORMAT_2
    from audit_lit.models.loading import tokenizer_of

    if out:
        require_own(out, (FORMAT_1, FORMAT_2), OutputError)  # before the runs are read
    where = {"revision": options["revision"], "subfolder": options["subfolder"], "config": options["protocol"]}
    config = find(options["decoder"], **where).config
    name = target or config.target
    plan = Plan.of(messages, tokenizer_of(name), config, common.parse_reveal(reveal), twins)
    if form is None or out is None:
        for prompt in plan.prompts:
            common.show(dump_json(prompt))
        common.note(f"run these {len(plan.prompts)} prompts with {name}, and keep a file of each.")
        return
    reading_of(plan, [run_of_file(path, form, kept) for path in source], name).save(out)
    common.note(f"the activations are in {out}; ask about them: audit-lit ask --activations {out}")


def _numbers(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and len(part) < MOST_DIGITS for part in parts):
        raise click.UsageError(f"--layers {text!r} is no list of numbers; expected one such as 15 or 15,20.")
    return tuple(map(int, parts))
