"""The figures of an evaluation document as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VALUES = ("top1", "auroc", "accuracy", "value", "confident_share")
"""Keys of a document that hold a measured value."""


@dataclass(frozen=True)
class Figure:
    """One measured value beside its controls.

    Attributes:
        name: Its place in the document, such as ``identification.matched``.
        value: The value that the decoder reaches.
        interval: Its 95% interval, if there is one.
        controls: The value that each control reaches.
        lift: The lift over the strongest control, if the suite says.
        cost: The relative rise of perplexity that it comes at, if the suite says.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    controls: dict[str, float]
    lift: float | None
    cost: float | None = None


def figures(document: dict[str, Any], name: str = "") -> Iterator[Figure]:
    """Yield the figures of a document, outermost first."""
    if key := next((key for key in VALUES if isinstance(document.get(key), float)), None):
        interval = document.get("interval")
        yield Figure(
            name=name if key == "value" else f"{name} {key}".strip(),
            value=document[key],
            interval=(interval[0], interval[1]) if interval else None,
            controls=document.get("controls", {}),
            lift=document.get("lift"),
            cost=document.get("cost"),
        )
    for part, content in document.items():
        if isinstance(content, dict) and part not in ("controls", "manifest"):
            yield from figures(content, f"{name}.{part}".lstrip("."))
