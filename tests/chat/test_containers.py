"""Files that are no JSON: read where that is sure, and else named with a command that, pasted, converts them."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.pasted import converted, said
from hypothesis import given
from hypothesis import strategies as st

from audit_lit.chat.formats import DialogFile, containers, read_dialogs
from audit_lit.errors import DialogError

SAID = [("system", "Be brief."), ("user", 'Grüße, "du"\n🙂'), ("assistant", "Hello.")]
MESSAGES = [{"role": role, "content": text} for role, text in SAID]
ROWS = [
    {"id": "a", "system_prompt": SAID[0][1], "question": SAID[1][1], "response": "Hello."},
    {"id": "b", "system_prompt": "", "question": "Hi.", "response": "Ho."},
]
BOTH = [SAID, [("user", "Hi."), ("assistant", "Ho.")]]


def table(delimiter: str, rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def parquet(rows: list[Any]) -> bytes:
    pyarrow, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    sink = io.BytesIO()
    pq.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows: list[Any]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    sink, content = io.BytesIO(), pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(sink, content.schema) as writer:
        writer.write_table(content)
    return sink.getvalue()


def chatml(messages: list[Any]) -> str:
    turns = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return f"{turns}<|im_start|>assistant\n"


LINES = "\n".join(json.dumps({"messages": MESSAGES}) for _ in range(2))
NESTED = [{"id": "a", "messages": json.dumps(MESSAGES)}, {"id": "b", "messages": json.dumps(MESSAGES[1:])}]
FILES: dict[str, tuple[str, Any, list[Any]]] = {
    "csv": ("is CSV, not JSON", table(",", ROWS), BOTH),
    "csv of Excel": ("is CSV with semicolons", table(";", ROWS).encode("utf-16"), BOTH),
    "csv with messages": ("is CSV", table(",", NESTED), [SAID, SAID[1:]]),
    "csv of another layout": (
        "is CSV.*Its first row holds two replies",
        table(",", [{"prompt": "Hi.", "chosen": "Ho.", "rejected": "No."}] * 2),
        [BOTH[1]] * 2,
    ),
    "long csv": ("is CSV", table(",", [ROWS[1] | {"id": str(number)} for number in range(9000)]), [BOTH[1]] * 9000),
    "packed csv": ("is CSV", gzip.compress(table(",", ROWS).encode()), BOTH),
    "tsv": ("is TSV", table("\t", ROWS), BOTH),
    "yaml": ("is YAML", yaml.safe_dump({"messages": MESSAGES}, allow_unicode=True), [SAID]),
    "yaml documents": ("is YAML", yaml.safe_dump_all([{"messages": MESSAGES}] * 2), [SAID, SAID]),
    "yaml list": ("is YAML", yaml.safe_dump([{"messages": MESSAGES}] * 500), [SAID] * 500),
    "parquet": ("is a Parquet table", parquet([{"messages": MESSAGES}] * 2), [SAID, SAID]),
    "arrow": ("is an Arrow table", arrow([{"messages": MESSAGES}] * 2), [SAID, SAID]),
    "bzip2": ("is packed by bzip2", bz2.compress(LINES.encode()), [SAID, SAID]),
    "xz": ("is packed by xz", lzma.compress(LINES.encode()), [SAID, SAID]),
    "chatml": ("is ChatML text", chatml(MESSAGES), [SAID]),
    "transcript": (
        "is a transcript with the labels Assistant, System, User",
        "System: Be brief.\nUser: Hi.\n\nThere: you.\nAssistant:\nHello.\nUser: Bye.",
        [[SAID[0], ("user", "Hi.\n\nThere: you."), SAID[2], ("user", "Bye.")]],
    ),
    "bold transcript": ("is a transcript", "**Human:** Hi.\n**AI:** Ho.\n", [BOTH[1]]),
    "HH text": ("is HH-RLHF text", "\n\nHuman: Hi.\n\nAssistant: Ho.", [BOTH[1]]),
    "python lines": ("is Python's notation", f"{ ({'messages': MESSAGES}) }\n" * 2, [SAID, SAID]),
    "python value": ("is Python's notation", f"{ ({'messages': MESSAGES}) }".replace("}, {", "},\n {"), [SAID]),
    "gzip in gzip": (
        "is packed by gzip, packed by gzip once more",
        gzip.compress(gzip.compress(LINES.encode())),
        [SAID] * 2,
    ),
    "reasoning in gzip": (
        "unknown keys",
        gzip.compress(json.dumps([*MESSAGES[:2], MESSAGES[2] | {"mood": "good"}]).encode()),
        [SAID],
    ),
    "reasoning in utf-16": (
        "unknown keys",
        json.dumps([*MESSAGES[:2], MESSAGES[2] | {"mood": "good"}], ensure_ascii=False).encode("utf-16"),
        [SAID],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_the_command_of_the_error_converts_the_file(tmp_path: Path, name: str) -> None:
    error, content, expected = FILES[name]
    path = tmp_path / "my dialogs"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DialogError, match=f"(?s){error}"):
        list(DialogFile(path, skip_unreadable="unknown" not in error))
    assert converted(path, tmp_path) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_documents_in_a_row_are_read_in_every_encoding(tmp_path: Path, encoding: str, pack: Any) -> None:
    path = tmp_path / "dialogs"
    dialogs = [{"messages": MESSAGES}, {"messages": MESSAGES[1:]}]
    texts = [json.dumps(dialog, indent=indent, ensure_ascii=False) for dialog in dialogs for indent in (1, None)]
    for text in ("\n".join(texts), "".join(texts), f"\n{texts[1]}{texts[3]}\n{texts[1]}"):
        path.write_bytes(pack(text.encode(encoding)))
        found = list(DialogFile(str(path)))
        assert said(found)[:2] == ([SAID, SAID] if text.startswith(texts[0]) else [SAID, SAID[1:]])
        assert len({dialog.id for dialog in found}) == len(found) == text.count('"messages"')


def test_gzip_that_is_broken_or_grows_without_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dialogs.gz"
    path.write_bytes(gzip.compress(LINES.encode())[:-20])
    with pytest.raises(DialogError, match="could not be unpacked"):
        list(DialogFile(path))
    path.write_bytes(gzip.compress(LINES.encode()) + b"junk")
    with pytest.raises(DialogError, match=r"could not be unpacked .*; expected what gzip packs, and no more"):
        list(DialogFile(path))
    monkeypatch.setattr(containers, "MOST_BYTES", 2**20)
    path.write_bytes(gzip.compress(b" " * 2**24))
    with pytest.raises(DialogError, match="unpacks to more than"):
        list(DialogFile(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16", "utf-32"])
def test_text_that_is_cut_off_is_refused_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "dialogs"
    path.write_bytes('[{"role": "user", "content": "é'.encode(encoding)[:-1])
    with pytest.raises(DialogError, match=f"could not be read .*, in {encoding.upper()}.* to its end"):
        list(DialogFile(path))


@pytest.mark.parametrize(
    ("name", "error"),
    [("conversations.json", "is a ZIP archive of .*python -m zipfile -e .*my.zip"), ("[Content_Types].xml", "as CSV")],
)
def test_archives_are_named(tmp_path: Path, name: str, error: str) -> None:
    path = tmp_path / "my.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "[]")
    with pytest.raises(DialogError, match=error):
        list(DialogFile(path))


@given(st.text(st.sampled_from("ab ,;\t\n:-'\"{[<|User>0")) | st.binary(max_size=40))
def test_whatever_a_file_holds_is_read_or_refused(content: str | bytes) -> None:
    raw = content.encode() if isinstance(content, str) else content
    try:
        list(read_dialogs(io.BytesIO(raw), "file"))
    except (DialogError, UnicodeError, OSError) as err:
        assert str(err)
