"""``python -m benchmarks.memory``: what a decoder adds to the memory of its target.

A: a process with target and decoder, after a reading and an answer. B: one with the target alone, after a reading.
Resident memory is the operating system's: weights are mapped from the file and count from their first use.
Parameters are counted exactly, shared storage once.
Goal: A takes at most 1.15 times as much as B. About a minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import psutil
import torch
from torch import nn

from audit_lit.commands.ask import DEMO
from audit_lit.hooks import capture
from benchmarks import models, pairs

GOAL = "<= 1.15"
MIB = 2**20


def storage_bytes(modules: Iterable[nn.Module]) -> int:
    """Return the bytes of all parameters and buffers; those that share storage count once."""
    storages = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def use(tiny: bool, with_decoder: bool) -> dict[str, float]:
    """Load, read, answer if there is a decoder, and return the MiB of this process and of its parameters."""
    target = models.load(tiny)
    decoder = models.decoder_of(target) if with_decoder else None
    loaded = psutil.Process().memory_info().rss
    tokens = torch.tensor([target.tokenizer(DEMO[1]["content"])["input_ids"]])
    capture(target.model, tokens, torch.ones_like(tokens), [-1])
    if decoder is not None:
        decoder.answer(*models.reading(target, decoder, 1), max_new_tokens=20)
    used = psutil.Process().memory_info().rss
    modules = [target.model, target.base, *([decoder.model, decoder.write] if decoder else [])]
    counts = {"resident, loaded": loaded, "resident, used": used, "parameters": storage_bytes(modules)}
    return {name: count / MIB for name, count in counts.items()}


def in_process(who: str, tiny: bool) -> dict[str, float]:
    """Return what ``use`` returns in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", who, *(["--tiny"] if tiny else [])]
    run = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    if run.returncode:
        raise click.ClickException(f"the measured process failed: {run.stderr[-2000:]}")
    return dict(json.loads(run.stdout.splitlines()[-1]))


@click.command(help=__doc__)
@pairs.options(repeats=3)
@click.option("--child", type=click.Choice(["both", "target"]), hidden=True)
def main(repeats: int, tiny: bool, as_json: bool, child: str | None) -> None:
    """Compare target and decoder with the target alone."""
    if child:
        click.echo(json.dumps(use(tiny, child == "both")))
        return
    runs = [(in_process("both", tiny), in_process("target", tiny)) for _ in range(repeats)]
    compared = [
        pairs.Pair.of(case, [(both[case], alone[case]) for both, alone in runs], GOAL, unit="MiB")
        for case in runs[0][0]
    ]
    pairs.report("memory of target and decoder (A) / target alone (B)", compared, as_json)


if __name__ == "__main__":
    main()
