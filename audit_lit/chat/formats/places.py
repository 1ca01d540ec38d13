"""Places of documents, as paths of jq: what stands where in several documents of one layout."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from audit_lit.chat.formats.format import METADATA, REQUEST
from audit_lit.chat.messages import is_empty
from audit_lit.chat.suggestions import field

MOST_PLACES = 100_000
"""Number of places that messages are looked for in; they stand near the top."""


def held(documents: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the objects and lists in some documents, what is further out first, with their paths.

    ``[]`` stands for all parts of a list.
    """
    queue: deque[tuple[str, Any]] = deque(("", document) for document in documents)
    for _ in range(MOST_PLACES):
        if not queue:
            return
        path, holder = queue.popleft()
        yield path, holder
        is_list = isinstance(holder, list)
        for key, value in (("[]", part) for part in holder) if is_list else ((field(k), v) for k, v in holder.items()):
            if isinstance(value, Mapping | list):
                queue.append((path + step(path, key), value))


def step(path: str, key: str) -> str:
    """Return how a path of jq goes on with a key."""
    return key.replace(".[", "[", 1) if path else key


def union(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return every key of some documents with its first value that is not empty."""
    joined: dict[str, Any] = {}
    for document in documents:
        for key, value in document.items():
            if is_empty(joined.get(key)):
                joined[key] = value
    return joined


def may_be_content(document: Mapping[str, Any]) -> list[str]:
    """Return the keys of a document that may hold what a model read."""
    return [
        key
        for key, value in document.items()
        if key not in METADATA | REQUEST and isinstance(value, str | list | Mapping) and not is_empty(value)
    ]
