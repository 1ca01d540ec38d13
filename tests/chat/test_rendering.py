"""A dialog's tokens, turn by turn, and what ``reveal`` names."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from helpers.chat_templates import TEMPLATES, message, shown, tokenizer_of
from helpers.models import byte_tokenizer

from audit_lit.chat.dialog import check_dialog
from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError

USER, ASSISTANT, SYSTEM = ({"role": role, "content": role[0].upper()} for role in ("user", "assistant", "system"))


@pytest.mark.parametrize("template", TEMPLATES)
def test_turns_follow_each_other_and_have_header_text_and_trailer(template: str) -> None:
    tokenizer = tokenizer_of(template)
    rendered = render([SYSTEM, USER, ASSISTANT, USER], tokenizer)
    assert [turn.role for turn in rendered.turns] == ["system", "user", "assistant", "user"]
    for before, after in zip(rendered.turns, rendered.turns[1:], strict=False):
        assert before.end == after.start
    parts = [shown(tokenizer, rendered, range(turn.start, turn.end)) for turn in rendered.turns]
    head = shown(tokenizer, rendered, range(rendered.turns[0].start))
    tail = shown(tokenizer, rendered, range(rendered.generation_start, len(rendered.token_ids)))
    assert head + "".join(parts) + tail == rendered.text
    assert all(turn.content in part for turn, part in zip(rendered.turns, parts, strict=True))


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


@pytest.mark.parametrize(("kind", "expected"), [("gemma", "U<end>\n<start>model\n"), ("llama2", "U [/INST]")])
def test_what_stands_between_a_merged_system_prompt_and_the_users_text_is_hidden(kind: str, expected: str) -> None:
    tokenizer = tokenizer_of(next(name for name in TEMPLATES if name.startswith(kind)))
    rendered = render([SYSTEM, USER], tokenizer)
    assert shown(tokenizer, rendered, reveal_positions(rendered, "last:999")) == expected


@pytest.mark.parametrize(
    ("dialog", "error"),
    [
        ([], "the dialog is empty"),
        ("Hi", "something else than a list of messages"),
        ({"role": "user", "content": "Hi"}, "something else than a list of messages"),
        (["Hi"], "something else than a list of messages"),
        ([USER, {"role": "tool", "content": "x"}], "message 1 has role 'tool'; expected one of system, user"),
        ([{"content": "x"}], "message 0 has role None"),
        ([{"role": "user", "content": " \n"}], r"message 0 \(user\) has no text"),
        ([{"role": "user", "content": None}], r"message 0 \(user\) has no text"),
        ([{**USER, "hide": True}], r"unknown keys \['hide'\]"),
    ],
)
def test_a_malformed_dialog_is_refused(dialog: Any, error: str) -> None:
    with pytest.raises(DialogError, match=error):
        inspect.unwrap(check_dialog)(dialog)  # as users call it, without type checks


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


@pytest.mark.parametrize(
    ("template", "error"),
    [
        (
            "{{ raise_exception('System role not supported') }}",
            "refuses this order of roles: System role not supported",
        ),
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "drops, repeats or reorders"),
        ("{% for m in messages %}{{ m['content'] * 2 }}{% endfor %}", "drops, repeats or reorders"),
        ("{% for m in messages | reverse %}{{ m['content'] }}{% endfor %}", "drops, repeats or reorders"),
        ("{% for m in messages %}{{ m['content'] | replace('S', '$') }}{% endfor %}", "rewrites this dialog"),
        (None, "has no chat template"),
    ],
)
def test_a_template_that_cannot_hold_the_dialog_is_refused(template: str | None, error: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(DialogError, match=error):
        render([SYSTEM, USER], tokenizer)
