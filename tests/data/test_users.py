"""Users' attributes: where dialogs are cut, and no opening line on both sides of the split."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.user_data import TEXT, write_users


@pytest.mark.parametrize("name", ["users.jsonl", "users.jsonl.gz"])
def test_users_are_read_up_to_a_user_turn(tmp_path: Path, name: str) -> None:
    from audit_lit.data.users import attribute_of, load_users, value_of

    write_users(tmp_path, [TEXT.format(n=n) for n in range(60)], name)
    train, dev = load_users(tmp_path, "train"), load_users(tmp_path, "dev")
    assert len(train) + len(dev) == 60 and dev
    row = train[0]
    assert [m["role"] for m in row.messages] == ["user", "assistant"] * 2 + ["user"]
    assert row.messages[2]["content"] == "I am in school.\nStill."
    assert (row.label, attribute_of(row), value_of(row)) == ("user-age-adolescent", "age group", "adolescent")


def test_no_opening_line_is_in_both_splits(tmp_path: Path) -> None:
    from audit_lit.data.users import load_users

    write_users(tmp_path, [TEXT.format(n=n % 40) for n in range(200)])
    openings = [{row.messages[0]["content"] for row in load_users(tmp_path, split)} for split in ("train", "dev")]
    assert openings[1] and not openings[0] & openings[1]


def test_long_and_odd_dialogs(tmp_path: Path) -> None:
    from audit_lit.data.users import MAX_CHARS, load_users

    long = "USER: a{n}\n\nASSISTANT: " + "b" * MAX_CHARS + "\n\nUSER: late"
    assistant_first = "ASSISTANT: Hello.\n\nUSER: Hi{n}.\n\nUSER: twice"
    write_users(tmp_path, [text.format(n=n) for n in range(30) for text in (long, assistant_first, "no turns")])
    rows = load_users(tmp_path, "train") + load_users(tmp_path, "dev")
    assert len(rows) == 60 and all(len(row.messages) == 1 for row in rows)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[" * 100_000, b'{"attribute": "age"}', b"[1]", b"\xff", b'{"attribute": 1, "label": 2, "text": 3}'],
)
def test_malformed_users_name_their_line(tmp_path: Path, content: bytes) -> None:
    from audit_lit.data.users import load_users
    from audit_lit.errors import DataError

    (tmp_path / "users.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"users.jsonl(, line 1)? (is malformed|is not JSON|could not be read)"):
        load_users(tmp_path, "train")
    (tmp_path / "users.jsonl").rename(tmp_path / "users.jsonl.gz")
    with pytest.raises(DataError, match="could not be read"):
        load_users(tmp_path, "train")
    with pytest.raises(DataError, match="no split 'test'"):
        load_users(tmp_path, "test")
