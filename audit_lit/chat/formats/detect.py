"""Tell the format of a JSON document by its content, or say how to turn it into one that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audit_lit.chat.formats.conversations import SHAREGPT, SPEAKERS, WILDCHAT
from audit_lit.chat.formats.conversions import conversion, of_turns, preference
from audit_lit.chat.formats.format import Format
from audit_lit.chat.formats.gemini import GEMINI
from audit_lit.chat.formats.openai import ANTHROPIC, MESSAGES, OPENAI
from audit_lit.chat.formats.pairs import PAIRS
from audit_lit.chat.formats.petri import PETRI
from audit_lit.chat.formats.places import union
from audit_lit.chat.formats.responses import RESPONSES
from audit_lit.chat.origins import WRAPPERS
from audit_lit.errors import DialogError, UnknownLayout

FORMATS = (PETRI, ANTHROPIC, OPENAI, SHAREGPT, WILDCHAT, SPEAKERS, GEMINI, RESPONSES, PAIRS, MESSAGES)
"""Every format, in the order in which they are tried; Inspect's logs are told apart before (see ``files``)."""
BY_NAME = {each.name: each for each in FORMATS}
INSPECT = "inspect"
NAMES = (*sorted(BY_NAME), INSPECT)
"""What ``--format`` takes."""
MESSAGE_KEYS = {"role", "from", "speaker", "content"}
"""Keys of which each message has one, in itself or in what LangChain wraps."""


def format_of(document: Any, name: str | None) -> Format:
    """Return the format of a document, or the one that is named.

    Raises:
        UnknownLayout: If the document is in no known format.
        DialogError: If it is not in the named one.
    """
    if isinstance(document, Mapping) and preference(document):
        raise UnknownLayout(unknown([document]))
    tried = FORMATS if name is None else tuple(each for each in FORMATS if each.name == name)
    for each in tried:
        if each.matches(document):
            return each
    if name is not None:
        expected = f"{tried[0].title} such as {tried[0].expected}" if tried else "an Inspect log"
        raise DialogError(f"is not {expected}; leave the format out, or name another of {', '.join(NAMES)}.")
    raise UnknownLayout(unknown([document]))


def documents(content: Any) -> Iterator[Any] | None:
    """Return the dialogs of a JSON array, each a document of its own; None for the document of one dialog."""
    if not isinstance(content, list) or not content or not all(isinstance(part, list | Mapping) for part in content):
        return None
    if all(isinstance(part, Mapping) and _is_message(part) and not _holds_turns(part) for part in content):
        return None
    return iter(content)


def _is_message(part: Mapping[str, Any]) -> bool:
    wrapped = (part.get(key) for key in WRAPPERS)
    return any(MESSAGE_KEYS & set(fields) for fields in (part, *wrapped) if isinstance(fields, Mapping))


def _holds_turns(document: Mapping[str, Any]) -> bool:
    return any(each.matches(document) for each in FORMATS)


def as_document(content: Any) -> Any:
    """Return a bare list of turns under the keys of ShareGPT as a document of it; anything else as it is."""
    is_bare = isinstance(content, list) and content and isinstance(content[0], Mapping) and "role" not in content[0]
    return {"conversations": content} if is_bare and {"from", "speaker"} & set(content[0]) else content


def _is_read(document: Any) -> bool:
    try:
        return bool(format_of(document, None).read(document))
    except DialogError:
        return False


def unknown(rows: Sequence[Any]) -> str:
    """Say that documents are in no known format, and how to turn them into one."""
    document, known = rows[0], f"one of {', '.join(NAMES)} (docs/formats.md)"
    if not isinstance(document, Mapping):
        command = "" if not isinstance(document, list | tuple) else of_turns([*document]) or of_turns([*rows])
        way_out = f" Convert it: {command}" if command else ""
        return f"is {str(document)[:60]!r}; expected a dialog in {known}.{way_out}"
    rows = [row for row in rows if isinstance(row, Mapping)]
    if both := preference(union(rows)):
        return both
    has = "has 'messages' without a role" if "messages" in document else "has no 'messages'"
    return (
        f"{has}, and its keys {sorted(map(str, document))[:12]} are those of no format; expected {known}. "
        f"Convert it, for example: {conversion(rows, _is_read)}"
    )
