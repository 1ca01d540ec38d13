"""A session in which the suite ``edits`` takes seconds."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.short_replies import shorten


@pytest.fixture
def session(target: Any, make_decoder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Target and decoder, with recipes, replies and neutral text small enough for a tiny target."""
    from audit_lit.answers.session import Session
    from audit_lit.edits.recipe import load_edit_recipe
    from audit_lit.evaluation.edit_suite import persona, plan, sentiment, stereotypes, suite

    def load_small(name: str, overrides: dict[str, Any] | None = None) -> Any:
        return load_edit_recipe(name, {"layers": [1], "steps": 1, "lines": ["Hi", "What now?"]} | (overrides or {}))

    monkeypatch.setattr(suite, "load_edit_recipe", load_small)
    shorten(monkeypatch)
    for module in (sentiment, persona, stereotypes):
        monkeypatch.setattr(module, "FACTORS", (1.0,))
        monkeypatch.setattr(module, "MAX_RISE", 100.0)
    monkeypatch.setitem(plan.METHOD_SETTINGS, "gradient", {"steps": 1})
    return Session.of(target, make_decoder())
