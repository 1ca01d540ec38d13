"""The command ``audit-lit eval``: what a decoder, or the edits that it makes, are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from audit_lit.options import FOLDER, note, quiet_libraries


@click.command("eval")
@click.argument("suite")
@click.option("--data", multiple=True, required=True, type=FOLDER, help="Folder of a layout that the suite can use.")
@click.option("--split", default="dev", help="Folder in it that is measured.")
@click.option("--target", default="smollm2-135m", help="Model that is read: alias, folder or Hub id.")
@click.option("--decoder", default="default", help="Model that is measured: 'default', folder or Hub id.")
@click.option("--revision", help="Commit of a Hub decoder.")
@click.option("--limit", type=click.IntRange(4), help="Use this many labels.")
@click.option("--layer", type=int, help="Layer to read, for a decoder that reads one of several.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Of every draw.")
@click.option("--device", default="cpu", help="Where to run, as torch names it.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the figures into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(suite: str, data: tuple[Path, ...], split: str, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Measure a decoder by SUITE; every figure comes beside its controls.

    hidden-prompt, null, calibration and inversion take LatentQA's layout, user-model TalkTuner's, and relations that of
    Hernandez et al.
    """
    from audit_lit import Decoder, load_target
    from audit_lit.datasets import has_split, load_split
    from audit_lit.evaluation import SUITES
    from audit_lit.evaluation import evaluate as run_suite
    from audit_lit.evaluation.figures import plot as draw
    from audit_lit.show import evaluation_table

    quiet_libraries()
    rows = load_split(data, split)
    probes = suite in SUITES and SUITES[suite].probes and split != "train" and has_split(data, "train")
    train_rows = load_split(data, "train") if probes else []
    target = load_target(options["target"], device=options["device"])
    decoder = Decoder.from_pretrained(options["decoder"], revision=options["revision"], target=target)
    note("measuring ...")
    settings = {name: options[name] for name in ("limit", "layer", "seed")}
    document = run_suite(suite, decoder, target, rows, train_rows=train_rows, **settings)
    if plot:
        draw(document, plot)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        evaluation_table(document)
