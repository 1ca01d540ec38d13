"""An audit report as one page that needs nothing else: no network, no script, no font.

Model text is untrusted. Whatever the templates print is made inert and escaped by the environment, so that no template
can forget it; nothing is ever marked as safe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audit_lit.report import figures, plots, wording
from audit_lit.report.sanitise import LIMIT, cut, inert

if TYPE_CHECKING:
    from audit_lit.scan.outcome import AuditOutcome

MAX_BYTES = 300_000


@dataclass(frozen=True)
class Detail:
    """How much is shown.

    Attributes:
        chars: Of each text.
        items: Tokens and samples of each dialog, and dialogs that were not read.
        dialogs: Of each finding.
    """

    chars: int
    items: int
    dialogs: int


DETAILS = (Detail(LIMIT, 40, 3), Detail(600, 20, 3), Detail(200, 10, 3), Detail(80, 5, 1))
"""The first with which a page stays under ``MAX_BYTES`` is taken."""


def to_html(report: AuditOutcome) -> str:
    """Return a report as an HTML document, under ``MAX_BYTES`` unless there are a great many questions."""
    for detail in DETAILS:
        page = _environment(detail).get_template("report.html.jinja").render(_content(report))
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
    environment.filters.update(
        signed=figures.signed,
        small=figures.small,
        interval=figures.interval,
        expected=figures.expected,
        quoted=partial(json.dumps, ensure_ascii=False),
        cut=partial(cut, limit=detail.chars),
        turns=wording.turns,
    )
    environment.globals.update(
        nothing_left=wording.nothing_left,
        bars=plots.bars,
        cells=plots.cells,
        distribution=plots.distribution,
        detail=detail,
    )
    return environment


def _shown(value: Any) -> Any:
    """Return what is printed for a value; markup is what the templates themselves have rendered."""
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _content(report: AuditOutcome) -> dict[str, Any]:
    return {
        "report": report,
        "headline": wording.headline(report),
        "caveats": wording.caveats(report),
        "facts": wording.facts(report),
        "figures": partial(figures.figures, alpha=report.manifest["recipe"]["alpha"]),
        "how_to_read": wording.HOW_TO_READ,
        "false_alarms": wording.false_alarms(report),
        "manifest": dict(_flat(report.manifest)),
        "accent": "high" if not report.complete else report.raised[0].severity if report.raised else "info",
    }


def _flat(manifest: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the manifest's values under dotted names; the questions' texts stand in the report already."""
    for name, value in manifest.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif name != "questions" or above:
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
