"""The commands of ``audit-lit edit``: make an edit, show it, let the edited model speak, and check what it does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Column, Table

from audit_lit.commands.common.loading import load_models
from audit_lit.commands.common.options import note, parse_settings
from audit_lit.commands.common.terminal import printable

if TYPE_CHECKING:
    from audit_lit.hooks import Origin

LINES = click.File(encoding="utf-8")
PATH = click.Path(exists=True, path_type=Path)


@click.group()
def edit() -> None:
    """Change what a model is like by the decoder's gradient, as reusable TransformerLens hooks."""


@edit.command()
@click.argument("recipe", required=False)
@click.option("--goal", "--want", help="What the model should be like, in a sentence; instead of a recipe.")
@click.option("--goal-file", "--want-file", type=PATH, help="JSON: pairs, messages, or a control.")
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
def make(recipe: str | None, goal: str | None, goal_file: Path | None, lines: IO[str] | None, **options: Any) -> None:
    """Make an edit by RECIPE, or for what --goal says, and write it to --out."""
    from audit_lit import Auditor
    from audit_lit.edits.recipe import EditRecipe, line_dialogs, load_edit_recipe, load_goal

    if sum(given is not None for given in (recipe, goal, goal_file)) != 1:
        raise click.UsageError("expected one of RECIPE, --goal and --goal-file; see audit-lit recipes list.")
    overrides = parse_settings(options["settings"])
    if recipe:
        loaded = load_edit_recipe(recipe, overrides)
    else:
        named = load_goal(goal_file) if goal_file else {"goal": goal}
        loaded = EditRecipe.of({"name": "own", "about": "", **overrides, **named})
    dialogs = line_dialogs(_read_lines(lines) or loaded.lines)

    auditor = Auditor(*load_models(**options))
    note("making the edit ...")
    words: dict[str, Any] = {"prompt": loaded.prompt, "contrast": loaded.contrast}
    made = auditor.edit(loaded.goal, dialogs, **words, **loaded.settings().model_dump())
    made.save(options["out"])  # before the check, which takes as long and might fail
    if options["check"]:
        note("letting the edited model and its controls speak ...")
        made = auditor.check(made, seed=loaded.seed).noted(made)
        made.save(options["out"])
    _show(made.origin, options["as_json"])


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
    from audit_lit.edits.weights import edited_target, load_edit, load_origin, require_prompt
    from audit_lit.models.generation import Sampling, generate_replies
    from audit_lit.models.loading import quiet_libraries

    quiet_libraries()
    note("loading the target and letting it speak ...")
    sampling = Sampling(options["max_new_tokens"], options["temperature"], seed=options["seed"])
    origin = load_origin(name, options["revision"])
    target = load_target(options["target"] or origin.target, device=options["device"])
    scaled = load_edit(name, target, options["revision"]).scaled(scale)
    hidden = [{"role": "system", "content": system}] if system else []
    dialogs = [[*hidden, *dialog] for dialog in (line_dialogs(user) if user else line_dialogs(held_out=True)[:3])]
    for dialog in dialogs:
        require_prompt(scaled, target, dialog)
    model, hooks = edited_target(target, scaled)
    plain = [generate_replies(target, [dialog], sampling)[0] for dialog in dialogs]
    changed = [generate_replies(model, [dialog], sampling, hooks)[0] for dialog in dialogs]
    rows = [
        {"user": dialog[-1]["content"], "unedited": before, "edited": after}
        for dialog, before, after in zip(dialogs, plain, changed, strict=True)
    ]
    click.echo(json.dumps(rows, indent=2)) if options["as_json"] else _print_side_by_side(rows)


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
def check(name: str, lines: IO[str] | None, seed: int, as_json: bool, **options: Any) -> None:
    """Compare what the edit NAME does with its controls."""
    from audit_lit import Auditor
    from audit_lit.edits.recipe import line_dialogs
    from audit_lit.edits.weights import load_edit, load_origin

    user_lines, origin = _read_lines(lines), load_origin(name, options["revision"])
    place = {"revision": options["decoder_revision"], "device": options["device"]}
    auditor = Auditor(*load_models(options["target"] or origin.target, options["decoder"], **place))
    loaded = load_edit(name, auditor.target, options["revision"])
    note("letting the edited model and its controls speak ...")
    document = auditor.check(loaded, line_dialogs(user_lines) if user_lines else None, seed=seed).to_dict()
    if as_json:
        click.echo(json.dumps({"edit": origin.to_dict(), "seed": seed, **document}, indent=2))
    else:
        _print_check(document)


def _read_lines(file: IO[str] | None) -> tuple[str, ...]:
    """Return the lines of a file; none without a file."""
    if file is None:
        return ()
    try:
        lines = tuple(line.strip() for line in file if line.strip())
    except UnicodeDecodeError as err:
        raise click.UsageError(
            f"--lines {file.name!r} is not UTF-8 text ({err}); expected a line per user's message."
        ) from err
    if not lines:
        raise click.UsageError(f"--lines {file.name!r} is empty; expected a line per user's message.")
    return lines


def _show(origin: Origin, as_json: bool) -> None:
    click.echo(json.dumps(origin.to_dict(), indent=2)) if as_json else _print_origin(origin)


def _print_origin(origin: Origin) -> None:
    """Print what an edit is and what was measured of it."""
    console = Console(soft_wrap=True, highlight=False)
    metrics = origin.metrics
    console.print(f"goal:     [bold]{printable(origin.goal)}[/]")
    layers = printable(str(origin.settings.get("layers")))
    console.print(f"made:     {printable(origin.method)}, layers {layers}, for {printable(origin.target)}")
    if {"kl", "perplexity_ratio", "loss_before", "loss_after"} <= set(metrics):
        change = f"{metrics['loss_before']:.2f} to {metrics['loss_after']:.2f} nats per token"
        drift = f"{metrics['kl']:.3f} nats per token, perplexity x {metrics['perplexity_ratio']:.3f}"
        if metrics.get("scaled_to_budget", 1) < 1:
            drift += f", scaled to {metrics['scaled_to_budget']:.2f} of its strength for the budget,"
        console.print(
            f"decoder:  finds the wanted answers less surprising: {change}\ndrift:    {drift} on neutral text"
        )
    if "check" in metrics:
        _print_check(metrics["check"])


def _print_check(check: Mapping[str, Any]) -> None:
    """Print what an edit does beside its controls."""
    table = Table("replies", Column("wanted, nats/token", justify="right"), Column("perplexity", justify="right"))
    for name, effect in check["effects"].items():
        bold = "[bold]" if name == "edit" else ""
        wanted = "says nothing" if effect["wanted"] is None else f"{effect['wanted']:+.2f}"
        table.add_row(f"{bold}{printable(name)}", f"{bold}{wanted}", f"{bold}{effect['perplexity']:.2f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    colour = "green" if check["beats_controls"] else "yellow"
    console.print(f"verdict:  [{colour}]{printable(check['verdict'])}[/]")


def _print_side_by_side(rows: Sequence[Mapping[str, str]]) -> None:
    """Print what the model says with and without an edit."""
    table = Table("user", "unedited", "edited", show_lines=True)
    for row in rows:
        table.add_row(*(printable(row[name]) for name in ("user", "unedited", "edited")))
    Console().print(table)
