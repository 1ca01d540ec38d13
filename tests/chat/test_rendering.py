"""A dialog's tokens, turn by turn, and the templates that cannot hold it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from helpers.bpe import merging_tokenizer
from helpers.chat_templates import (
    ASSISTANT,
    NO_SYSTEM_ROLE,
    SYSTEM,
    TEMPLATES,
    THINKING,
    TOOLS,
    USER,
    WITH_TOOLS,
    shown,
    tokenizer_of,
)
from helpers.models import byte_tokenizer

from audit_lit.chat.decoys import decoy_dialogs, neutral_twins
from audit_lit.chat.messages import with_tools
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


@pytest.mark.parametrize("last", [USER, {"role": "assistant", "content": "A", "prefill": True}])
def test_without_a_system_role_the_prompt_goes_where_gemma_3_puts_it(last: dict[str, str]) -> None:
    """Gemma 2's template raises an error about a system prompt, and Gemma 3's puts it before the user's text."""
    merged = next(template for name, template in TEMPLATES.items() if name.startswith("gemma"))
    tokenizer, dialog = tokenizer_of(NO_SYSTEM_ROLE), [SYSTEM, USER, ASSISTANT, USER, *([last] if last != USER else [])]
    rendered, expected = render(dialog, tokenizer), render(dialog, tokenizer_of(merged))
    assert (rendered.text, rendered.visible) == (expected.text, expected.visible)
    assert rendered.turns == expected.turns and "S\n\nU" in rendered.text


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


THOUGHT = {"role": "assistant", "content": "<think>\nA guest.\n</think>\n\nWelcome."}


@pytest.mark.parametrize(
    ("template", "last", "expected"),
    [
        ("drops earlier thinking", False, "Welcome."),
        ("drops earlier thinking", True, "Welcome."),
        ("keeps the last, written anew", False, "Welcome."),
        ("keeps the last, written anew", True, THOUGHT["content"]),
        (None, False, THOUGHT["content"]),
        (None, True, THOUGHT["content"]),
    ],
)
@pytest.mark.parametrize("merges", [False, True], ids=["bytes", "merges"])
def test_thinking_is_read_where_the_template_keeps_it(
    template: str | None, last: bool, expected: str, merges: bool
) -> None:
    tokenizer = tokenizer_of(THINKING[template] if template else TEMPLATES["chatml"], merges)
    dialog = [SYSTEM, USER, THOUGHT, *([] if last else [USER])]
    rendered = render(dialog, tokenizer)
    assert rendered.text == tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=not last)
    turn = rendered.turns[2]
    assert turn.content == expected and ("A guest." in rendered.visible_text) == ("think" in expected)
    assert merges or shown(tokenizer, rendered, range(turn.text_start, turn.text_end)) == expected
    assert merges or shown(tokenizer, rendered, range(turn.start, turn.text_start)) == "<|im_start|>assistant\n"
    hidden = render([SYSTEM, USER, {**THOUGHT, "hidden": True}, *([] if last else [USER])], tokenizer)
    assert "guest" not in shown(tokenizer, hidden, hidden.visible_positions)


def test_tool_calls_belong_to_the_text_of_their_turn() -> None:
    tokenizer = tokenizer_of(TOOLS)
    calls = [
        {"type": "function", "function": {"name": "look", "arguments": {"where": place}}} for place in ("up", "down")
    ]
    for content in ("", "I will see."):
        dialog = [SYSTEM, USER, {"role": "assistant", "content": content, "tool_calls": calls}]
        dialog += [{"role": "tool", "content": "Blue."}, {"role": "assistant", "content": "It is blue."}]
        rendered = render(dialog, tokenizer)
        assert rendered.text == tokenizer.apply_chat_template(dialog, tokenize=False)
        texts = [shown(tokenizer, rendered, range(turn.text_start, turn.text_end)) for turn in rendered.turns]
        assert all(before.end == after.start for before, after in pairwise(rendered.turns))
        assert texts[2].startswith(f"{content}<call>") and texts[2].endswith('"down"}}</call>')
        assert texts[3:] == ["Blue.", "It is blue."] and "down" in rendered.visible_text
        hidden = render([*dialog[:2], {**dialog[2], "hidden": True}, *dialog[3:]], tokenizer)
        assert "look" not in shown(tokenizer, hidden, hidden.visible_positions)
    assert render(dialog[:4], tokenizer).text.endswith("<|im_start|>assistant\n")  # a tool spoke last


def test_tool_calls_that_the_template_leaves_out_are_refused_with_the_place() -> None:
    call = {"function": {"name": "look", "arguments": {}}}
    for content in (None, "I will see."):
        with pytest.raises(
            DialogError, match=r"message 1 \(assistant\) holds tool calls, which this chat template does"
        ):
            render(
                [USER, {"role": "assistant", "content": content, "tool_calls": [call]}, USER], tokenizer_of("chatml")
            )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_prefill_stays_open(template: str) -> None:
    tokenizer = tokenizer_of(template)
    opened = render([SYSTEM, USER, {"role": "assistant", "content": "Well, in", "prefill": True}], tokenizer)
    closed = render([SYSTEM, USER, {"role": "assistant", "content": "Well, in"}], tokenizer)
    assert opened.text.endswith("Well, in") and closed.text.startswith(opened.text)
    turn = opened.turns[-1]
    assert turn.end == turn.text_end == len(opened.token_ids)
    assert shown(tokenizer, opened, reveal_positions(opened, "assistant")).endswith("Well, in")
    assert shown(tokenizer, opened, reveal_positions(opened, "last:2")) == "in"
    assert reveal_positions(opened, "user") == reveal_positions(closed, "user")


def test_thinking_is_turned_off_by_a_setting_of_the_template() -> None:
    tokenizer = merging_tokenizer("qwen3")
    for dialog in ([USER], [SYSTEM, USER, ASSISTANT, USER], [USER, ASSISTANT]):
        usual, off = render(dialog, tokenizer), render(dialog, tokenizer, enable_thinking=False)
        added = "" if dialog[-1] is ASSISTANT else "<think>\n\n</think>\n\n"
        assert off.text == usual.text + added and off.turns == usual.turns
        assert off.visible == (*usual.visible, *[True] * (len(off.token_ids) - len(usual.token_ids)))
        assert render(dialog, tokenizer, enable_thinking=True) == usual == render(dialog, tokenizer)  # as it was
    plain = tokenizer_of("chatml")
    assert render([USER], plain, enable_thinking=False) == render([USER], plain)


LOOK = {"type": "function", "function": {"name": "look", "description": "A sly one.", "parameters": {"type": "object"}}}
DIALOGS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "shown system": [{**SYSTEM, "hidden": False}, USER],
    "reply": [SYSTEM, USER, ASSISTANT],
    "turns": [SYSTEM, USER, ASSISTANT, USER],
}


@pytest.mark.parametrize("template", WITH_TOOLS)
@pytest.mark.parametrize("name", DIALOGS)
def test_what_is_said_of_tools_is_read_by_the_target_and_hidden_from_the_decoder(template: str, name: str) -> None:
    tokenizer, dialog = tokenizer_of(WITH_TOOLS[template]), DIALOGS[name]
    given = with_tools(dialog, [LOOK])
    rendered, plain = render(given, tokenizer), render(dialog, tokenizer)
    generates = dialog[-1]["role"] == "user"
    expected = tokenizer.apply_chat_template(dialog, tools=[LOOK], tokenize=False, add_generation_prompt=generates)
    assert rendered.text == expected and "A sly one." in rendered.text
    seen, seen_without = (shown(tokenizer, one, one.visible_positions) for one in (rendered, plain))
    assert "look" not in seen and "sly" not in seen and "ools" not in seen.lower()
    assert seen == seen_without or (seen in seen_without and template.startswith("llama"))  # its header is cut off
    assert [turn.content for turn in rendered.turns] == [turn.content for turn in plain.turns]
    for reveal in ("user", "assistant") if name in ("reply", "turns") else ("user",):
        read = [shown(tokenizer, one, reveal_positions(one, reveal)) for one in (rendered, plain)]
        assert read[0] == read[1] or template.startswith("llama")
    for twin in (*decoy_dialogs(given), *neutral_twins(given, 3, random.Random(0))):  # they have the same tools
        assert "A sly one." in render(twin, tokenizer).text


def test_tools_that_the_template_does_not_render_are_refused_with_a_way_out() -> None:
    with pytest.raises(
        DialogError, match=r"which this chat template does not render.*To audit the dialog without tools: jq -c"
    ):
        render(with_tools([SYSTEM, USER], [LOOK]), tokenizer_of("chatml"))


def test_many_turns_take_no_longer_than_their_share() -> None:
    tokenizer = tokenizer_of("chatml")
    calls = []
    apply = tokenizer.apply_chat_template
    tokenizer.apply_chat_template = lambda *given, **settings: calls.append(given) or apply(*given, **settings)
    try:
        rendered = render([USER, ASSISTANT] * 300, tokenizer)
    finally:
        del tokenizer.apply_chat_template
    assert len(rendered.turns) == 600 and len(calls) < 20
