"""The dialogs of an audit: their files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import DIALOG, write_lines


def test_dialog_lines_may_be_lists_or_documents(tmp_path: Path) -> None:
    from audit_lit.chat.formats import DialogFile, digest

    path = write_lines(tmp_path / "d.jsonl", [DIALOG, {"id": "a", "messages": DIALOG}])
    assert [(dialog.id, list(dialog.messages)) for dialog in DialogFile(path)] == [("1", DIALOG), ("a", DIALOG)]
    assert digest(DialogFile(path))[0] == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no dialog to audit"),
        ("[]\n", "line 1: the dialog is empty"),
        ('[{"role": "user", "content": "Hi."}]\n{"messages"', "line 2 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ('{"text": 1}\n', "line 1 has no 'messages'"),
        ('[{"role": "robot", "content": "Hi."}]\n', "line 1: message 0 has role 'robot'"),
        ('[{"role": "user", "content": "Hi.", "secret": 1}]\n', "unknown keys"),
        ('{"id": 1, "messages": [{"role": "user", "content": "Hi."}]}\n' * 2, "two dialogs have the id '1'"),
    ],
)
def test_malformed_dialogs_name_the_line(tmp_path: Path, content: str, expected: str) -> None:
    from audit_lit.chat.formats import DialogFile, digest
    from audit_lit.errors import DialogError

    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(DialogError, match=expected):
        digest(DialogFile(tmp_path / "d.jsonl"))


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    from audit_lit.chat.formats import DialogFile, digest
    from audit_lit.errors import DialogError

    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "d.jsonl", tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(DialogError, match="could not be read"):
            digest(DialogFile(path))
