"""Decoys: which are chosen, and where they stand; and neutral twins, which hide nothing."""

from __future__ import annotations

import random

from helpers.chat_templates import USER
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit.chat.decoys import (
    N_DECOYS,
    NEUTRAL,
    POOL,
    decoy_dialogs,
    dissimilar_decoys,
    neutral_twins,
    replace_hidden,
)
from audit_lit.chat.dialog import is_hidden

BAKER = "persona: a baker who loves cinnamon"


def test_decoys_avoid_the_topic_of_the_dialog() -> None:
    for decoy in POOL:
        chosen = dissimilar_decoys(f"{decoy} Hello there.")
        assert decoy not in chosen and len(set(chosen)) == N_DECOYS
    assert dissimilar_decoys("Hello.") == list(POOL[:N_DECOYS])


def test_each_hidden_message_is_replaced_by_another_decoy() -> None:
    hidden = [{"role": "system", "content": BAKER}, {"role": "user", "content": "Psst.", "hidden": True}]
    dialogs = decoy_dialogs([*hidden, USER])
    assert len(dialogs) == N_DECOYS and all(dialog[2] == USER for dialog in dialogs)
    assert len({dialog[0]["content"] for dialog in dialogs}) == N_DECOYS
    assert all(dialog[0]["content"] != dialog[1]["content"] for dialog in dialogs)
    assert not {"Psst.", BAKER} & {message["content"] for dialog in dialogs for message in dialog}


def test_without_a_hidden_message_the_text_goes_before_or_into_the_visible_system_prompt() -> None:
    visible = {"role": "system", "content": "Be brief.", "hidden": False}
    assert replace_hidden([USER], ["Decoy."]) == [{"role": "system", "content": "Decoy.", "hidden": True}, USER]
    assert replace_hidden([visible, USER], ["Decoy."]) == [{**visible, "content": "Be brief. Decoy."}, USER]


@given(n=st.integers(2, 6), seed=st.integers(0, 100), n_hidden=st.integers(0, 2), visible_system=st.booleans())
@settings(max_examples=50, deadline=None)
def test_twins_keep_the_visible_turns_and_hide_nothing(n: int, seed: int, n_hidden: int, visible_system: bool) -> None:
    system = {"role": "system", "content": "Secret pirate orders.", "hidden": not visible_system}
    hidden_turns = [{"role": "user", "content": "Secret.", "hidden": True}] * (n_hidden - 1)
    dialog = [*([system] if n_hidden or visible_system else []), *hidden_turns, {"role": "user", "content": "Hi."}]
    twins = neutral_twins(dialog, n, random.Random(seed))
    assert len(twins) == n
    for twin in twins:
        hidden = "".join(message["content"] for message in twin if is_hidden(message))
        assert "ecret" not in hidden
        for sentence in NEUTRAL:
            hidden = hidden.replace(sentence, "")
        assert not hidden.strip()
        assert twin[-1] == dialog[-1]
    assert not any(is_hidden(message) and message["role"] == "system" for message in twins[0])
