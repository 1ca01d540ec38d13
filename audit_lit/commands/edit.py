"""The commands of ``audit-lit edit``: make an edit, show it, let the edited model speak, and check what it does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import click

from audit_lit.commands.loading import load_models
from audit_lit.options import note, quiet_libraries, settings_of

LINES = click.File(encoding="utf-8")


@click.group()
def edit() -> None:
    """Change what a model is like by the decoder's gradient, as reusable TransformerLens hooks."""


@edit.command()
@click.argument("recipe", required=False)
@click.option("--want", help="What the model should be like, in a sentence; instead of a recipe.")
@click.option("--want-file", type=click.Path(exists=True, path_type=Path), help="JSON: pairs, messages, or a control.")
@click.option("--lines", type=LINES, help="User lines to make it with, one per line; else those of the recipe.")
@click.option("--target", default="smollm2-135m", help="Model to edit: alias, folder or Hub id.")
@click.option("--decoder", default="default", help="Model whose gradient decides: 'default', folder or Hub id.")
@click.option("--decoder-revision", "revision", help="Commit of a Hub decoder.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the recipe, such as strength, prompt or contrast.",
)
@click.option("--check/--no-check", default=True, help="Compare what it does with its controls; takes twice as long.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def make(recipe: str | None, want: str | None, want_file: Path | None, lines: IO[str] | None, **options: Any) -> None:
    """Make an edit by RECIPE, or for what --want says, and write it to --out."""
    from audit_lit import Auditor
    from audit_lit.edits.recipe import EditRecipe, line_dialogs, load_edit_recipe, load_want

    if sum(given is not None for given in (recipe, want, want_file)) != 1:
        raise click.UsageError("expected one of RECIPE, --want and --want-file; see audit-lit recipes list.")
    overrides = settings_of(options["settings"])
    said = load_want(want_file) if want_file else {"want": want}
    asked = {"name": "own", "about": "", **overrides, **said}
    loaded = load_edit_recipe(recipe, overrides) if recipe else EditRecipe.of(asked)
    given = _lines(lines) or loaded.lines

    auditor = Auditor(*load_models(**options))
    note("making the edit ...")
    words: dict[str, Any] = {"prompt": loaded.prompt, "contrast": loaded.contrast}
    found = auditor.edit(loaded.want, line_dialogs(given), **words, **loaded.settings().model_dump())
    found.save(options["out"])  # before the check, which takes as long and might fail
    if options["check"]:
        note("letting the edited model and its controls speak ...")
        found = auditor.check(found, seed=loaded.seed).noted(found)
        found.save(options["out"])
    _show(found.origin, options["as_json"])


@edit.command()
@click.argument("name")
@click.option("--revision", help="Commit of a Hub edit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(name: str, revision: str | None, as_json: bool) -> None:
    """Say what an edit is: NAME is a folder or a Hub id."""
    from audit_lit.edits.weights import load_origin

    _show(load_origin(name, revision), as_json)


@edit.command()
@click.argument("name")
@click.option("--user", multiple=True, help="A user's message; may repeat. Else some neutral lines.")
@click.option("--system", help="A system prompt before each.")
@click.option("--scale", default=1.0, help="Factor of the edit's strength; -1 negates it.")
@click.option("--target", help="Model to edit; else the one that the edit was made for.")
@click.option("--revision", help="Commit of a Hub edit.")
@click.option("--max-new-tokens", default=40, type=click.IntRange(1), help="Longest reply.")
@click.option("--temperature", default=0.0, type=click.FloatRange(0), help="0 takes the likeliest tokens.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of the sampling.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def apply(name: str, user: tuple[str, ...], system: str | None, scale: float, **options: Any) -> None:
    """Let the model speak with and without the edit NAME, side by side."""
    from audit_lit import load_target
    from audit_lit.edits.recipe import line_dialogs
    from audit_lit.edits.weights import edited, load_edit, load_origin, require_prompt
    from audit_lit.replies import write_replies
    from audit_lit.show import side_by_side

    quiet_libraries()
    note("loading the target and letting it speak ...")
    origin = load_origin(name, options["revision"])
    target = load_target(options["target"] or origin.target, device=options["device"])
    found = load_edit(name, target, options["revision"]).scaled(scale)
    dialogs = line_dialogs(user) if user else line_dialogs(held_out=True)[:3]
    hidden = [{"role": "system", "content": system}] if system else []
    asked = [[*hidden, *dialog] for dialog in dialogs]
    how = {key: options[key] for key in ("max_new_tokens", "temperature", "seed")}
    for dialog in asked:
        require_prompt(found, target, dialog)
    model, hooks = edited(target, found)
    plain = [write_replies(target, [dialog], **how)[0] for dialog in asked]
    changed = [write_replies(model, [dialog], hooks, **how)[0] for dialog in asked]
    rows = [
        {"user": dialog[-1]["content"], "unedited": before, "edited": after}
        for dialog, before, after in zip(asked, plain, changed, strict=True)
    ]
    click.echo(json.dumps(rows, indent=2)) if options["as_json"] else side_by_side(rows)


@edit.command()
@click.argument("name")
@click.option(
    "--lines", type=LINES, help="User lines to check it with; else those that no shipped recipe makes edits with."
)
@click.option("--target", help="Model to edit; else the one that the edit was made for.")
@click.option("--revision", help="Commit of a Hub edit.")
@click.option("--decoder", default="default", help="Model that made it, for the control 'shuffled'.")
@click.option("--decoder-revision", help="Commit of a Hub decoder.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of replies and the random direction.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(name: str, lines: IO[str] | None, seed: int, as_json: bool, **options: Any) -> None:
    """Compare what the edit NAME does with its controls."""
    from audit_lit import Auditor
    from audit_lit.edits.recipe import line_dialogs
    from audit_lit.edits.weights import load_edit, load_origin
    from audit_lit.show import check_table

    given, origin = _lines(lines), load_origin(name, options["revision"])
    place = {"revision": options["decoder_revision"], "device": options["device"]}
    auditor = Auditor(*load_models(options["target"] or origin.target, options["decoder"], **place))
    found = load_edit(name, auditor.target, options["revision"])
    note("letting the edited model and its controls speak ...")
    check = auditor.check(found, line_dialogs(given) if given else None, seed=seed).to_dict()
    click.echo(json.dumps({"edit": asdict(origin), "seed": seed, **check}, indent=2)) if as_json else check_table(check)


def _lines(file: IO[str] | None) -> tuple[str, ...]:
    """Return the lines of a file; none without a file."""
    if file is None:
        return ()
    try:
        found = tuple(line.strip() for line in file if line.strip())
    except UnicodeDecodeError as err:
        raise click.UsageError(
            f"--lines {file.name!r} is no UTF-8 text ({err}); expected a line per user's message."
        ) from err
    if not found:
        raise click.UsageError(f"--lines {file.name!r} is empty; expected a line per user's message.")
    return found


def _show(origin: Any, as_json: bool) -> None:
    from audit_lit.show import edit_lines

    click.echo(json.dumps(asdict(origin), indent=2)) if as_json else edit_lines(origin)
