"""An audit report as one page that needs nothing else: no network, no script, no font.

Model text is untrusted. The environment makes inert and escapes whatever the templates print, so no template can forget
it. Nothing is ever marked as safe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audit_lit.display.inert import LIMIT, cut, inert
from audit_lit.report import figures, plots, wording
from audit_lit.scan.outcome import AuditOutcome

MAX_BYTES = 300_000
"""Size that a page should stay under."""


@dataclass(frozen=True)
class Detail:
    """How much a page shows: characters of each text, and dialogs of each finding."""

    chars: int
    items: int
    """Number of tokens and samples of each dialog, and of dialogs that were not read."""
    dialogs: int


DETAILS = (Detail(LIMIT, 40, 3), Detail(600, 20, 3), Detail(200, 10, 3), Detail(80, 5, 1))
"""The page takes the first with which it stays under ``MAX_BYTES``, else the last."""


def to_html(report: AuditOutcome) -> str:
    """Return a report as an HTML document, under ``MAX_BYTES`` unless there are a great many questions."""
    manifest = report.manifest
    content = {
        "report": report,
        "headline": wording.headline(report),
        "caveats": wording.caveats(report),
        "facts": wording.facts(report),
        "figures": partial(figures.figures, alpha=manifest["recipe"]["alpha"]),
        "how_to_read": wording.HOW_TO_READ,
        "false_alarms": wording.false_alarms(report),
        "manifest": dict(_flat(manifest)),
        "accent": "high" if not report.complete else report.raised[0].severity if report.raised else "info",
    }
    for detail in DETAILS:
        page = _environment(detail).get_template("report.html.jinja").render(content)
        if len(page.encode()) < MAX_BYTES:
            break
    return page


def _environment(detail: Detail) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "signed": figures.signed,
        "small": figures.small,
        "interval": figures.interval,
        "expected": figures.expected,
        "quoted": partial(json.dumps, ensure_ascii=False),
        "cut": partial(cut, limit=detail.chars),
        "turns": wording.turns,
    }
    shared = {"bars": plots.bars, "cells": plots.cells, "distribution": plots.distribution}
    environment.globals |= {"nothing_left": wording.nothing_left, "detail": detail, **shared}
    return environment


def _shown(value: Any) -> Any:
    """Return a value as it is printed; markup is what the templates themselves have rendered."""
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _flat(manifest: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the manifest's values under dotted names; the questions' texts stand in the report already."""
    for name, value in manifest.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif name != "questions" or prefix:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
