"""What a file is before it is JSON: unpacked where that is sure, and else named, with a command that converts it."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from gzip import GzipFile
from io import BufferedIOBase, StringIO
from itertools import islice
from typing import Any
from zipfile import BadZipFile, ZipFile

from audit_lit.chat.formats.inspect_log import ZIP
from audit_lit.chat.formats.rendered import TURNS, layout_of
from audit_lit.chat.messages import ROLES, SAME_ROLE
from audit_lit.chat.suggestions import python
from audit_lit.errors import FILE
from audit_lit.files.documents import decode_yaml
from audit_lit.files.reading import MOST_BYTES

SAMPLE = 2**16
"""Number of characters by which text is told."""
GZIP = b"\x1f\x8b"
MOST_UNPACKED = 200
"""How many times larger than what it was packed to text may be, once it is large; a tenth or so is usual."""
LOG_PARTS, OFFICE = {"header.json", "_journal/start.json"}, "[Content_Types].xml"
"""Files in the archives that Inspect's logs are, and that Office's documents are."""
ROWS = "[print(json.dumps(row, default=str)) for row in {}.to_pylist()]"
COPY = "import {0}, shutil, sys; shutil.copyfileobj({0}.open(sys.argv[1]), sys.stdout.buffer)"
BINARY = {
    b"PAR1": (
        "a Parquet table",
        "import json, sys, pyarrow.parquet as pq; " + ROWS.format("pq.read_table(sys.argv[1])"),
    ),
    b"\xff\xff\xff\xff": (
        "an Arrow table",
        "import json, sys, pyarrow; " + ROWS.format("pyarrow.ipc.open_stream(sys.argv[1]).read_all()"),
    ),
    b"BZh": ("packed by bzip2", COPY.format("bz2")),
    b"\xfd7zXZ": ("packed by xz", COPY.format("lzma")),
}
"""How binary files begin, what they are, and the code that writes what they hold."""
TURN = r"^[\s*_#>\[]{{0,4}}({})[*_\]]{{0,3}}:[*_]{{0,2}}"
LABEL = re.compile(TURN.format("|".join((*ROLES, *SAME_ROLE))), re.IGNORECASE | re.MULTILINE)
"""How a turn of a transcript begins: with the name of who speaks."""

STAMPED = re.compile(
    r"(?m)^\u200e?\[?\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4},? \d{1,2}:\d{2}(?::\d{2})?(?:\s?[AaPp]\.?[Mm]\.?)?"
    r"\]?(?: -)? ([^:\n]+): "
)
"""How a turn begins in the text that WhatsApp exports: with its time and who says it."""


@dataclass(frozen=True)
class Container:
    """What a file is that is no JSON.

    Attributes:
        title: What a person calls it.
        code: Python code that writes what it holds.
        example: The first document that it holds, where that is known.
    """

    title: str
    code: str
    example: Any = None

    @property
    def command(self) -> str:
        """The command that converts it."""
        return python(self.code)


class Unpacked(GzipFile):
    """The content of a file that gzip packed, unless it grows without measure."""

    def __init__(self, packed: BufferedIOBase) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self.packed = packed

    def read1(self, size: int = -1) -> bytes:
        """Read some bytes; raise ``OSError`` for more than text is packed from."""
        if self.tell() > max(MOST_BYTES, MOST_UNPACKED * self.packed.tell()):
            raise OSError(f"it unpacks to more than {self.tell():,} bytes; expected text, unpacked")
        return super().read1(size)


def unpacked(file: BufferedIOBase) -> BufferedIOBase:
    """Return an open file that can seek, or its content if gzip packed it."""
    begin = file.read(len(GZIP))
    file.seek(0)
    return Unpacked(file) if begin == GZIP else file


def binary(begin: bytes) -> Container | None:
    """Return what a binary file is by how it begins, if it is one that is known."""
    return next((Container(*BINARY[magic]) for magic in BINARY if begin.startswith(magic)), None)


def packed_title(begin: bytes) -> str | None:
    """Return what a binary file is that gzip packed, by how it begins, if it is one that is known."""
    if begin.startswith(GZIP):
        return "packed by gzip"
    if begin.startswith(ZIP):
        return "a ZIP archive"
    container = binary(begin)
    return container.title if container else None


def archive(file: BufferedIOBase) -> str | None:
    """Say what a ZIP archive is, and what to do; None for a log of Inspect, and for one that cannot be read."""
    try:
        names = ZipFile(file).namelist()
    except (BadZipFile, OSError):
        return None
    finally:
        file.seek(0)
    if LOG_PARTS & set(names):
        return None
    if OFFICE in names:
        return "is an Office document, not JSON; expected text. Save its table as CSV."
    step = f"python -m zipfile -e {FILE} ."
    return f"is a ZIP archive of {names[:4]}; expected a file of dialogs. Unpack it, and give the one in it: {step}"


def textual(sample: str, opened: str) -> Container | None:
    """Return what text is by its first ``SAMPLE`` characters, if it is known and no JSON.

    Args:
        sample: These characters.
        opened: Python code that opens the file as text.
    """
    kinds = (_rendered, _transcript, _stamped, _python, _table, _yaml)  # from the surest on
    return next(filter(None, (kind(sample, opened) for kind in kinds)), None)


def _rendered(sample: str, opened: str) -> Container | None:
    if (name := layout_of(sample)) is None:
        return None
    header, end = TURNS[name]
    return Container(f"{name} text", _splitting(header, rf"re.sub(r'{end}\s*\Z', '', text)", opened))


def _splitting(header: str, said: str, opened: str) -> str:
    """Return the code that splits the text of one dialog before each turn."""
    turns = "zip(parts[1::2], parts[2::2]) if text.strip()"
    return (
        f"import json, re, sys; parts = re.split(r'{header}', {opened}.read()); "
        f"print(json.dumps(dict(messages=[dict(role=role, content={said}) for role, text in {turns}])))"
    )


def _transcript(sample: str, opened: str) -> Container | None:
    if not LABEL.match(sample.lstrip()):
        return None
    labels = "|".join(sorted(set(LABEL.findall(sample))))
    code = _splitting(f"(?m){TURN.format(labels)}", "text.strip()", opened)
    return Container(f"a transcript with the labels {labels.replace('|', ', ')}", code)


def _stamped(sample: str, opened: str) -> Container | None:
    names = sorted(set(STAMPED.findall(sample)))
    if not names:
        return None
    role = "('assistant', 'user')[name == USER]"
    turns = f"dict(role={role}, content=text.strip()) for name, text in zip(parts[1::2], parts[2::2])"
    code = (
        f"import json, re, sys; parts = re.split(r'{STAMPED.pattern}', {opened}.read()); "
        f"print(json.dumps(dict(messages=[{turns}])))"
    )
    title = f"a chat as text between {json.dumps(names[:4])[1:-1]} (with the user's name, in single quotes, for USER)"
    return Container(title, code)


def _python(sample: str, opened: str) -> Container | None:
    """Return values in Python's notation, one per line or one in all."""
    if not re.match(r"\s*[\[({]+\s*'", sample):
        return None
    try:
        ast.literal_eval(sample.strip().splitlines()[0])
        values = f"map(ast.literal_eval, filter(str.strip, {opened}))"
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        values = f"[ast.literal_eval({opened}.read())]"
    return Container("Python's notation", f"import ast, json, sys; [print(json.dumps(value)) for value in {values}]")


def _table(sample: str, opened: str) -> Container | None:
    """Return values that commas or tabs separate, if each row has one for each name of the header."""
    for delimiter, title in ((",", "CSV"), ("\t", "TSV"), (";", "CSV with semicolons")):
        header, *rows = list(islice(_rows(sample, delimiter), 100)) or [[]]
        if len(sample) == SAMPLE:
            rows = rows[:-1]  # it may be cut off
        names = {name for name in header if re.fullmatch(r"[\w .-]{1,40}", name)}
        if len(names) == len(header) > 1 and rows and all(len(row) == len(header) for row in rows):
            filled = [next(filter(None, column), "") for column in zip(*rows, strict=True)]
            return _of_table(title, dict(zip(header, filled, strict=True)), delimiter, opened)
    return None


def _of_table(title: str, example: dict[str, str], delimiter: str, opened: str) -> Container:
    nested = sorted(name for name, value in example.items() if _holds_json(value))
    value = f"json.loads(value) if name in {nested} else value" if nested else "value"
    rows = f"csv.DictReader({opened[:-1]}, newline=''), delimiter=chr({ord(delimiter)}))"
    code = (
        "import csv, json, sys; csv.field_size_limit(2**30); "
        f"[print(json.dumps({{name: {value} for name, value in row.items()}})) for row in {rows}]"
    )
    return Container(
        title, code, {name: json.loads(example[name]) if name in nested else example[name] for name in example}
    )


def _rows(sample: str, delimiter: str) -> Iterator[list[str]]:
    try:
        yield from filter(None, csv.reader(StringIO(sample, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        return


def _holds_json(value: str) -> bool:
    try:
        return isinstance(json.loads(value), list | dict)
    except (ValueError, RecursionError):
        return False


def _yaml(sample: str, opened: str) -> Container | None:
    if not re.match(r"---|- |[\w-]+:\s", sample):
        return None
    if len(sample) == SAMPLE:
        sample = sample[: max(sample.rfind("\n- "), sample.rfind("\n---"), 0)]
    try:
        example = decode_yaml(re.split(r"(?m)^---.*$", sample.removeprefix("---"))[0])
    except ValueError:
        return None
    if not isinstance(example, list | dict):
        return None
    every = f"[print(json.dumps(content, default=str)) for content in yaml.safe_load_all({opened})]"
    return Container("YAML", f"import json, sys, yaml; {every}", example)
