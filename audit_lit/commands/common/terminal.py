"""Model text in a terminal: untrusted, so control sequences and markup are taken out of it."""

from __future__ import annotations

from rich.markup import escape


def printable(text: str) -> str:
    """Return text without terminal control sequences and with markup made inert."""
    return escape("".join(char for char in text if char.isprintable() or char == "\n"))
