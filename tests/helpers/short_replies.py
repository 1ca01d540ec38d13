"""Replies of two tokens, and few neutral lines, for commands that let an edited model speak."""

from __future__ import annotations

from dataclasses import replace
from typing import Any


def shorten(monkeypatch: Any) -> None:
    """Shorten what is generated to measure drift and effects; what ``edit apply`` prints is left as asked."""
    from audit_lit.edits import drift, recipe
    from audit_lit.edits.checks import check
    from audit_lit.evaluation.edit_suite import speech
    from audit_lit.models.generation import generate_replies

    def generate_short_replies(target: Any, dialogs: Any, sampling: Any, hooks: Any = ()) -> list[str]:
        return generate_replies(target, dialogs, replace(sampling, max_new_tokens=2), hooks)

    for module in (check, drift, speech):
        monkeypatch.setattr(module, "generate_replies", generate_short_replies)
    monkeypatch.setattr(recipe, "neutral_lines", lambda: ("Hi", "Hello", "What now?", "Who are you?"))
