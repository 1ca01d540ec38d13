"""The command ``audit-lit scan``: audit a model on many dialogs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_lit.commands import common, models
from audit_lit.commands.report import conclude, form_of, write_report
from audit_lit.errors import ScanError, UnreadableDialog
from audit_lit.files.writing import RUN, require_writable

if TYPE_CHECKING:
    from audit_lit import Auditor
    from audit_lit.models.target import Target

LATER = (
    *("adapter", "format", "skip_unreadable", "subfolder", "protocol", "base"),
    *("dtype", "device_map", "n_devices", "max_memory", "quantization", "quantized_decoder"),
    *("activations", "save_activations", "library"),
)
"""Options that came later: where they are not given, a run goes on in the folder that it was named before them."""
OF_A_RUN = ("target", "adapter", "dialogs", "format", "system", "baseline", "library", "save_activations")
"""Options that say what runs: a folder of activations has run already."""


@click.command()
@click.argument("target", default=models.DEFAULT_TARGET)
@models.adapter_option
@click.option("--recipe", default="hidden-prompt", help="What to ask: a name from 'recipes list', or a file.")
@click.option("--dialogs", type=click.Path(path_type=Path), help="File of dialogs; else the recipe's own lines.")
@common.format_option
@click.option("--activations", type=common.FOLDER, help="Folder of activations, a file per dialog; no target runs.")
@click.option("--save-activations", type=common.OUT_FOLDER, help="Folder to write what is read to, for --activations.")
@click.option("--skip-unreadable", is_flag=True, help="Report dialogs that cannot be read, and read the others.")
@click.option("--system", help="Hidden system prompt to put before each of the recipe's own lines.")
@click.option("--baseline", help="A clean model of the same shape: see docs/audits.md.")
@models.library_option
@models.decoder_options("--revision")
@click.option("--fail-on", type=click.Choice(["info", "low", "medium", "high"]), help="Lowest severity that exits 1.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; else one in runs/, named after the request.")
@click.option(
    "--report", "report_file", type=common.OUTPUT_FILE, help="File for the report: .html, .md, .xml, .json, .txt."
)
@common.settings_option
@models.run_options
def scan(
    target: str,
    recipe: str,
    dialogs: Path | None,
    system: str | None,
    report_file: Path | None,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Audit TARGET on many dialogs; findings come with controls, neutral twins and error rates.

    Exits 0 if nothing is found at or above --fail-on, 1 if something is, 2 if it cannot run, 3 if a dialog could not
    be read.
    """
    from audit_lit.chat.formats import DialogFile, digest
    from audit_lit.scan.recipe import load_scan_recipe

    reading = {name: options[name] for name in ("format", "skip_unreadable")}
    form = form_of(report_file) if report_file else None
    if options["activations"]:
        common.refuse_beside_activations(OF_A_RUN)
    if dialogs and system is not None:
        raise click.UsageError("--system goes before the recipe's own lines; with --dialogs, mark hidden turns there.")
    if not dialogs and not options["activations"] and any(reading.values()):
        raise click.UsageError("--format and --skip-unreadable are about the file of --dialogs, which is missing.")
    models.require_models(options["baseline"])
    overrides = common.parse_settings(settings) | ({"fail_on": options["fail_on"]} if options["fail_on"] else {})
    scan_recipe, questions = load_scan_recipe(recipe, overrides)
    if options["library"] and scan_recipe.reads != "difference":
        raise click.UsageError(
            f"--library is compared with by recipes that read what training changed, and {recipe!r} does not; leave it "
            "out, or take --recipe weights."
        )
    n_dialogs = 0 if options["activations"] else len(scan_recipe.probe_dialogs(system))  # 0 if it is not known yet
    if dialogs:
        with _hinting():
            census = digest(DialogFile(dialogs, **reading))  # before the models are loaded
        n_dialogs = census.n_dialogs - census.n_unreadable
        common.note(f"{dialogs} was read as {', '.join(census.formats)}.")
    named = options | {"device": options["device"] or "cpu"}
    told = sorted((name, value) for name, value in named.items() if value or name not in LATER)
    request = repr((target, recipe, dialogs, system, settings, told))
    out = options["out"] or Path("runs") / f"audit-{hashlib.sha256(request.encode()).hexdigest()[:8]}"
    require_writable(out, RUN, ScanError)

    named_with = {name: options[name] for name in ("revision", "adapter", "base")}
    models.require_models(target, options["decoder"], **named_with)  # before torch is imported
    if scan_recipe.reads == "difference":
        if options["save_activations"]:
            raise click.UsageError("--save-activations: a difference is not kept as activations; leave it out.")
        models.contrast_names(target, options["baseline"], options["adapter"])
    options["device"] = _device_here(options["device"])
    from audit_lit.calibration.settings import CalibrationSettings
    from audit_lit.decoder.calibration import CalibrationRecord
    from audit_lit.decoder.calibration_files import kept_in
    from audit_lit.report.wording import beyond, more_twins
    from audit_lit.scan.engine import twins_per_dialog
    from audit_lit.scan.measure import needed_lift

    auditor, baseline = _load(target, scan_recipe.reads == "difference", options)
    reader = auditor.session.for_layer(scan_recipe.layer)
    is_uncalibrated = needed_lift(reader, scan_recipe) is None and not options["activations"]
    if is_uncalibrated:
        common.note(
            "the threshold of this decoder has not been measured on this target, so it is measured first, from "
            f"{4 * CalibrationSettings().dialogs} answers (a bar says how long that takes), as by "
            f"{models.calibrate_command(reader, target, **options | {'layer': scan_recipe.layer})}; it is kept, and "
            "goes on where it stopped if it is interrupted ..."
        )
    common.note(f"the run folder is {out}; run the same command again to go on with an interrupted audit ...")
    n_twins = twins_per_dialog(scan_recipe, questions, n_dialogs) if n_dialogs else 0
    if n_twins and (more := beyond(n_twins, scan_recipe.twins)):
        common.note(f"each dialog gets {n_twins} neutral twins, {more} ...")
    where = {"out": out, "baseline": baseline, "seed": options["seed"], "kept_in": options["save_activations"]}
    given = options["activations"] or dialogs or scan_recipe.probe_dialogs(system)
    with _hinting():
        report = auditor.scan(given, recipe, **where, **reading, **overrides)
    if int(os.environ.get("RANK", "0")) > 0:  # of several processes, the first one speaks for all
        return
    if is_uncalibrated and (measured := report.manifest["calibration"]):
        record = CalibrationRecord(**measured)
        common.note(f"the calibration is kept in {kept_in(record, reader.decoder)}: {record.summary}.")
    if report.manifest["n_twins"] != n_twins and (more := more_twins(report)):  # some dialogs could not be read
        common.note(f"each dialog has {report.manifest['n_twins']} neutral twins, {more}.")
    if report_file and form:
        write_report(report, form, report_file)
    conclude(report, "json" if options["as_json"] else None)


def _load(target: str, is_contrast: bool, options: dict[str, Any]) -> tuple[Auditor, Target | None]:
    """Return an auditor, and the model to run neutral twins in if that is another."""
    from audit_lit import Auditor, load_target

    if options["activations"]:
        return Auditor.without_target(models.load_decoder(**options)), None
    if is_contrast:
        suspect, decoder, clean = models.load_contrast(target, **options)
        return Auditor(suspect, decoder, baseline=clean, library=models.load_library(options["library"])), None
    auditor = Auditor(*models.load_models(target, **options))
    weights = models.load_arguments(options)
    return auditor, load_target(options["baseline"], **weights) if options["baseline"] else None


@contextmanager
def _hinting() -> Iterator[None]:
    """Say which option leaves out a dialog that cannot be read."""
    try:
        yield
    except UnreadableDialog as err:
        raise UnreadableDialog(f"{err}\nTo audit the other dialogs: --skip-unreadable.") from err


def _device_here(device: str | None) -> str | None:
    """Return the device of this process: under ``accelerate launch``, each has a GPU of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device
