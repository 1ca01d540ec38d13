"""Dialogs labelled with an attribute of their user, in TalkTuner's layout: JSON lines of attribute, label and text."""

from __future__ import annotations

import gzip
import re
import zlib
from itertools import accumulate, cycle, takewhile
from pathlib import Path

from audit_lit.data.rows import Messages, Row, held_out
from audit_lit.errors import DataError
from audit_lit.files.reading import parse_json, require_regular

KIND = "user"
SPLITS = ("train", "dev")
ONE_IN = 10
"""One opening line in so many belongs to the dev split."""
MAX_CHARS = 1200
"""Dialogs are cut after the last user turn within this length. The first lines alone say little about anyone."""
ATTRIBUTES = {
    "age": "age group",
    "gender": "gender",
    "socioeconomic": "socioeconomic status",
    "education": "level of education",
}
"""How a question names an attribute; others are named as in the data."""
VALUES = {"someschool": "some school", "highschool": "high school", "collegemore": "college or more"}
SPEAKER = re.compile(r"(?:^|\n)[#\s]*(HUMAN|USER|AI ASSISTANT|ASSISTANT|AI)\s*:", re.IGNORECASE)


def user_files(folder: Path) -> list[Path]:
    """Return the files of this layout in a folder."""
    return sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])


def load_users(folder: Path, split: str) -> list[Row]:
    """Return the dialogs of one split, each up to a user turn, with labels such as ``user-age-adult``.

    The split goes by the opening line, so that no line is in both.
    """
    if split not in SPLITS:
        raise DataError(f"{folder} has no split {split!r}; expected train or dev.")
    rows = []
    for path in user_files(folder):
        for number, line in enumerate(_text(path).splitlines(), start=1):
            rows += _rows(line, f"{path}, line {number}")
    return [row for row in rows if held_out(row.messages[0]["content"], ONE_IN) == (split == "dev")]


def attribute_of(row: Row) -> str:
    """Return the attribute in plain words, such as ``age group``."""
    name = row.label.split("-")[1]
    return ATTRIBUTES.get(name, name)


def value_of(row: Row) -> str:
    """Return the attribute's value in plain words, such as ``adolescent``."""
    name = row.label.split("-", maxsplit=2)[2]
    return VALUES.get(name, name)


def _text(path: Path) -> str:
    try:
        require_regular(path)
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as err:
        raise DataError(f"{path} could not be read ({err}); expected JSON lines in UTF-8, gzipped or not.") from err


def _rows(line: str, where: str) -> list[Row]:
    expected = "JSON with attribute, label and text"
    record = parse_json(line, where, expected, DataError)
    try:
        label, messages = f"{KIND}-{record['attribute']}-{record['label']}", _messages(record["text"])
    except (KeyError, TypeError) as err:
        raise DataError(f"{where} is malformed ({err!r}); expected {expected}.") from err
    lengths = accumulate(len(message["content"]) for message in messages)
    ends = [end for end, length in enumerate(lengths, start=1) if end % 2 and (end == 1 or length <= MAX_CHARS)]
    return [Row(label, messages[: ends[-1]])] if ends else []


def _messages(text: str) -> Messages:
    """Return the turns from the user's first on; a turn out of order ends the dialog."""
    _, *parts = SPEAKER.split(text)
    roles = ["user" if speaker.upper() in ("HUMAN", "USER") else "assistant" for speaker in parts[::2]]
    turns = [(role, content.strip()) for role, content in zip(roles, parts[1::2], strict=True)]
    if turns and turns[0][0] == "assistant":
        turns = turns[1:]
    expected = cycle(("user", "assistant"))
    in_order = takewhile(lambda turn: turn[1] and turn[0] == next(expected), turns)
    return tuple({"role": role, "content": content} for role, content in in_order)
