"""JSON and YAML text, read strictly: what two readers could take for different things is an error."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Hashable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # help does not wait for it
    import yaml

MAX_VALUES = 100_000
"""Largest number of values in a YAML document, those that aliases and merges repeat counted each time."""
WITHOUT_END = re.compile(r"NaN|Infinity|[eE]\+?\d{3}|\d{300}")
"""What JSON text has somewhere if a number in it is not finite."""
TAG = "tag:yaml.org,2002:"


def decode_json(text: str, *, finite: bool = True) -> Any:
    """Return what JSON text holds.

    Args:
        text: The text.
        finite: Whether to refuse NaN, infinity, and numbers too large for a float.

    Raises:
        ValueError: If it is not JSON, or nested too deeply; if a key stands twice; if a number is not finite, or has
            more digits than Python reads; if a text holds half of a surrogate pair. ``json.JSONDecodeError`` for text
            that is not JSON.
    """
    try:
        content = json.loads(text, object_pairs_hook=_mapping)
        if finite and WITHOUT_END.search(text):
            _check_finite(content, "")
    except RecursionError as err:
        raise ValueError("it is nested too deeply") from err
    if "\\ud" in text.lower():  # the only way to write a surrogate
        check_text(json.dumps(content, ensure_ascii=False), "a text")
    return content


def decode_yaml(text: str) -> Any:
    """Return what YAML text holds: the values that JSON has, too.

    Raises:
        ValueError: If it is not YAML, or nested too deeply; if a key stands twice, or is no text; if a
            value is of another type, such as a date or a set; if aliases repeat too much.
    """
    import yaml

    try:
        return yaml.load(text, Loader=_strict_loader())
    except (yaml.YAMLError, LookupError, AttributeError, TypeError) as err:  # the last three for values of a wrong tag
        raise ValueError(_words(err)) from err
    except RecursionError as err:
        raise ValueError("it is nested too deeply, or holds itself") from err


def _words(err: Exception) -> str:
    """Return what is wrong with YAML text in a line."""
    mark = getattr(err, "problem_mark", None)
    return f"{getattr(err, 'problem', None) or repr(err)}{f', line {mark.line + 1}' if mark else ''}"


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (repeated, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {repeated!r} stands twice")
    return content


def _check_finite(value: Any, where: str) -> None:
    """Raise if a number is not finite, by its keys and places in the document."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} {value} is not finite; expected a finite number".lstrip())
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _check_finite(item, f"{where}.{key}".lstrip("."))


def check_text(text: str, what: str, error: type[Exception] = ValueError) -> None:
    """Raise ``error`` for text that is no Unicode, as arguments that are not UTF-8 become in Python."""
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise error(f"{what} holds half of a surrogate pair, which is no character; expected text in UTF-8.") from err


def _count(node: yaml.Node, seen: int = 0) -> int:
    """Return the number of values of a node, aliases and merges written out; raise if there are too many."""
    seen += 1
    if seen > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES:,} values, those that aliases repeat counted each time")
    for part in node.value if isinstance(node.value, list) else ():
        for inner in part if isinstance(part, tuple) else (part,):  # a key and its value
            seen = _count(inner, seen)
    return seen


@cache
def _strict_loader() -> type[yaml.SafeLoader]:
    """Return the loader of YAML's values that JSON has, too."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        def get_single_node(self) -> yaml.Node | None:
            if node := super().get_single_node():
                _count(node)  # before any value is made, since a merge copies all that it names
            return node

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            seen = set()
            for key in (self.construct_object(key, deep=True) for key, _ in node.value if key.tag != f"{TAG}merge"):
                if not isinstance(key, str):
                    raise _problem(node, f"the key {key!r} is no text; put it in quotes")
                if key in seen:
                    raise _problem(node, f"the key {key!r} stands twice")
                seen.add(key)
            return super().construct_mapping(node, deep)

        def refuse(self, node: yaml.Node) -> None:
            kind = node.tag.removeprefix(TAG)
            raise _problem(
                node, f"a value is of type {kind}; expected text (in quotes), a number, a list or keys with values"
            )

    def _problem(node: yaml.Node, problem: str) -> yaml.YAMLError:
        return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    for kind in ("timestamp", "binary", "set", "omap", "pairs"):
        StrictLoader.add_constructor(TAG + kind, StrictLoader.refuse)
    return StrictLoader
