"""Make untrusted text safe to look at: what a reader would not see is spelled out, and long text is cut."""

from __future__ import annotations

import unicodedata

LIMIT = 2000
"""Number of characters after which text is cut."""


def inert(text: str) -> str:
    """Return text of which every character can be seen.

    Control characters (terminal escapes, NUL) become their pictures, and other characters that show nothing or reorder
    what stands around them (bidirectional overrides, zero-width and tag characters, lone surrogates) their code points.
    Nothing is left that XML 1.0 forbids.
    """
    lines = text.replace("\r\n", "\n")
    if lines.replace("\n", "").isprintable():
        return lines
    return lines.translate({ord(char): _spelled(char) for char in set(lines) - {"\n"} if not char.isprintable()})


def cut(text: str, limit: int = LIMIT) -> str:
    """Return the first ``limit`` characters of a text; a note says how many there were."""
    return text if len(text) <= limit else f"{text[:limit]} … [cut here: {len(text):,} characters in all]"


def one_line(text: str, limit: int = LIMIT) -> str:
    """Return a text inert, cut and without line breaks, for a table's cell or an attribute."""
    return inert(cut(text, limit)).replace("\n", " ")


def _spelled(char: str) -> str:
    if char == "\t" or unicodedata.category(char) == "Zs":
        return " "
    return chr(0x2400 + ord(char)) if ord(char) < 0x20 else f"⟨U+{ord(char):04X}⟩"
