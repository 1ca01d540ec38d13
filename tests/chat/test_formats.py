"""The files of an audit: their formats and encodings, and what is refused with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from helpers.pasted import converted
from helpers.support import DIALOG, ROOT, write_lines
from hypothesis import given
from hypothesis import strategies as st

from audit_lit.chat.formats import NAMES, DialogFile, DialogList, Unreadable, digest, read_dialogs
from audit_lit.errors import DialogError

TABLE = re.findall(r"^\| `(\w+)` \|.*\| (?:`(.*)` )?\|$", (ROOT / "docs/formats.md").read_text("utf-8"), re.MULTILINE)
EXAMPLES = {name: example for name, example in TABLE if example}
TITLES = {
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "sharegpt": "ShareGPT",
    "wildchat": "WildChat",
    "petri": "Petri",
}
USER = {"role": "user", "content": "Hi."}
EVERY = tuple((role, text) for role, text in (("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello.")))


def read(content: Any, **settings: Any) -> list[Any]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return list(read_dialogs(BytesIO(data), "file", **settings))


def test_every_format_has_a_line_in_the_guide() -> None:
    assert {name for name, _ in TABLE[: len(NAMES)]} == set(NAMES) and set(NAMES) - set(EXAMPLES) == {"inspect"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_guides_examples_are_told_by_their_content(name: str) -> None:
    (dialog,) = read(EXAMPLES[name].encode())
    assert tuple((message["role"], message["content"]) for message in dialog.messages) == EVERY
    assert TITLES.get(name, "") in dialog.format
    assert read(EXAMPLES[name].encode(), format=name) == [dialog]
    array = f"[\n{EXAMPLES[name]},\n{EXAMPLES[name].replace('Hi.', 'Hey.')}\n]".replace('"id": "a", ', "")
    assert [dialog.messages[1]["content"] for dialog in read(array.encode())] == ["Hi.", "Hey."]


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"messages", "petri"}))
def test_a_key_that_may_hold_content_is_an_error_that_names_it(name: str) -> None:
    document = json.loads(EXAMPLES[name])
    for harmless in ({"id": None, "unseen": ""}, {"unseen": []}, {"metadata": {"unseen": "x"}}, {"unseen": "Hi."}):
        assert len(read(document | harmless)) == 1
    for value in ("x", ["x"], {"a": 1}, True, 0):
        with pytest.raises(DialogError, match=r"line 1: the keys \['unseen'\] beside .* are not read"):
            read(document | {"unseen": value})


def test_a_system_prompt_beside_the_messages_is_read_once() -> None:
    for prompt in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        (dialog,) = read({"system": prompt, "messages": [USER]})
        assert [message["role"] for message in dialog.messages] == ["system", "user"]
    given_twice = {"system": "Be brief.", "messages": [{"role": "system", "content": "Be brief."}, USER]}
    assert len(read(given_twice)[0].messages) == 2 and len(read({"system": " ", "messages": [USER]})[0].messages) == 1
    with pytest.raises(DialogError, match=r"the system prompt holds image"):
        read({"system": [{"type": "image"}], "messages": [USER]})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"instruction": "Add.", "input": "1, 2", "output": "3"}, ["Add.\n1, 2", "3"]),
        ({"instruction": "Add.", "input": "", "output": "3", "history": [["a", "b"]]}, ["a", "b", "Add.", "3"]),
        ({"instruction": "Say.", "context": "It.", "response": "R", "category": "x"}, ["Say.\nIt.", "R"]),
        ({"prompt": [USER], "completion": [{"role": "assistant", "content": "Ho."}]}, ["Hi.", "Ho."]),
        ({"prompt": "Hi.", "prompt_id": "x", "messages": [USER]}, ["Hi."]),
        ({"custom_id": "x", "method": "POST", "url": "/v1", "body": {"model": "m", "messages": [USER]}}, ["Hi."]),
        ([{"from": "human", "value": "Hi."}], ["Hi."]),
        ({"turns": [USER]}, ["Hi."]),
        (
            {"messages": [USER], "options": {"num_ctx": 8}, "stream": False, "response_format": {"type": "text"}},
            ["Hi."],
        ),
        ({"custom_id": "x", "params": {"model": "m", "system": "S", "messages": [USER]}}, ["S", "Hi."]),
        ({"contents": [{"parts": [{"text": "Hi."}]}], "toolConfig": {"functionCallingConfig": {}}}, ["Hi."]),
        ({"prompt": "Hi.", "model": "m", "stream": False}, ["Hi."]),
    ],
)
def test_layouts_that_are_unambiguous_are_read(document: Any, expected: list[str]) -> None:
    assert [message["content"] for message in read(document)[0].messages] == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"text": "So Human: Hi."}, "content: $USER}"),
        ({"exchange": [{"says": "Hi, how are you?", "who": "user"}]}, "[.exchange[] | {role: .who, content: .says}]"),
        ({"turns": ["Hi.", "Why?"]}, "has no 'messages', and its keys ['turns']"),
        ({"id": "x", "turns": ["Hi.", "Why?"]}, '[.turns | to_entries[] | {role: (if .key % 2 == 0 then "user" else'),
        (
            {"chat_log": [{"by": "guest", "said": "A table, please."}, {"by": "host", "said": "Welcome."}]},
            "content: $USER}",
        ),
        (
            {"prompt": "Hi.", "chosen": "a", "rejected": "b"},
            "holds two replies, 'chosen' and 'rejected', of which a dialog has one. To read the chosen one: jq",
        ),
        ({"messages": [USER], "tools": [{"type": "web_search"}]}, "which is no function with a name"),
        ({"events": [{"view": "target", "edit": {"operation": "json_patch"}}]}, "collect_messages('target')"),
        (3, "is '3'; expected a dialog in one of"),
    ],
)
def test_other_layouts_are_refused_with_the_next_step(document: Any, expected: str) -> None:
    with pytest.raises(DialogError) as caught:
        read(document)
    assert expected in str(caught.value) and str(caught.value).startswith("file, line 1")


def test_a_format_can_be_forced() -> None:
    with pytest.raises(DialogError, match=r"line 1 is not ShareGPT such as .*leave the format out"):
        read({"messages": [USER]}, format="sharegpt")
    with pytest.raises(DialogError, match=r"is not an Inspect log"):
        read({"messages": [USER]}, format="inspect")
    with pytest.raises(DialogError, match=r"format 'chatml' is unknown; expected one of anthropic"):
        read({"messages": [USER]}, format="chatml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_of_windows_are_read(encoding: str, newline: str) -> None:
    dialogs = [{"id": str(n), "messages": [{"role": "user", "content": f"Grüße 🙂 {n}"}]} for n in range(2)]
    lines = newline.join(json.dumps(dialog, ensure_ascii=False) for dialog in dialogs) + newline
    for text in (lines, json.dumps(dialogs, ensure_ascii=False), json.dumps(dialogs, indent=2).replace("\n", newline)):
        found = read(text.encode(encoding))
        assert [dialog.messages[0]["content"] for dialog in found] == ["Grüße 🙂 0", "Grüße 🙂 1"]


def test_null_is_as_good_as_no_key() -> None:
    nulls = [{**message, "hidden": None, "name": None, "tool_calls": None} for message in DIALOG]
    assert digest(read({"id": None, "system": None, "messages": nulls})) == digest(read({"messages": DIALOG}))


def test_lines_are_read_one_at_a_time_and_again(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [DIALOG, {"id": "a", "messages": DIALOG}, {"bad": 1}])
    dialogs: Iterator[Any] = iter(DialogFile(path))
    assert [(dialog.id, list(dialog.messages)) for dialog in (next(dialogs), next(dialogs))] == [
        ("1", DIALOG),
        ("a", DIALOG),
    ]
    with pytest.raises(DialogError, match="line 3"):
        next(dialogs)
    skipping = DialogFile(path, skip_unreadable=True)
    assert [type(dialog) for dialog in skipping] == [type(dialog) for dialog in skipping]
    census = digest(skipping)
    assert (census.n_dialogs, census.n_unreadable, census.formats) == (3, 1, ("a list of messages", "OpenAI chat"))


def test_what_cannot_be_read_is_skipped_where_that_is_asked_for() -> None:
    image = {"id": "b", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}
    lines = [json.dumps([USER]), '{"messages"', json.dumps(image), json.dumps({"messages": [USER]})]
    found = read("\n".join(lines).encode(), skip_unreadable=True)
    unread = [(dialog.id, dialog.error) for dialog in found if isinstance(dialog, Unreadable)]
    assert [name for name, _ in unread] == ["2", "b"] and "line 2 is not JSON" in unread[0][1]
    assert unread[1][1].startswith("file, line 3: message 0 (user) holds image_url") and "--" not in unread[1][1]
    with pytest.raises(DialogError, match=r"none of the 1 dialogs can be read. file, line 1: message 0"):
        digest(read(image, skip_unreadable=True))
    kinds = [isinstance(dialog, Unreadable) for dialog in DialogList([[USER], image["messages"]], skip_unreadable=True)]
    assert kinds == [False, True]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no dialog to audit"),
        ("[]\n", "line 1: the dialog is empty"),
        ('[{"role": "user", "content": "Hi."}]\n{"messages"', "line 2 is not JSON"),
        ('{"messages": [\n{"role": "user",\n "content": Hi}]}', "line 3 is not JSON"),
        ('{"messages": [\n{"a": "\\ud800"}]}{}', "document 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ('{"text": 1}\n', "line 1 has no 'messages'"),
        ('[{"role": "robot", "content": "Hi."}]\n', "line 1: message 0 has role 'robot'"),
        ('[{"role": "user", "content": "Hi.", "secret": 1}]\n', "unknown keys"),
        ('[{"role": "user", "content": "\\ud800"}]\n', "line 1 .*half of a surrogate pair"),
        (
            '{"id": 1, "messages": [{"role": "user", "content": "Hi."}]}\n' * 2,
            r"the id '1': .*line 1, and .*line 2; .*del",
        ),
    ],
)
def test_malformed_dialogs_name_the_line(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(DialogError, match=expected):
        digest(DialogFile(tmp_path / "d.jsonl"))


def test_two_dialogs_of_one_id_are_refused_with_a_way_out_even_where_others_are_skipped(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"id": "a", "messages": DIALOG}, {"id": "a", "messages": []}])
    for skip in (True, False):
        with pytest.raises(DialogError, match="line 1, and .*line 2" if skip else "line 2: the dialog is empty"):
            digest(DialogFile(str(path), skip_unreadable=skip))
    write_lines(path, [{"id": "a", "messages": DIALOG}, {"id": "a", "messages": DIALOG}])
    assert len(converted(path, tmp_path, read=digest)) == 2


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "d.jsonl", tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(DialogError, match="could not be read"):
            digest(DialogFile(path))


keys = st.sampled_from(
    [
        "messages",
        "conversations",
        "conversation",
        "events",
        "edit",
        "view",
        "operation",
        "message",
        "contents",
        "parts",
        "role",
        "content",
        "from",
        "value",
        "system",
        "prompt",
        "output",
        "history",
        "id",
        "eval",
        "count",
        "body",
        "turns",
    ]
)
words = st.sampled_from(["user", "human", "function_call", "target", "add", "rollback", "reset", "{}", "[1]", ""])
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(documents)
def test_any_json_is_read_or_refused(document: Any) -> None:
    try:
        assert all(dialog.messages for dialog in read(document))
    except DialogError as err:
        assert "expected" in str(err)


@pytest.mark.parametrize(
    ("document", "command"),
    [
        ({"text": "<s>[INST] <<SYS>>Be brief.<</SYS>> Hi. [/INST]"}, "content: $USER"),
        ({"log": [{"asks": "Hi.", "says": "Hello."}]}, "content: $USER"),
        ({"role": "system", "content": "Be brief."}, "jq -sc '{messages: .}'"),
        ({"data": ["Hi.", "Hello."]}, ".data | to_entries[]"),
        ({"log": [{"author": "A", "utterance": "Hi."}, {"author": "B", "utterance": "Yes."}]}, ".author == $USER"),
        ({"log": [{"sender": "agent", "body": "Hi."}] * 3}, ".sender == $USER"),
    ],
)
def test_a_conversion_names_keys_only_where_they_are_sure(tmp_path: Path, document: Any, command: str) -> None:
    path = tmp_path / "dialogs.jsonl"
    path.write_text(json.dumps(document) + "\n" + json.dumps(document))
    with pytest.raises(DialogError) as caught:
        list(DialogFile(path))
    assert command in str(caught.value)


@pytest.mark.parametrize("mark", ["<|im_start|>system\nBe.", "[INST] <<SYS>>Be.<</SYS>>", "<start_of_turn>user\n"])
def test_a_prompt_that_a_template_rendered_is_refused(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "dialogs.jsonl"
    path.write_text(json.dumps({"prompt": mark + "Hi.", "completion": "Hello."}))
    with pytest.raises(DialogError, match="it is rendered by a chat template"):
        list(DialogFile(path))
