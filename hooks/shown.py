"""What is shown of an edit, of either kind, where it is the last line of a notebook's cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audit_lit.display import notebooks
from audit_lit.hooks.edit_files import Origin


def edit_line(kind: str, origin: Origin) -> str:
    """Return an edit in one line."""
    layers = origin.settings.get("layers")
    goal, target = notebooks.brief(origin.goal), notebooks.brief(origin.target)
    return f"<{kind} {goal} by {origin.method or 'hand'}, layers {layers}, for {target}>"


def edit_table(kind: str, origin: Origin) -> str:
    """Return an edit as an HTML table: what it is, and what was measured of it."""
    return notebooks.table(f"{kind}: {origin.goal}", ("", "value"), _facts(origin))


def _facts(origin: Origin) -> Iterator[tuple[str, Any]]:
    metrics = origin.metrics
    yield "for", origin.target
    yield "method", origin.method or "by hand"
    yield "layers", origin.settings.get("layers")
    names = {"loss_before": "decoder's loss before", "loss_after": "after", "kl": "drift, nats per token"}
    for name, shown in names.items():
        if isinstance(metrics.get(name), int | float):
            yield shown, f"{metrics[name]:.3f}"
    check = metrics.get("check")
    if isinstance(check, dict):
        yield "check", check.get("verdict")
