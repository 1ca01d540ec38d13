"""Neutral twins."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st


@given(n=st.integers(2, 6), seed=st.integers(0, 100), n_hidden=st.integers(0, 2), visible_system=st.booleans())
@settings(max_examples=50, deadline=None)
def test_twins_keep_the_visible_turns_and_hide_nothing(n: int, seed: int, n_hidden: int, visible_system: bool) -> None:
    from audit_lit.chat.dialog import is_hidden
    from audit_lit.chat.neutral import NEUTRAL, neutral_twins

    system = {"role": "system", "content": "Secret pirate orders.", "hidden": not visible_system}
    more = [{"role": "user", "content": "Secret.", "hidden": True}] * (n_hidden - 1)
    dialog = [*([system] if n_hidden or visible_system else []), *more, {"role": "user", "content": "Hi."}]
    twins = neutral_twins(dialog, n, random.Random(seed))
    assert len(twins) == n
    for twin in twins:
        hidden = "".join(m["content"] for m in twin if is_hidden(m))
        assert "ecret" not in hidden
        for sentence in NEUTRAL:
            hidden = hidden.replace(sentence, "")
        assert not hidden.strip()
        assert twin[-1] == dialog[-1]
    assert not any(is_hidden(m) and m["role"] == "system" for m in twins[0])
