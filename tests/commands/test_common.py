"""Options that hold more than a word, help texts that stand once, the models that options name, and terminal text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from helpers.commands import run
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.text import Text

from audit_lit.commands.common import load_arguments, load_models, note, parse_reveal, parse_settings, printable
from audit_lit.display.inert import inert
from audit_lit.errors import DecoderMismatch, HubError, TargetError


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
    assert len(texts["--target"]) == 3  # and doctor loads none


WEIGHTS = ("--device", "--dtype", "--device-map", "--n-devices", "--max-memory", "--quantization")


@pytest.mark.parametrize(
    "command", [["ask"], ["scan"], ["eval"], ["train"], ["edit", "make"], ["edit", "apply"], ["edit", "check"]]
)
def test_every_command_that_loads_a_target_says_how(command: list[str]) -> None:
    help_text = run(*command, "--help").stdout
    assert all(option in help_text for option in WEIGHTS)


def test_options_become_arguments_of_load_target() -> None:
    none = {"device": None, "dtype": None, "n_devices": None, "quantization": None}
    assert load_arguments({}) == {**none, "device_map": None, "max_memory": None}
    limits = {"device_map": "auto", "max_memory": ("0=20GiB", "cpu=60GiB"), "dtype": "bfloat16", "seed": 3}
    told = {"device_map": "auto", "max_memory": {0: "20GiB", "cpu": "60GiB"}, "dtype": "bfloat16"}
    assert load_arguments(limits) == none | told
    assert load_arguments({"device_map": '{"": 0}'})["device_map"] == {"": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu", "--device-map", "auto"], "got device and device_map"),
        (["--n-devices", "99"], "got n_devices=99"),
        (["--max-memory", "0=20GiB"], "got max_memory without device_map"),
        (["--device-map", "auto", "--max-memory", "20GiB"], "expected DEVICE=SIZE"),
        (["--device-map", "{0: 1"], "is no JSON"),
        (["--device", "nonsense"], "cannot be put on device 'nonsense'"),
    ],
)
def test_contradictions_exit_2_before_anything_is_loaded(arguments: list[str], message: str) -> None:
    result = run("ask", "Who?", "--target", "no-such/model", *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_target_and_decoder_share_their_base(pair: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    target, decoder = load_models(pair[1], pair[3], revision=None, device="cpu")
    weights = {parameter.data_ptr() for parameter in target.base.parameters()}
    assert weights <= {parameter.data_ptr() for parameter in decoder.model.parameters()}
    assert "loading the target" in capsys.readouterr().err


def test_what_cannot_be_loaded_raises(pair: list[str], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"revision": None, "device": "cpu"}
    with pytest.raises((TargetError, HubError), match="neither a folder here nor a Hub id"):
        load_models("nowhere", pair[3], **settings)
    with pytest.raises(HubError, match="neither a folder here nor a Hub id"):
        load_models(pair[1], "nowhere", **settings)
    from helpers.models import byte_tokenizer, tiny_llama

    tiny_llama(n_layers=2).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(DecoderMismatch):
        load_models(str(tmp_path), pair[3], **settings)


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
