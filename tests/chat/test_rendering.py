"""A dialog's tokens, turn by turn, and the templates that cannot hold it."""

from __future__ import annotations

import pytest
from helpers.chat_templates import ASSISTANT, SYSTEM, TEMPLATES, USER, shown, tokenizer_of
from helpers.models import byte_tokenizer

from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError


@pytest.mark.parametrize("template", TEMPLATES)
def test_turns_follow_each_other_and_have_header_text_and_trailer(template: str) -> None:
    tokenizer = tokenizer_of(template)
    rendered = render([SYSTEM, USER, ASSISTANT, USER], tokenizer)
    assert [turn.role for turn in rendered.turns] == ["system", "user", "assistant", "user"]
    for before, after in zip(rendered.turns, rendered.turns[1:], strict=False):
        assert before.end == after.start
    parts = [shown(tokenizer, rendered, range(turn.start, turn.end)) for turn in rendered.turns]
    head = shown(tokenizer, rendered, range(rendered.turns[0].start))
    tail = shown(tokenizer, rendered, range(rendered.turns[-1].end, len(rendered.token_ids)))
    assert head + "".join(parts) + tail == rendered.text
    assert all(turn.content in part for turn, part in zip(rendered.turns, parts, strict=True))


@pytest.mark.parametrize(("kind", "expected"), [("gemma", "U<end>\n<start>model\n"), ("llama2", "U [/INST]")])
def test_what_stands_between_a_merged_system_prompt_and_the_users_text_is_hidden(kind: str, expected: str) -> None:
    tokenizer = tokenizer_of(next(name for name in TEMPLATES if name.startswith(kind)))
    rendered = render([SYSTEM, USER], tokenizer)
    assert shown(tokenizer, rendered, reveal_positions(rendered, "last:999")) == expected


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
