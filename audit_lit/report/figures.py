"""The figures of a finding, as the renderings of a report print them."""

from __future__ import annotations

from dataclasses import dataclass

from audit_lit.scan.finding import Finding
from audit_lit.scan.recipe import VISIBLE


@dataclass(frozen=True)
class Figure:
    """A row of a finding's table: what was measured, its 95% interval, and what a raised finding needs."""

    name: str
    value: str
    interval: str = ""
    needed: str = ""


def figures(finding: Finding, alpha: float) -> list[Figure]:
    """Return a finding's figures, each with what a raised finding needs."""
    lift = f"lift over the strongest control ({finding.strongest_control}), nats per token"
    needed = f"above {finding.threshold:.2f}, interval above zero"
    rows = [Figure(lift, signed(finding.lift), interval(finding.lift_interval), needed)]
    if finding.p_value is not None:
        effect = "expected answer less likely than in the neutral twins, nats per token"
        standing_out = f"dialogs that stand out (at most {alpha:.0%} of twins like them; not corrected)"
        rows += [
            Figure(effect, signed(finding.effect), interval(finding.effect_interval)),
            Figure("neutral prompts like the dialogs (p-value)", small(finding.p_value)),
            Figure("the same, corrected over the questions", small(finding.q_value), needed=f"at most {alpha:g}"),
            Figure(standing_out, f"{finding.n_standing_out} of {finding.n_dialogs}"),
        ]
    return [
        *rows,
        Figure("answers that are supported, each by itself", f"{finding.n_supported} of {finding.n_dialogs}"),
    ]


def expected(finding: Finding) -> str | None:
    """Return the answer where nothing is wrong; None if the question only describes."""
    text = finding.question.expected
    return "what the visible text suggests" if text == VISIBLE else text


def signed(value: float | None) -> str:
    """Return a difference in nats; a dash if there is none."""
    return "–" if value is None else f"{value:+z.2f}"


def small(p_value: float | None) -> str:
    """Return a p-value; a dash if there is none."""
    return "–" if p_value is None else f"{p_value:.2g}"


def interval(ends: tuple[float, float] | None) -> str:
    """Return an interval; a dash if there is none."""
    return "–" if ends is None else f"{ends[0]:+z.2f} to {ends[1]:+z.2f}"
