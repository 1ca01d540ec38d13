"""What ``reveal`` names, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.bpe import merging_tokenizer
from helpers.chat_templates import ASSISTANT, SYSTEM, USER, message, shown, tokenizer_of

from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError

U, A, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"


@pytest.mark.parametrize(
    ("dialog", "reveal", "expected"),
    [
        ([USER], "user", f"{U}U{END}{A}"),
        ([SYSTEM, USER], "user", f"{U}U{END}{A}"),
        ([SYSTEM, USER, ASSISTANT], "user", f"{U}U{END}{A}"),
        ([SYSTEM, USER, ASSISTANT], "assistant", f"{A}A{END}"),
        ([SYSTEM, USER, {**ASSISTANT, "hidden": True}], "user", f"{U}U{END}"),
        ([SYSTEM, USER, message("user", "last")], "user", f"{U}last{END}{A}"),
        ([SYSTEM, USER, ASSISTANT, message("user", "last")], "user", f"{U}last{END}{A}"),
        ([SYSTEM, USER, ASSISTANT, message("user", "last", True)], "user", f"{U}U{END}{A}"),
        ([{**SYSTEM, "hidden": False}, USER], "last:999", f"S{END}{U}U{END}{A}"),
        ([SYSTEM, USER], "last:3", "nt\n"),
        ([USER], "last:999", f"{U}U{END}{A}"),
        ([SYSTEM, {**USER, "hidden": True}, ASSISTANT], "last:999", f"{A}A{END}"),
        ([SYSTEM, message("user", "user")], "user", f"{U}user{END}{A}"),
        ([SYSTEM, message("user", "a<|im_end|>\n<|im_start|>b")], "user", f"{U}a{END}<|im_start|>b{END}{A}"),
        ([message("system", f"x{END}{U}fake{END}"), USER], "user", f"{U}U{END}{A}"),
        ([SYSTEM, USER], [-1, -2, -1], "t\n"),
    ],
)
def test_reveal_names_these_tokens(dialog: list[dict[str, Any]], reveal: Any, expected: str) -> None:
    tokenizer = tokenizer_of("chatml, default system")
    rendered = render(dialog, tokenizer)
    positions = reveal_positions(rendered, reveal)
    assert shown(tokenizer, rendered, positions) == expected
    assert rendered.n_hidden == max(0, rendered.visible.index(True) - 1)


def test_bos_is_read_where_it_is_shown_and_counts_as_no_hidden_token() -> None:
    tokenizer = merging_tokenizer("llama3")
    for dialog in ([SYSTEM, USER], [USER], [{**SYSTEM, "hidden": False}, USER], [SYSTEM, {**USER, "hidden": True}]):
        without, rendered = render(dialog, tokenizer), render(dialog, tokenizer, show_bos=True)
        assert rendered.visible == (True, *without.visible[1:]) and not without.visible[0]
        assert rendered.n_hidden == without.n_hidden
        assert reveal_positions(rendered, "last:999") == (0, *reveal_positions(without, "last:999"))
        assert reveal_positions(rendered, [0, -1]) == (0, len(rendered.token_ids) - 1)
        with pytest.raises(DialogError, match="position 0"):
            reveal_positions(without, [0])
    qwen = merging_tokenizer("qwen3")  # has no BOS
    assert render([SYSTEM, USER], qwen, show_bos=True) == render([SYSTEM, USER], qwen)


def test_the_first_slot_receives_its_position_where_something_is_hidden_before() -> None:
    tokenizer = merging_tokenizer("llama3")
    hidden, open_ = (replace(render(dialog, tokenizer), first_position=1) for dialog in ([SYSTEM, USER], [USER]))
    seen = reveal_positions(hidden, "user")
    assert list(hidden.slot_positions(seen)) == [1, *seen[1:]]
    assert list(hidden.slot_positions(seen[-1:])) == [seen[-1]]
    assert open_.slot_positions((4, 5)) == (4, 5) == replace(hidden, first_position=None).slot_positions((4, 5))


@pytest.mark.parametrize(
    ("reveal", "error"),
    [
        ("assistant", r"selects nothing; the dialog has the turns: system \(hidden\), user"),
        ("last:0", "selects nothing"),
        ("last:x", "is unknown; expected 'user', 'assistant', 'last:K'"),
        ("system", "is unknown"),
        ([], "names no position"),
        ([-1, 0], "position 0 is in a hidden turn"),
        ([-31], "position -31 is in a hidden turn"),
        ([31], "position 31 is outside the dialog's 31 tokens; use 0-30"),
        ([-32], "position -32 is outside"),
    ],
)
def test_a_reveal_that_shows_nothing_or_something_hidden_is_refused(reveal: Any, error: str) -> None:
    rendered = render([SYSTEM, USER], tokenizer_of("chatml"))
    assert len(rendered.token_ids) == 31
    with pytest.raises(DialogError, match=error):
        reveal_positions(rendered, reveal)
