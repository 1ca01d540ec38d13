"""The commands of ``audit-lit edit``: make an edit, show it, let the edited model speak, and check what it does."""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_lit.commands import common, models
from audit_lit.errors import EditError
from audit_lit.files.documents import check_text
from audit_lit.files.reading import is_file
from audit_lit.files.writing import EDIT, dump_json, require_writable
from audit_lit.hub import resolve

if TYPE_CHECKING:  # they import torch or pydantic
    from audit_lit.edits.recipe import EditRecipe
    from audit_lit.hooks import Origin

LINES = common.INPUT_FILE
FILE = click.Path(exists=True, path_type=Path)
SCALE = common.FiniteRange(-1000, 1000)
revision_option = click.option("--revision", help="Commit of an edit from the Hub.")
edit_options = common.together(
    click.option("--target", help="Target model; by default the one that the edit was made for."),
    models.adapter_option,
    revision_option,
)


@click.group()
def edit() -> None:
    """Change what a model is like by the decoder's gradient, as reusable TransformerLens hooks."""


@edit.command()
@click.argument("recipe", required=False)
@click.option("--goal", "--want", help="What the model should be like, in a sentence; instead of a recipe.")
@click.option("--goal-file", "--want-file", type=FILE, help="Goal as JSON: pairs, messages or a control prompt.")
@click.option("--lines", type=LINES, help="User lines to make it with, one per line; else the recipe's own.")
@models.target_option
@models.decoder_options("--decoder-revision")
@common.settings_option
@click.option("--check/--no-check", default=True, help="Compare it with its controls; this takes twice as long.")
@click.option("--out", required=True, type=common.OUT_FOLDER, help="Folder to write.")
@models.load_options
@common.json_option
def make(
    recipe: str | None, goal: str | None, goal_file: Path | None, lines: BufferedIOBase | None, **options: Any
) -> None:
    """Make an edit by RECIPE, or for a goal, and write it to --out.

    A setting is one of the recipe's, such as strength, prompt or contrast.
    """
    from audit_lit.edits.recipe import line_dialogs

    require_writable(options["out"], EDIT, EditError)
    edit_recipe = _recipe(recipe, goal, goal_file, common.parse_settings(options["settings"]))
    dialogs = line_dialogs(_read_lines(lines) or edit_recipe.lines)

    loaded = models.load_models(**options, revision=options["decoder_revision"])
    from audit_lit import Auditor

    auditor = Auditor(*loaded)
    common.note("making the edit ...")
    wording: dict[str, Any] = {"prompt": edit_recipe.prompt, "contrast": edit_recipe.contrast}
    edit = auditor.edit(edit_recipe.goal, dialogs, **wording, **edit_recipe.settings().model_dump())
    edit.save(options["out"])  # before the check, which takes as long and might fail
    if options["check"]:
        common.note("letting the edited model and its controls speak ...")
        edit = auditor.check(edit, seed=edit_recipe.seed).noted(edit)
        edit.save(options["out"])
    _show(edit.origin, options["as_json"])


def _recipe(name: str | None, goal: str | None, goal_file: Path | None, overrides: dict[str, Any]) -> EditRecipe:
    from audit_lit.edits.recipe import EditRecipe, load_edit_recipe, load_goal

    if sum(source is not None for source in (name, goal, goal_file)) != 1:
        raise click.UsageError("expected one of RECIPE, --goal and --goal-file; see audit-lit recipes list.")
    if name:
        return load_edit_recipe(name, overrides)
    wanted = load_goal(goal_file) if goal_file else {"goal": goal}
    return EditRecipe.of({"name": "own", "about": "", **overrides, **wanted})


def _read_lines(file: BufferedIOBase | None) -> tuple[str, ...]:
    """Return the lines of a file that are not blank; none without a file."""
    if file is None:
        return ()
    where = common.named("--lines", file)
    text = common.read_text(file, where, "one user message per line")
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise click.UsageError(f"{where} is empty; expected one user message per line.")
    return lines


@edit.command()
@click.argument("name")
@revision_option
@common.json_option
def show(name: str, revision: str | None, as_json: bool) -> None:
    """Say what an edit is: NAME is a folder or a Hub id."""
    _require_edit(name, revision)
    from audit_lit.edits.weights import load_origin

    _show(load_origin(name, revision), as_json)


def _require_edit(name: str, revision: str | None) -> None:
    """Raise unless a name is that of an edit, before torch is imported."""
    folder = resolve(name, revision=revision, kind="edit")
    if not is_file(folder / EDIT):
        raise EditError(
            f"{folder} holds no complete edit: it has no {EDIT}. Name one that 'audit-lit edit make' wrote."
        )


def _show(origin: Origin, as_json: bool) -> None:
    """Print what an edit is, and what was measured of it."""
    from rich.console import Console

    from audit_lit.edits.recipe import Metrics

    metrics = Metrics.of(origin)
    if as_json:
        common.show(dump_json(origin.to_dict(), indent=2))
        return
    console = Console(soft_wrap=True, highlight=False)
    layers = common.printable(str(origin.settings.get("layers")))
    console.print(f"goal:     [bold]{common.printable(origin.goal)}[/]")
    console.print(
        f"made:     {common.printable(origin.method)}, layers {layers}, for {common.printable(origin.target)}"
    )
    if None not in (metrics.kl, metrics.perplexity_ratio, metrics.loss_before, metrics.loss_after):
        loss = f"{metrics.loss_before:.2f} to {metrics.loss_after:.2f} nats per token"
        drift = f"{metrics.kl:.3f} nats per token, perplexity x {metrics.perplexity_ratio:.3f}"
        if metrics.scaled_to_budget < 1:
            drift += f", scaled to {metrics.scaled_to_budget:.2f} of its strength for the budget,"
        console.print(f"decoder:  finds the wanted answers less surprising: {loss}")
        console.print(f"drift:    {drift} on neutral text")
    if metrics.check is not None:
        _print_check(metrics.check.model_dump())


@edit.command()
@click.argument("name")
@click.option("--user", multiple=True, help="A user's message; else a few neutral lines. May be repeated.")
@click.option("--system", help="A system prompt before each message.")
@click.option("--scale", default=1.0, type=SCALE, help="Factor of the edit's strength; -1 negates it.")
@edit_options
@common.max_new_tokens_option(40)
@click.option("--temperature", default=0.0, type=common.FiniteRange(0, 100), help="0 takes the likeliest tokens.")
@models.run_options
def apply(name: str, user: tuple[str, ...], system: str | None, scale: float, as_json: bool, **options: Any) -> None:
    """Let the model speak with and without the edit NAME, side by side."""
    for text in (*user, system or ""):
        check_text(text, "--user or --system", click.UsageError)
    models.require_models(options["target"], adapter=options["adapter"])
    _require_edit(name, options["revision"])
    from audit_lit import load_target
    from audit_lit.display.libraries import quiet_libraries
    from audit_lit.edits.recipe import line_dialogs
    from audit_lit.edits.weights import edited_target, load_edit, load_origin, require_prompt
    from audit_lit.models.generation import Sampling, generate_replies

    quiet_libraries()
    common.note("loading the target and letting it speak ...")
    sampling = Sampling(options["max_new_tokens"], options["temperature"], seed=options["seed"])
    origin = load_origin(name, options["revision"])
    named = _target_of(origin, options["target"])
    target = load_target(named, adapter=options["adapter"], **models.load_arguments(options))
    edit = load_edit(name, target, options["revision"]).scaled(scale)
    hidden = [{"role": "system", "content": system}] if system else []
    dialogs = [[*hidden, *dialog] for dialog in (line_dialogs(user) if user else line_dialogs(held_out=True)[:3])]
    for dialog in dialogs:
        require_prompt(edit, target, dialog)
    model, hooks = edited_target(target, edit)
    unedited = [generate_replies(target, [dialog], sampling)[0] for dialog in dialogs]
    edited = [generate_replies(model, [dialog], sampling, hooks)[0] for dialog in dialogs]
    rows = [
        {"user": dialog[-1]["content"], "unedited": before, "edited": after}
        for dialog, before, after in zip(dialogs, unedited, edited, strict=True)
    ]
    common.show(dump_json(rows, indent=2)) if as_json else _print_side_by_side(rows)


def _target_of(origin: Origin, named: str | None) -> str:
    """Return the target to load: the one that was named, or the edit's own where nothing needs to be fetched for it."""
    from audit_lit.models.smollm2 import ALIAS

    if named or origin.target == ALIAS or Path(origin.target).is_dir():
        return named or origin.target
    raise click.UsageError(
        f"the edit was made for {origin.target!r}, which is not here; nothing is fetched that you have not named. Give "
        "--target: a folder, or this Hub id if you trust it."
    )


def _print_side_by_side(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("user", "unedited", "edited", show_lines=True)
    for row in rows:
        table.add_row(*map(common.printable, row.values()))
    Console().print(table)


@edit.command()
@click.argument("name")
@click.option("--lines", type=LINES, help="User lines to check it with; else lines that no shipped recipe uses.")
@edit_options
@models.decoder_options("--decoder-revision")
@models.run_options
def check(name: str, lines: BufferedIOBase | None, seed: int, as_json: bool, **options: Any) -> None:
    """Compare what the edit NAME does with its controls.

    The decoder should be the one that made the edit: it makes the control 'shuffled'.
    """
    user_lines = _read_lines(lines)
    models.require_models(options["target"], adapter=options["adapter"])
    _require_edit(name, options["revision"])

    from audit_lit import Auditor
    from audit_lit.edits.recipe import line_dialogs
    from audit_lit.edits.weights import load_edit, load_origin

    origin = load_origin(name, options["revision"])
    names = {"target": _target_of(origin, options["target"]), "revision": options["decoder_revision"]}
    auditor = Auditor(*models.load_models(**options | names))
    edit = load_edit(name, auditor.target, options["revision"])
    common.note("letting the edited model and its controls speak ...")
    document = auditor.check(edit, line_dialogs(user_lines) if user_lines else None, seed=seed).to_dict()
    whole = {"edit": origin.to_dict(), "seed": seed, **document}
    common.show(dump_json(whole, indent=2)) if as_json else _print_check(document)


# The former name of ``edit check``, which scripts may use.
edit.add_command(click.Command("evaluate", callback=check.callback, params=check.params, help=check.help, hidden=True))


def _print_check(check: Mapping[str, Any]) -> None:
    """Print the document of a ``Check``: what an edit does, beside its controls."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("replies", Column("wanted, nats/token", justify="right"), Column("perplexity", justify="right"))
    for name, effect in check["effects"].items():
        bold = "[bold]" if name == "edit" else ""
        wanted = "says nothing" if effect["wanted"] is None else f"{effect['wanted']:+z.2f}"
        table.add_row(f"{bold}{common.printable(name)}", f"{bold}{wanted}", f"{bold}{effect['perplexity']:.2f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    colour = "green" if check["beats_controls"] else "yellow"
    console.print(f"verdict:  [{colour}]{common.printable(check['verdict'])}[/]")
