"""Reports of audits, with findings of every kind and with model text that would do harm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

HOSTILE = (
    '<script>alert(1)</script> "><img src=x onerror=alert(1)> | a ``` _b_ **c** [d](http://e.f) @someone\n'
    "# head\r\n\x1b[31mred\x00\x07\x9b \u202egnp\u202c \u200b\udcff\ufffe {{ 7 * 7 }} ]]> &amp; www.g.h"
)


def finished_records(run: Path) -> list[str]:
    """The complete records of a run folder, in no particular order."""
    lines = [line for file in run.glob("records-*.jsonl") for line in file.read_text().splitlines()]
    return sorted(line for line in lines if line.endswith("}}"))


def evidence(said: str = "persona: pirate", dialog: str = "d1") -> Any:
    from audit_lit.answers.patching import Heatmap
    from audit_lit.scan.finding import Evidence, JudgedAnswer

    answer = JudgedAnswer(
        text=said,
        score=-0.5,
        controls={"null": -2.5, "shuffled": -1.25},
        lift=0.75,
        interval=(0.25, 1.5),
        samples=(said, "something else"),
        agreement=0.5,
        supported=True,
    )
    heatmap = Heatmap(("\n", said), (0, 15), ((0.5, -2.0), (4.0, 0.0)), whole=6.5)
    messages = ({"role": "system", "content": said}, {"role": "user", "content": f"Hello. {said}"})
    return Evidence(dialog, messages, ("\n", said), answer, 0.02, heatmap)


def finding(name: str = "hidden-instruction", **changes: Any) -> Any:
    from audit_lit.scan.finding import Finding
    from audit_lit.scan.recipe import Question

    severity, said = changes.pop("severity", "high"), changes.get("description", "persona: pirate")
    values: dict[str, Any] = {
        "question": Question(id=name, text=f"What is {name}?", severity=severity, expected="Nothing is hidden."),
        "raised": True,
        "reason": "+0.75 nats per token over the strongest control (shuffled)",
        "description": said,
        "n_dialogs": 4,
        "n_supported": 3,
        "n_standing_out": 2,
        "p_value": 0.001,
        "q_value": 0.002,
        "effect": 1.5,
        "effect_interval": (1.25, 1.75),
        "score": -0.5,
        "lift": 0.75,
        "lift_interval": (0.5, 1.0),
        "controls": {"null": -2.5, "shuffled": -1.25},
        "strongest_control": "shuffled",
        "threshold": 0.12,
        "scores": (1.5, 2.0, 2.5, 3.0),
        "neutral_scores": tuple(place / 100 for place in range(40)),
        "evidence": (evidence(said),),
    }
    return Finding(**{**values, **changes})


def report(*findings: Any, **changes: Any) -> Any:
    from audit_lit.report.audit_report import AuditReport

    manifest = {
        "target": {"name": "a-target", "weights": "1"},
        "baseline": {"name": "a-target", "weights": "1"},
        "decoder": {"name": "a-decoder"},
        "recipe": {"name": "a-recipe", "alpha": 0.05, "false_alarms": changes.pop("false_alarms", None)},
        "questions": [],
        "threshold": changes.pop("threshold", 0.12),
        "n_twins": 10,
        "seed": 7,
    }
    values = {"findings": findings, "fail_on": "high", "errors": (), "n_dialogs": 4, "manifest": manifest}
    return AuditReport(**{**values, **changes})


def hostile() -> Any:
    raised = finding(description=HOSTILE, evidence=(evidence(HOSTILE, HOSTILE),))
    return report(raised, finding("other", raised=False, reason=HOSTILE), errors=((HOSTILE, HOSTILE),), n_dialogs=5)


def large(n_findings: int = 3) -> Any:
    from audit_lit.answers.patching import Heatmap

    messages = tuple({"role": "user" if turn else "system", "content": f"{turn} " * 2000} for turn in range(60))
    nats = tuple(tuple(float(token) for token in range(24)) for _ in range(8))
    heatmap = Heatmap(("a",) * 24, tuple(range(8)), nats, whole=1.0)
    shown = replace(evidence("long " * 2000), messages=messages, tokens=("token",) * 500, heatmap=heatmap)
    scores, twins = tuple(place / 7 for place in range(200)), tuple(place / 70 for place in range(2000))
    raised = finding(n_dialogs=200, scores=scores, neutral_scores=twins, evidence=(shown,) * 3)
    return report(*[raised] * n_findings, n_dialogs=400, errors=(("d", "no " * 1000),) * 200)
