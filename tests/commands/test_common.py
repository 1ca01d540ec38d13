"""Options that hold more than a word, help texts that stand once, and terminal text."""

from __future__ import annotations

import click
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.text import Text

from audit_lit.commands.common import note, parse_reveal, parse_settings, printable
from audit_lit.display.inert import inert


def test_settings_are_nested_yaml_values() -> None:
    parsed = parse_settings(("lr=1.0e-3", "wire.n_edge=2", "wire.write=add", "layers=[1, 2]", "start=null", "name="))
    assert parsed == {
        "lr": 0.001,
        "wire": {"n_edge": 2, "write": "add"},
        "layers": [1, 2],
        "start": None,
        "name": None,
    }
    assert parse_settings(()) == {}
    assert parse_settings(("prompt=a=b", "prompt=c=d")) == {"prompt": "c=d"}  # the last one counts


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("lr",), "has no '='"),
        (("lr=[1",), "is not a YAML value"),
        (("wire=1", "wire.n_edge=2"), "goes into 'wire'"),
        (("a.b=1", "a.b.c=2"), "goes into 'b'"),
    ],
)
def test_settings_that_cannot_be_read(assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        parse_settings(assignments)


@pytest.mark.parametrize(
    ("text", "reveal"),
    [
        ("user", "user"),
        ("last:3", "last:3"),
        ("3,4, 5", [3, 4, 5]),
        ("-1", [-1]),
        ("1,--2", "1,--2"),
        ("²", "²"),  # a digit that int() does not take
        ("", ""),
    ],
)
def test_reveal_is_positions_or_a_name(text: str, reveal: str | list[int]) -> None:
    assert parse_reveal(text) == reveal


def test_options_of_the_same_name_have_few_help_texts() -> None:
    from audit_lit.cli import cli

    texts: dict[str, set[str]] = {}

    def collect(command: click.Command) -> None:
        for member in command.commands.values() if isinstance(command, click.Group) else ():
            collect(member)
        for option in command.params:
            if isinstance(option, click.Option):
                texts.setdefault(option.opts[0], set()).add(option.help or "")

    collect(cli)
    assert all(text for option in texts.values() for text in option)
    for name in ("--decoder", "--decoder-revision", "--device", "--seed", "--set", "--layer", "--max-new-tokens"):
        assert len(texts[name]) == 1, name
    assert len(texts["--revision"]) == 2  # of edits, it is another thing
    assert len(texts["--target"]) == 4  # doctor loads none, and convert only a tokenizer


@given(st.text())
def test_no_control_character_or_markup_is_left(text: str) -> None:
    plain = inert(text)
    assume(not plain.endswith("\\"))  # which rich doubles, in case that markup follows
    shown = Text.from_markup(printable(text))
    assert shown.plain == plain and all(char.isprintable() or char == "\n" for char in plain)
    assert not shown.spans


def test_sequences_and_markup_are_inert() -> None:
    assert printable("\x1b[31m[bold]red[/]\x9b\x07\r") == "\u241b[31m\\[bold]red\\[/]\u27e8U+009B\u27e9\u2407\u240d"
    assert printable("two\nlines") == "two\nlines"


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("reading ...")
    captured = capsys.readouterr()
    assert captured.out == "" and "reading ..." in captured.err
