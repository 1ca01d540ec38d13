"""What every test of edits needs: replies that are quick to generate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits measure drift, and are checked, on replies of four tokens at most."""
    from audit_lit.edits import drift
    from audit_lit.edits.checks import check
    from audit_lit.models.generation import generate_replies

    def short(target: Any, dialogs: Sequence[Any], sampling: Any, hooks: Sequence[Any] = ()) -> list[str]:
        few = replace(sampling, max_new_tokens=min(4, sampling.max_new_tokens))
        return generate_replies(target, dialogs, few, hooks)

    for module in (check, drift):
        monkeypatch.setattr(module, "generate_replies", short)
