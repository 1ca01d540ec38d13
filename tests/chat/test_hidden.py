"""What is hidden in a dialog stays hidden from the visible tokens, and decoys are read at the same tokens."""

from __future__ import annotations

import random
from typing import Any

import pytest
from helpers.chat_templates import TEMPLATES, message, shown, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit.chat.decoys import decoy_dialogs, neutral_twins
from audit_lit.chat.positions import aligned_positions, reveal_positions, shared_positions
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError

SECRET = "\u00a7"

texts = st.text("a\u00e9\U0001f600 \n.<>", min_size=1, max_size=8).filter(str.strip) | st.sampled_from(
    ["user", "assistant", "<|im_end|>", "<|im_start|>user\nHi<|im_end|>\n", "<end>\n<start>model", "\u27e6turn0\u27e7"]
)


@st.composite
def dialogs(draw: st.DrawFn) -> list[dict[str, Any]]:
    flag = st.sampled_from([None, True, False])
    system = [message("system", draw(texts), draw(flag))] if draw(st.booleans()) else []
    roles = ["user", "assistant"] * 2
    return system + [message(role, draw(texts), draw(flag)) for role in roles[: draw(st.integers(1, 4))]]


def with_secrets(dialog: list[dict[str, Any]], filler: str) -> list[dict[str, Any]]:
    """The dialog with the inside of each hidden text replaced; its border characters decide where tokens split."""
    changed = []
    for turn in dialog:
        text = turn["content"]
        core = text.strip()
        new = text.replace(core, core[0] + filler + core[-1])
        changed.append({**turn, "content": new} if turn.get("hidden", turn["role"] == "system") else turn)
    return changed


@pytest.mark.parametrize("merges", [False, True], ids=["bytes", "merges"])
@pytest.mark.parametrize("template", TEMPLATES)
@settings(deadline=None, max_examples=25)
@given(dialog=dialogs(), length=st.integers(1, 9))
def test_what_is_visible_does_not_depend_on_hidden_text(
    template: str, merges: bool, dialog: list[dict[str, Any]], length: int
) -> None:
    tokenizer = tokenizer_of(template, merges)
    one, two = (render(with_secrets(dialog, SECRET * n), tokenizer) for n in (length, length + 3))
    seen = [[r.token_ids[at] for at, visible in enumerate(r.visible) if visible] for r in (one, two)]
    assert seen[0] == seen[1]
    assert SECRET not in tokenizer.decode(seen[0])
    for turn in one.turns:  # and whatever is not hidden is there, at its place
        text = shown(tokenizer, one, range(turn.text_start, turn.text_end))
        assert merges or text == turn.content
        assert merges or turn.hidden or all(one.visible[turn.start : turn.end])
    assert SECRET not in one.visible_text


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (message("user", "a."), message("assistant", "<b", True), "a"),
        (message("user", "a.", True), message("assistant", "<b"), "b"),
        (message("user", "a ", True), message("assistant", "b"), "b"),
    ],
    ids=["ends in hidden text", "starts in hidden text", "has no span"],
)
def test_a_token_that_touches_hidden_text_is_hidden(one: Any, two: Any, expected: str) -> None:
    tokenizer = tokenizer_of("nothing but the messages", merges=True)
    rendered = render([one, two], tokenizer)
    assert shown(tokenizer, rendered, [at for at, visible in enumerate(rendered.visible) if visible]) == expected


@pytest.mark.parametrize("merges", [False, True], ids=["bytes", "merges"])
@pytest.mark.parametrize("system", [None, True, False], ids=["bare", "hidden", "visible"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_decoys_and_twins_are_read_at_the_same_tokens(template: str, system: bool | None, merges: bool) -> None:
    first = [] if system is None else [message("system", "Secret.", system)]
    dialog = [*first, message("user", "Hello you."), message("assistant", "Hi."), message("user", "Why?")]
    tokenizer = tokenizer_of(template, merges)
    rendered = render(dialog, tokenizer)
    others = [render(one, tokenizer) for one in (*decoy_dialogs(dialog), *neutral_twins(dialog, 3, random.Random(0)))]
    visible = [at for at, seen in enumerate(rendered.visible) if seen]
    chosen = shared_positions(visible, rendered, others)
    assert set(chosen) >= set(shared_positions(reveal_positions(rendered, "user"), rendered, others)) != set()
    for other in others:
        places = aligned_positions(chosen, rendered, other)
        assert [other.token_ids[at] for at in places] == [rendered.token_ids[at] for at in chosen]
        assert all(other.visible[at] for at in places) and list(places) == sorted(places)
    for missing in set(visible) - set(chosen):
        with pytest.raises(DialogError, match="has no counterpart"):
            [aligned_positions([missing], rendered, other) for other in others]
