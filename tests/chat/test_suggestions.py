"""Commands of error messages: whatever a file and its keys are called, a shell runs the command and nothing else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.pasted import converted

TURN = {"role": "user", "content": "Hi."}
NAMES = [
    "$(touch pwned).json",
    "`touch pwned`;touch pwned",
    "a\n touch pwned",
    "jq -c x FILE > y",
    "it's FILE",
    "FILE",
    "‹FILE›.json",
]
KEYS = [
    "FILE",
    "‹FILE›",
    "x ‹FILE› > dialogs.jsonl",
    "x FILE > y",
    "' ‹FILE› > dialogs.jsonl",
    "$(touch pwned)",
    "\0FILE\0",
]
DOCUMENTS = {
    "beside the messages": lambda key: {"messages": [TURN], key: "x"},
    "in a message": lambda key: {"messages": [TURN | {key: "x"}]},
    "in a part": lambda key: {"messages": [TURN, TURN | {"content": [{"type": key, "x": 1}, "Hi."]}]},
    "of a list": lambda key: {key: [TURN], "more": 1},
    "of a place": lambda key: {"x": {key: [TURN | {"y": 1}]}},
    "of a column": lambda key: {"user": "Hi.", "assistant": "Ho.", key: "x"},
    "of a role": lambda key: {"messages": [TURN | {"role": key}]},
}


@pytest.mark.parametrize("place", DOCUMENTS)
@pytest.mark.parametrize(("name", "key"), list(zip(NAMES, KEYS, strict=True)))
def test_no_name_ends_a_command(tmp_path: Path, name: str, key: str, place: str) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(DOCUMENTS[place](key)))
    assert ("user", "Hi.") in converted(path, tmp_path)[0]
    assert {file.name for file in tmp_path.iterdir()} == {name, "dialogs.jsonl"}


@pytest.mark.parametrize(
    "content",
    [b"prompt,response\nHi.,Hello.\n", b"user,assistant\nHi.,Hello.\n"]
    + [pack(json.dumps([TURN | {"mood": "good"}]).encode()) for pack in (bytes, gzip.compress)],
)
def test_a_path_is_taken_for_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("-x")
    path.write_bytes(content)
    assert converted(path, tmp_path)[0][0] == ("user", "Hi.")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("document", [{"messages": [TURN], "x > dialogs.jsonl": 1}, {"messages": [TURN], "FILE": 1}])
def test_the_file_is_not_written_over(tmp_path: Path, document: Any, pack: Any) -> None:
    path = tmp_path / "dialogs.jsonl"
    path.write_bytes(pack(json.dumps(document).encode()))
    assert converted(path, tmp_path) == [[("user", "Hi.")]]
