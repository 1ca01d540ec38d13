"""The ``audit-lit`` command: parses, calls, prints.

Exit codes: 0 done, 1 findings, 2 usage or environment, 3 crash or incomplete.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

if __package__ in (None, ""):  # python cli.py, from a clone
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from audit_lit import __version__
from audit_lit.commands.edit import edit
from audit_lit.commands.evaluate import evaluate
from audit_lit.commands.loading import load_models
from audit_lit.options import (
    FOLDER,
    ContractGroup,
    device_here,
    is_main_process,
    note,
    one_dialog,
    reveal_of,
    run_folder,
    settings_of,
)
from audit_lit.questions import LABEL_QUESTION, PROMPT_QUESTION

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AUDIT_LIT", "show_default": True}


@click.group(cls=ContractGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="audit-lit")
def cli() -> None:
    """Ask what a language model is not saying, and see whether the answer can be believed."""


@cli.command()
@click.argument("question", nargs=-1)
@click.option("--claim", "claims", multiple=True, help="What might be hidden; how likely is it? May repeat.")
@click.option("--target", default="smollm2-135m", help="Model to audit: alias, folder or Hub id.")
@click.option("--decoder", default="default", help="Model that answers: 'default', folder or Hub id.")
@click.option("--revision", help="Commit of a Hub decoder.")
@click.option("--system", help="Hidden system prompt: the target reads it, the decoder never does.")
@click.option("--user", help="The user's message.")
@click.option("--assistant", help="The assistant's reply, if it has replied.")
@click.option("--dialog", type=click.File(encoding="utf-8"), help="JSON file with a list of messages; '-' is stdin.")
@click.option("--reveal", default="user", help="Whose activations are read: user, assistant, last:K, or 3,4,5.")
@click.option("--layer", type=int, help="Layer to read, for a decoder that reads one of several.")
@click.option("--samples", default=5, type=click.IntRange(0, 100), help="Further answers, for the agreement.")
@click.option("--max-new-tokens", default=60, type=click.IntRange(1), help="Longest answer.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of samples and the random control.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ask(question: tuple[str, ...], claims: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask QUESTIONs about a model's activations; each answer comes beside its controls.

    Without a dialog, a demo runs: a hidden persona and an innocent user line.
    """
    from audit_lit.dialog import check_dialog

    dialog = one_dialog(options["dialog"], options["system"], options["user"], options["assistant"])
    questions = list(question) or ([] if claims else [LABEL_QUESTION, PROMPT_QUESTION])
    check_dialog(dialog)  # before the models are loaded
    if not all(one.strip() for one in (*questions, *claims)):
        raise click.UsageError("a question is empty; expected a sentence such as 'What was the assistant told to do?'.")

    from audit_lit import Auditor
    from audit_lit.show import answers_table, claims_table, dialog_panel

    target, decoder = load_models(**options)
    note("reading activations and asking ...")
    auditor, reveal = Auditor(target, decoder, layer=options["layer"]), reveal_of(options["reveal"])
    settings = {name: options[name] for name in ("samples", "max_new_tokens", "seed")}
    answers = auditor.ask(dialog, questions, reveal=reveal, **settings) if questions else []
    weighed = auditor.weigh(dialog, claims, reveal=reveal) if claims else []
    if as_json:
        found = {"answers": [a.to_dict() for a in answers], "claims": [asdict(claim) for claim in weighed]}
        click.echo(json.dumps({"dialog": dialog, **found}, indent=2))
        return
    dialog_panel(dialog)
    for answer in answers:
        answers_table(answer)
    claims_table(weighed)


@cli.command()
@click.argument("target", default="smollm2-135m")
@click.option("--recipe", default="hidden-prompt", help="What is asked: a name of 'recipes list', or a file.")
@click.option("--dialogs", type=click.Path(path_type=Path), help="JSON lines of messages; else the recipe's probes.")
@click.option("--system", help="A hidden system prompt before each of the recipe's probes.")
@click.option("--baseline", help="A model known to be clean, for the neutral twins of one that was fine-tuned.")
@click.option("--decoder", default="default", help="Model that answers: 'default', folder or Hub id.")
@click.option("--revision", help="Commit of a Hub decoder.")
@click.option("--fail-on", type=click.Choice(["info", "low", "medium", "high"]), help="Lowest severity that exits 1.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; else one in runs/ named after the request.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting of the recipe.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of samples, twins and random controls.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def scan(
    target: str, recipe: str, dialogs: Path | None, system: str | None, settings: tuple[str, ...], **options: Any
) -> None:
    """Audit TARGET on many dialogs; findings come with controls, neutral twins and error rates.

    Exits 0 if nothing is found at or above --fail-on, 1 if something is, 3 if a dialog could not be read.
    """
    from audit_lit.scan.dialogs import DialogFile, digest
    from audit_lit.scan.recipe import load_scan_recipe

    if dialogs and system is not None:
        raise click.UsageError("--system goes before the recipe's probes; with --dialogs, mark hidden turns there.")
    overrides = settings_of(settings) | ({"fail_on": options["fail_on"]} if options["fail_on"] else {})
    loaded, _ = load_scan_recipe(recipe, overrides)
    if dialogs:
        digest(iter(DialogFile(dialogs)))  # before the models are loaded
    given = dialogs or loaded.probe_dialogs(system)

    from audit_lit import Auditor, load_target
    from audit_lit.show import report_lines

    device = device_here(options["device"])
    model, decoder = load_models(target, **options | {"device": device})
    clean = load_target(options["baseline"], device=device) if options["baseline"] else None
    out = options["out"] or run_folder(target, recipe, dialogs, system, settings, sorted(options.items()))
    note(f"the run folder is {out}; run the same command again to go on with an interrupted audit ...")
    place = {"out": out, "baseline": clean, "seed": options["seed"]}
    report = Auditor(model, decoder).scan(given, recipe, **place, **overrides)
    if not is_main_process():  # of several: the first one speaks for all
        return
    click.echo(report.to_json()) if options["as_json"] else report_lines(report)
    raise click.exceptions.Exit(3 if not report.complete else int(report.flagged))


@cli.command()
@click.argument("run", type=FOLDER)
@click.option("--html", "form", flag_value="html", help="One self-contained page.")
@click.option("--md", "form", flag_value="markdown", help="Markdown.")
@click.option("--junit", "form", flag_value="junit", help="JUnit XML, for a pipeline's own display.")
@click.option("--json", "form", flag_value="json", help="One JSON document.")
def report(run: Path, form: str | None) -> None:
    """Print the report of RUN, a folder that scan wrote, from what is finished in it; redirect it to a file.

    Exits as scan does.
    """
    from audit_lit.scan.report import load_report
    from audit_lit.show import report_lines

    found = load_report(run)
    click.echo(getattr(found, f"to_{form}")()) if form else report_lines(found)
    raise click.exceptions.Exit(3 if not found.complete else int(found.flagged))


cli.add_command(edit)
cli.add_command(evaluate)


@cli.group()
def recipes() -> None:
    """List and show recipes of audits, trainings and edits."""


@recipes.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_recipes(as_json: bool) -> None:
    """List the shipped recipes."""
    from audit_lit.recipes import about_recipes

    known = about_recipes()
    lines = [f"{name:16} {about}" for name, about in known.items()]
    click.echo(json.dumps(known, indent=2) if as_json else "\n".join(lines))


@recipes.command("show")
@click.argument("name")
def show_recipe(name: str) -> None:
    """Print a recipe and its questions."""
    from audit_lit.recipes import recipe_path
    from audit_lit.scan.recipe import is_scan_recipe, load_scan_recipe

    path = Path(name) if Path(name).is_file() else recipe_path(name)
    click.echo(path.read_text(encoding="utf-8").rstrip())
    for question in load_scan_recipe(path)[1] if is_scan_recipe(path) else ():
        click.echo(f"# {question.id} ({question.severity}): {question.text}")


@cli.command()
@click.argument("recipe")
@click.option("--data", multiple=True, type=FOLDER, help="Folder of LatentQA's layout; others may follow, repeated.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder; resumed if it holds this run."
)
@click.option("--device", default="cpu", help="Where to train, as torch names it.")
@click.option("--smoke", is_flag=True, help="A few steps on a tiny random model and built-in data, in under a minute.")
@click.option("--track", type=click.Choice(["trackio", "wandb"]), help="Log to a tracker, too; install it first.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting of the recipe.")
def train(
    recipe: str, data: tuple[Path, ...], out: Path | None, smoke: bool, settings: tuple[str, ...], **options: Any
) -> None:
    """Train a decoder by RECIPE, a name or a file; a killed run goes on from its last checkpoint."""
    from audit_lit.recipes import recipe_path
    from audit_lit.training.recipe import load_recipe
    from audit_lit.training.run import train as run_training
    from audit_lit.training.smoke import smoke_run

    path = Path(recipe) if Path(recipe).is_file() else recipe_path(recipe)
    loaded = load_recipe(path, settings_of(settings))
    if smoke and data:
        raise click.UsageError("--smoke brings its own data; leave out --data, or --smoke for a real run.")
    if smoke:
        folder = smoke_run(loaded, out)
    elif not data:
        raise click.UsageError(
            "--data is missing; expected a folder of LatentQA's layout (train/ and dev/), or --smoke."
        )
    else:
        place = {"device": options["device"], "tracker": options["track"]}
        folder = run_training(loaded, data, out or Path("runs") / path.stem, **place)
    click.echo(folder)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def decoders(as_json: bool) -> None:
    """List the decoders that are shipped, and the published ones whose format is known."""
    from audit_lit.show import decoders_table

    decoders_table(as_json)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(as_json: bool) -> None:
    """Check versions, memory and caches; say what is missing and how to get it. Exits 2 if something is."""
    from audit_lit.doctor import examine
    from audit_lit.show import doctor_table

    checks = examine()
    doctor_table(checks, as_json)
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(2)


def main() -> None:
    """Run the command."""
    cli()


if __name__ == "__main__":
    main()
