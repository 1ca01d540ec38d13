"""The JSON documents of a file, each of which should hold one dialog, with the place where each stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO, TextIOWrapper
from itertools import islice
from types import UnionType
from typing import Any

from audit_lit.chat.formats import inspect_log
from audit_lit.chat.formats.containers import GZIP, SAMPLE, Container, archive, binary, packed_title, textual, unpacked
from audit_lit.chat.formats.detect import as_document, documents, format_of
from audit_lit.chat.suggestions import OUT, piped
from audit_lit.errors import FILE, DialogError
from audit_lit.files.reading import as_text, encoding_of, parse_json

UNPACK = f"gzip -dc {FILE}"
EXPECTED = "one dialog per line, or one JSON document"
DECODER, WHITESPACE = json.JSONDecoder(), re.compile(r"\s*")


@dataclass(frozen=True)
class Source:
    """A JSON document that should hold one dialog, or why it is none."""

    id: str
    where: str
    document: Any = None
    error: str | None = None
    is_log: bool = False


def sources(file: BufferedIOBase, name: str) -> Iterator[Source]:
    """Yield the documents of a file: a log's samples, the parts of one document, or those of its lines.

    Raises:
        DialogError: If the file holds no JSON at all.
    """
    begin = _begin(file)
    if begin.startswith(inspect_log.ZIP):
        if said := archive(file):
            raise DialogError(f"{name} {said}")
        yield from _of_log(inspect_log.log_samples(file, name), name)
        return
    if container := binary(begin):
        raise DialogError(_converted(container, name))
    plain = unpacked(file)
    if plain is not file and (title := packed_title(_begin(plain))):
        raise DialogError(
            f"{name} is {title}, packed by gzip once more; expected {EXPECTED}. Unpack it: {UNPACK} > {OUT}"
        )
    text = as_text(plain)
    contents = _contents(text, name, _opened(begin, text.encoding))
    for number, content in enumerate(contents or (), start=1):
        yield from _split(content, str(number) if len(contents or ()) > 1 else "", name)
    if contents is None:
        text.seek(0)
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield from _of_line(line, str(number), f"{name}, line {number}")


def to_json(file: BufferedIOBase) -> str:
    """Return the command that writes a file as text in UTF-8, where other programs cannot read it as it is."""
    if (begin := _begin(file)).startswith(GZIP):
        return UNPACK
    if (encoding := encoding_of(begin)).startswith("utf-8"):
        return ""
    return f'python -c "import sys; sys.stdout.buffer.write({_opened(begin, encoding)}.read().encode())" {FILE}'


def _begin(file: BufferedIOBase) -> bytes:
    begin = file.read(8)
    file.seek(0)
    return begin


def _opened(begin: bytes, encoding: str) -> str:
    """Return Python code that opens the file as text."""
    if begin.startswith(GZIP):
        return f"__import__('gzip').open(sys.argv[1], 'rt', encoding='{encoding}')"
    return f"open(sys.argv[1], encoding='{'utf-8-sig' if encoding.startswith('utf-8') else encoding}')"


def _contents(text: TextIOWrapper, name: str, opened: str) -> list[Any] | None:
    """Return the JSON documents of a file, of which the first does not end on its line; None for JSON lines."""
    head = list(islice((line for line in text if line.strip()), 2))
    if not head or _is_json(head[0]):
        return None
    text.seek(0)
    may_be_json = head[0].lstrip()[0] in "{["
    content = "".join(iter(lambda: text.read(SAMPLE), "")) if may_be_json else text.read(SAMPLE)
    try:
        return [parse_json(content, name, EXPECTED, DialogError)]
    except DialogError as err:
        if _is_json(head[-1], list | dict):  # JSON lines, of which the first is broken
            return None
        if several := _in_a_row(content, name):
            return several
        if container := textual(content[:SAMPLE], opened):
            raise DialogError(_converted(container, name)) from err
        line = f"{name}, line {getattr(err.__cause__, 'lineno', 1)}"
        raise DialogError(err.of_file.replace(name, line, 1)) from err


def _is_json(line: str, kinds: type | UnionType = object) -> bool:
    try:
        return isinstance(parse_json(line, "", EXPECTED, DialogError), kinds)
    except DialogError:
        return False


def _in_a_row(text: str, where: str) -> list[Any]:
    """Return several JSON documents that stand one after the other; none if anything else stands there."""
    parts: list[str] = []
    start = _skipped(text, 0)
    while start < len(text):
        try:
            _, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return []
        parts.append(text[start:end])
        start = _skipped(text, end)
    numbered = enumerate(parts if len(parts) > 1 else [], start=1)
    return [parse_json(part, f"{where}, document {number}", EXPECTED, DialogError) for number, part in numbered]


def _skipped(text: str, start: int) -> int:
    """Return where text goes on after white space."""
    match = WHITESPACE.match(text, start)
    return match.end() if match else start


def _converted(container: Container, name: str) -> str:
    """Say what a file is, and how to convert it into one whose dialogs are read."""
    parts = documents(container.example)
    example = container.example if parts is None else next(parts)
    said = f"{name} is {container.title}, not JSON; expected {EXPECTED}."
    try:
        if example is not None:
            format_of(as_document(example), None).read(as_document(example))
    except DialogError as err:
        step = container.command.partition(" > ")[0]
        return f"{said} Its first row {piped(err.of_file, step)}"
    return f"{said} Convert it: {container.command}"


def _of_line(line: str, number: str, where: str) -> Iterator[Source]:
    try:
        contents = [parse_json(line, where, EXPECTED, DialogError)]
    except DialogError as err:
        contents = _in_a_row(line, where)
        if not contents:
            yield Source(number, where, error=err.of_file)
            return
    for place, content in enumerate(contents, start=1):
        yield from _split(content, number if len(contents) == 1 else f"{number}.{place}", where)


def _split(content: Any, number: str, where: str) -> Iterator[Source]:
    """Yield the dialogs of a JSON document: the samples of a log, the parts of an array, or the document itself."""
    parts = documents(content)
    if inspect_log.is_log(content):
        yield from _of_log(inspect_log.log_samples(BytesIO(json.dumps(content).encode()), where), where)
    elif parts is None:
        yield Source(number or "1", where, as_document(content))
    else:
        for place, part in enumerate(parts, start=1):
            prefix = f"{number}." if number else ""
            yield Source(f"{prefix}{place}", f"{where}, dialog {place}", as_document(part))


def _of_log(samples: Iterable[tuple[str, Any]], where: str) -> Iterator[Source]:
    return (Source(name, f"{where}, sample {name}", messages, is_log=True) for name, messages in samples)
