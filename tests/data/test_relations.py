"""Relations: a row per pair, and no relation nor subject on both sides of the split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


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
    from audit_lit.errors import DataError

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
    with pytest.raises(DataError, match="no split 'test'"):
        load_relations(tmp_path, "test")
    path.write_text(json.dumps({"samples": []}))
    with pytest.raises(DataError, match=r"h.json is malformed"):
        load_split([tmp_path], "dev")
