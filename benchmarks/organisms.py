"""``python -m benchmarks.organisms ZOO``: what audits of the organisms in a folder find, a line for each.

ZOO is a folder that ``audit-lit organisms build`` wrote. Each organism shares the weights of its base, and is audited
by the recipe ``weights``. A run goes on where it stopped, in ``--out``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from audit_lit import Auditor, Decoder, load_target
from audit_lit.organisms.build import RECORD
from audit_lit.organisms.measure import known_of
from audit_lit.scan.recipe import load_scan_recipe


@click.command(help=__doc__)
@click.argument("zoo", type=click.Path(exists=True, path_type=Path))
@click.option("--target", default="smollm2-135m", help="The base of the organisms.")
@click.option("--decoder", default="default")
@click.option("--recipe", default="weights")
@click.option("--split", help="Audit the organisms of this split alone.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(zoo: Path, target: str, decoder: str, recipe: str, split: str | None, out: Path) -> None:
    """Audit every organism."""
    base = load_target(target)
    reader = Decoder.from_pretrained(decoder, target=base)
    probes = load_scan_recipe(recipe)[0].probe_dialogs()
    for folder in sorted(path.parent for path in zoo.glob(f"*/{RECORD}")):
        known = known_of(folder)
        if split in (None, known.split):
            began = time.perf_counter()
            auditor = Auditor(load_target(base, adapter=folder), reader, baseline=base)
            report = auditor.scan(probes, recipe, out=out / known.id)
            compared = next(finding for finding in report.findings if finding.p_value is not None)
            figures = {"p": compared.p_value, "effect": compared.effect, "lift": compared.lift}
            answers = {finding.question.id: finding.evidence[0].answer.text for finding in report.findings}
            seconds = round(time.perf_counter() - began, 1)
            row = {**known.model_dump(), "flagged": report.flagged, **figures, "answers": answers, "seconds": seconds}
            click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
