"""The command ``audit-lit calibrate``: measure what an answer needs to be believed, for any decoder and target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit_lit.commands import common, models
from audit_lit.files.writing import dump_json

if TYPE_CHECKING:  # they import torch
    from audit_lit.decoder.calibration import CalibrationRecord, Safety
    from audit_lit.decoder.config import DecoderConfig


@click.command()
@models.models_options
@click.option("--dialogs", default=100, type=click.IntRange(8, 200), help="Number of neutral dialogs.")
@click.option("--batch-size", default=8, type=click.IntRange(1), help="Number of dialogs that are measured at once.")
@click.option("--safety/--no-safety", default=True, help="Count the harmless requests that are answered, too.")
@click.option("--replace", is_flag=True, help="Let the values count in place of those that the decoder comes with.")
@click.option("--again", is_flag=True, help="Measure anew what was measured before.")
@click.option("--out", type=common.OUTPUT_FILE, help="Also write the calibration to this file.")
@models.run_options
def calibrate(replace: bool, again: bool, safety: bool, out: Path | None, as_json: bool, **options: Any) -> None:
    """Measure the threshold, the scales of claims and the false alarms of a decoder on a target.

    It takes neutral dialogs, activations that say nothing, and harmless planted prompts, all of which ship with
    audit-lit. The result is kept beside the decoder, or else in the user's cache, and used from then on. An interrupted
    calibration goes on where it stopped.
    """
    where = {name: options[name] for name in ("revision", "adapter", "base")}
    models.require_models(options["target"], options["decoder"], **where)
    from audit_lit import Auditor
    from audit_lit.decoder.calibration_files import CalibrationFile, kept_in, why_ignored
    from audit_lit.files.reading import is_file

    if out and is_file(out):
        CalibrationFile.load(out)  # raises for a file of another kind, before minutes of work
    auditor = Auditor(*models.load_models(**options), layer=options["layer"])
    session = auditor.session
    if session.calibration is None and (ignored := why_ignored(session.decoder)):
        common.note(ignored)
    n_answers = 4 * options["dialogs"]
    common.note(f"measuring on {n_answers} answers, then on claims{' and requests' if safety else ''} ...")
    settings = {name: options[name] for name in ("dialogs", "batch_size", "seed")}
    record = auditor.calibrate(safety=safety, again=again, replace=replace, **settings)
    common.note(f"the calibration is kept in {kept_in(record, session.decoder)}.")
    if out:
        CalibrationFile(calibrations=(record,)).save(out)
    if as_json:
        common.show(dump_json(record.model_dump(mode="json"), indent=2))
        return
    _print(record, session.full_decoder.for_layer(options["layer"]).config, auditor.decoder.config.lift_threshold)


def _print(record: CalibrationRecord, config: DecoderConfig, threshold: float | None) -> None:
    """Print what was measured beside what the decoder comes with, and which of the two counts."""
    from rich.console import Console
    from rich.table import Table

    from audit_lit.decoder.calibration import origin

    claims, comes_with = record.claims, config.lift_threshold
    table = Table("what", "measured here", "comes with the decoder")
    rows: list[tuple[str, object, object]] = [("threshold, nats per token", record.lift_threshold, comes_with)]
    if claims:
        rows += [
            ("scale of claims", claims.claim_scale, config.claim_scale),
            ("scale of choices", claims.choice_scale, config.choice_scale),
        ]
    for what, measured, shipped in rows:
        table.add_row(what, str(measured), "-" if shipped is None else str(shipped))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"threshold: from {record.threshold_n} answers about nothing; other dialogs give these rates.")
    console.print(f"about nothing, pass for supported: {record.about_nothing}")
    console.print(f"about neutral dialogs, name something and pass for supported: {record.about_neutral}")
    if claims:
        low, high = claims.auroc_interval
        console.print(
            f"claims: a right one has more evidence than a wrong one in {claims.auroc:.1%} (95% interval {low:.1%} to "
            f"{high:.1%}); calibration error {claims.ece:.2f} (n={claims.n}, {claims.n_prompts} planted prompts)"
        )
    if record.safety:
        _print_safety(record.safety)
    if record.unfinished:
        console.print(record.unfinished)
    console.print(f"The threshold that counts: {threshold} ({origin(threshold, record)}).")
    if comes_with is not None and not record.replaces:
        console.print(
            "Of two thresholds the higher counts, and of two scales the one that the decoder comes with; --replace "
            "makes those that were measured here count."
        )


def _print_safety(safety: Safety) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(f"harmless requests that models tend to refuse, answered by the base: {safety.base}")
    console.print(f"the same, by the decoder with nothing injected: {safety.decoder}")
    console.print(f"of those that the base refuses, by the decoder: {safety.despite_base}")
    console.print("Refusals are told by their words: one in other words counts as an answer.")
