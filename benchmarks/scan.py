"""``python -m benchmarks.scan``: what an audit saves over asking in a loop, and the memory it takes.

A: ``Auditor.ask`` for each of ten questions, in seconds per dialog, over an eighth of the dialogs: in a loop, they cost
alike however many there are. B: ``Auditor.scan`` with the same questions, samples and controls, which scores neutral
twins and writes a run folder besides. Goal: A takes at least three times as long as B.
Then A: the resident memory after that audit. B: after one of a quarter of the dialogs. Goal: A is at most 1.05 B.
Measured on two CPU cores: 3.2, and 0.99. About seven minutes; ``--dialogs 200`` takes twenty.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil

from audit_lit import Auditor
from audit_lit.commands.ask import DEMO
from audit_lit.recipes import HERE
from audit_lit.scan.recipe import load_questions
from benchmarks import models, pairs

SETTINGS = {"samples": 2, "max_new_tokens": 40}
MIB = 2**20


def demo_dialogs(n: int) -> list[list[dict[str, str]]]:
    """Return ``n`` different dialogs."""
    return [[DEMO[0], {"role": "user", "content": f"{DEMO[1]['content']} Number {number}."}] for number in range(n)]


def ask_all(auditor: Auditor, dialogs: list[Any], questions: tuple[str, ...]) -> None:
    """Ask one question after the other."""
    for dialog in dialogs:
        for question in questions:
            auditor.ask(dialog, question, **SETTINGS)


def scan_all(auditor: Auditor, dialogs: list[Any], ids: tuple[str, ...]) -> None:
    """Audit the dialogs in a folder of their own; heatmaps are not part of the comparison."""
    with tempfile.TemporaryDirectory() as folder:
        auditor.scan(dialogs, "user-model", out=Path(folder) / "run", questions=ids, min_lift=1e6, **SETTINGS)


def resident() -> float:
    """Return the MiB of this process."""
    return psutil.Process().memory_info().rss / MIB


@click.command(help=__doc__)
@pairs.options(repeats=1)
@click.option("--dialogs", "n", default=64, show_default=True, type=click.IntRange(8), help="Number of dialogs.")
def main(repeats: int, tiny: bool, as_json: bool, n: int) -> None:
    """Compare an audit with asking in a loop."""
    target = models.load(tiny)
    auditor = Auditor(target, models.decoder_of(target))
    ids = tuple(sorted(path.stem for path in (HERE / "questions").glob("*.md")))
    texts = tuple(question.text for question in load_questions(ids))
    scan_all(auditor, demo_dialogs(n // 4), ids)  # first: what is freed stays with the process
    before, few = resident(), n // 8
    times, sizes = [], []
    for _ in range(repeats):
        looped = pairs.seconds(partial(ask_all, auditor, demo_dialogs(few), texts)) / few
        times.append((looped, pairs.seconds(partial(scan_all, auditor, demo_dialogs(n), ids)) / n))
        sizes.append((resident(), before))
    compared = [pairs.Pair.of(f"a dialog of {n}, {len(ids)} questions", times, ">= 3")]
    compared.append(pairs.Pair.of(f"memory, {n} and {n // 4} dialogs", sizes, "<= 1.05", unit="MiB"))
    pairs.report("ask in a loop (A) / scan (B)", compared, as_json)


if __name__ == "__main__":
    main()
