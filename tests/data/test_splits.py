"""Data layouts: users' attributes, relations, several folders at once, and no line on both sides of a split."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

TEXT = (
    "### Human: Hi {n}!\n\n### Assistant: Hello.\n\nHUMAN: I am in school.\nStill.\n\nASSISTANT: Fine.\n\nHUMAN: Bye."
)


def write_users(folder: Path, texts: list[str], name: str = "users.jsonl") -> Path:
    lines = [json.dumps({"attribute": "age", "label": "adolescent", "text": text}) for text in texts]
    content = "\n".join(lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return folder


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
    "content", [b"{", b'{"attribute": "age"}', b"[1]", b"\xff", b'{"attribute": 1, "label": 2, "text": 3}']
)
def test_malformed_users_name_their_line(tmp_path: Path, content: bytes) -> None:
    from audit_lit.data.users import load_users
    from audit_lit.errors import RecipeError

    (tmp_path / "users.jsonl").write_bytes(content)
    with pytest.raises(RecipeError, match=r"users.jsonl(, line 1)? (is malformed|could not be read)"):
        load_users(tmp_path, "train")
    (tmp_path / "users.jsonl").rename(tmp_path / "users.jsonl.gz")
    with pytest.raises(RecipeError, match="could not be read"):
        load_users(tmp_path, "train")
    with pytest.raises(RecipeError, match="no split 'test'"):
        load_users(tmp_path, "test")


def write_relation(folder: Path, name: str, subjects: list[str]) -> Path:
    (folder / "factual").mkdir(exist_ok=True)
    content = {
        "prompt_templates": [f"The {name} of {{}} is", f"{{}} has the {name}"],
        "samples": [{"subject": subject, "object": f"{name} of {subject}"} for subject in subjects],
    }
    path = folder / "factual" / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def test_relations_are_split_by_relation_and_subject(tmp_path: Path) -> None:
    from audit_lit.data.relations import load_relations
    from audit_lit.data.splits import has_split, load_split
    from audit_lit.errors import RecipeError

    for number, name in enumerate("abcdefgh"):
        path = write_relation(tmp_path, name, ["France", f"only {name}", f"shared {number % 3}"])
    write_relation(tmp_path, "a", ["france", " FRANCE", "only a"])
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "system.json").write_text("[]")  # another split of another layout
    train, dev = (load_split([tmp_path], split) for split in ("train", "dev"))
    assert {row.label for row in dev} == {"relation-factual-c", "relation-factual-h"}  # the third of every five
    assert {row.label for row in train} == {f"relation-factual-{name}" for name in "abdefg"}
    lines = [{row.messages[0]["content"] for row in rows} for rows in (train, dev)]
    assert not lines[0] & lines[1] and "Tell me about only a" in lines[0] and "Tell me about France" in lines[1]
    row = train[0]
    assert row.family == ["relation", "factual"] and row.qa[0][1] == "a of only a"
    assert ["The a of X is" in row.qa[0][0], "X has the a" in row.qa[1][0]] == [True, True]
    assert has_split([tmp_path], "train") and not has_split([tmp_path], "other")
    with pytest.raises(RecipeError, match="no split 'test'"):
        load_relations(tmp_path, "test")
    path.write_text(json.dumps({"samples": []}))
    with pytest.raises(RecipeError, match=r"h.json is malformed"):
        load_split([tmp_path], "dev")


def test_several_folders_are_one_split(tmp_path: Path) -> None:
    from audit_lit.data.splits import load_split, split_hash
    from audit_lit.errors import RecipeError
    from audit_lit.testing.tiny_data import write_tiny_data

    write_tiny_data(tmp_path / "data")
    (tmp_path / "more").mkdir()
    write_users(tmp_path / "more", [TEXT.format(n=n) for n in range(60)])
    alone, both = (
        load_split(folders, "train") for folders in ([tmp_path / "data"], [tmp_path / "data", tmp_path / "more"])
    )
    assert both[: len(alone)] == alone and len(both) > len(alone)
    hashes = {
        split_hash([tmp_path / name for name in names], "train") for names in (["data"], ["more"], ["data", "more"])
    }
    assert len(hashes) == 3
    with pytest.raises(RecipeError, match="LatentQA's layout"):
        load_split([tmp_path / "nothing"], "train")
