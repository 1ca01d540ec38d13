"""Two things timed in turn in one process, and the report on them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import click
import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Pair:
    """One comparison of A with B over several repeats.

    Attributes:
        case: What was compared.
        ratio: Median of A / B.
        low: Smallest ratio.
        high: Largest ratio.
        a: Median of A.
        b: Median of B.
        goal: Bound on the ratio, such as ``<= 1.1``; None where the comparison only informs.
        unit: Unit of ``a`` and ``b``.
    """

    case: str
    ratio: float
    low: float
    high: float
    a: float
    b: float
    goal: str | None
    unit: str = "s"

    @classmethod
    def of(cls, case: str, runs: Sequence[tuple[float, float]], goal: str | None, unit: str = "s") -> Pair:
        """Summarise measurements of A and B, one pair per repeat."""
        ratios = [a / b for a, b in runs]
        a, b = (median(column) for column in zip(*runs, strict=True))
        return cls(case, median(ratios), min(ratios), max(ratios), a, b, goal, unit)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if self.goal is None:
            return None
        sign, bound = self.goal.split()
        return self.ratio <= float(bound) if sign == "<=" else self.ratio >= float(bound)


def options(repeats: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that every benchmark has; ``repeats`` is the default of ``--repeats``."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
            click.option("--tiny", is_flag=True, help="A tiny random model: tries the benchmark in seconds."),
            click.option("--repeats", default=repeats, show_default=True, type=click.IntRange(1), help="Timings."),
        ):
            command = option(command)
        return command

    return add


def compare(
    case: str, a: Callable[[], object], b: Callable[[], object], repeats: int, goal: str | None, *, warm: bool = True
) -> Pair:
    """Time ``a`` and ``b`` in turn, each first every other time; what disturbs the machine disturbs both."""
    if warm:
        a()
        b()
    runs = []
    for repeat in range(repeats):
        order = (a, b) if repeat % 2 == 0 else (b, a)
        took = {function: seconds(function) for function in order}
        runs.append((took[a], took[b]))
    return Pair.of(case, runs, goal)


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def report(title: str, pairs: Sequence[Pair], as_json: bool) -> None:
    """Print a table, or one JSON document."""
    setting = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if as_json:
        rows = [asdict(pair) | {"met": pair.met} for pair in pairs]
        click.echo(json.dumps({"benchmark": title, **setting, "pairs": rows}, indent=2))
        return
    caption = f"torch {setting['torch']}, {setting['threads']} threads"
    table = Table("case", "A", "B", "A / B", "min-max", "goal", "met", title=title, caption=caption)
    for pair in pairs:
        digits = 3 if pair.unit == "s" else 0
        values = [f"{value:,.{digits}f} {pair.unit}" for value in (pair.a, pair.b)]
        met = {None: "", True: "yes", False: "no"}[pair.met]
        table.add_row(pair.case, *values, f"{pair.ratio:.3f}", f"{pair.low:.2f}-{pair.high:.2f}", pair.goal, met)
    Console().print(table)
