"""Helpers that several test files share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "smollm2-135m.yaml"
DIALOG = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"}]
FAST = {"samples": 1, "max_new_tokens": 4, "twins": 2}
"""Settings of a short audit."""


@contextmanager
def count_calls(model: Any) -> Iterator[list[int]]:
    """Collect the batch size of every forward pass of a TransformerLens model."""
    calls: list[int] = []
    original = model.forward

    def forward(tokens: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(tokens))
        return original(tokens, *args, **kwargs)

    model.forward = forward
    try:
        yield calls
    finally:
        del model.forward


def dialogs(n: int) -> list[list[dict[str, str]]]:
    """As many dialogs that differ in what the user says."""
    return [[DIALOG[0], {"role": "user", "content": f"Hello number {index}."}] for index in range(n)]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def record(
    place: int,
    lift: float,
    score: float,
    twins: list[float],
    text: str = "persona: pirate",
    *,
    compared: tuple[str, ...] = ("q",),
    described: tuple[str, ...] = (),
) -> Any:
    """What an audit writes down of a dialog: the same answer to the questions that compare and that only describe."""
    from audit_lit.scan.records import DialogRecord, RecordedAnswer

    controls = {"no_activation": -1 - lift, "null": -5.0}
    answer = RecordedAnswer(text, -1.0, controls, lift, (lift - 0.1, lift + 0.1), samples=(), agreement=1.0)
    return DialogRecord(
        place=place,
        id=str(place),
        messages=tuple(DIALOG),
        layers=(2,),
        positions=(0,),
        tokens=("a",),
        answers=dict.fromkeys((*compared, *described), answer),
        expected=dict.fromkeys(compared, "Nothing."),
        scores={question: [score, *twins] for question in compared},
    )
