"""Made-up rows of every kind, and mixtures of them, for tests."""

from __future__ import annotations

from typing import Any

from helpers.training import plain_recipe

FAMILIES = ("persona-job", "persona-type", "goal-style", "goal-tone")
LABELS = [f"{family}-{topic}" for family in FAMILIES for topic in ("apple", "berry", "cherry", "date")]


def rows() -> list[Any]:
    """Sixteen system prompts whose text, line and QA name their label, and two users' dialogs."""
    from audit_lit.data.rows import Row

    turns = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "?"},
    )
    users = [Row(f"user-{value}", turns) for value in ("age-child", "education-highschool")]
    about = ({"role": "user", "content": "Tell me about France"},)
    capital = Row("relation-factual-capital", about, (("X's capital?", "Paris"), ("Capital of X?", "Paris")))
    return [*users, capital] + [
        Row(
            label,
            (
                {"role": "system", "content": f"Please adopt the persona of a {label}. Be brief.", "hidden": True},
                {"role": "user", "content": f"line of {label}"},
            ),
            ((f"About {label}?", f"It is {label}."),),
        )
        for label in LABELS
    ]


def mixture(**changes: Any) -> Any:
    from audit_lit.training.sources import Mixture

    return Mixture(rows(), plain_recipe().model_copy(update=changes))


def only(source: str, n: int = 400, **changes: Any) -> list[Any]:
    """Examples of one source alone."""
    shares = tuple(share for share in plain_recipe().mixture if share.source == source)
    alone = mixture(mixture=shares, **changes)
    return [alone.draw(index) for index in range(n)]


def system_of(example: Any) -> str:
    """The text of an example's system prompt; empty if it has none."""
    return str(example.dialog[0]["content"]) if example.dialog[0]["role"] == "system" else ""
