"""Paths as callers give them: told from what is none before they are used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from audit_lit.errors import AuditLitError


def as_path(given: Any, error: type[AuditLitError], what: str) -> Path:
    """Return the path that a caller gave.

    Args:
        given: Text or a ``Path``.
        error: What to raise.
        what: What the path is for, as in "the folder of an edit".

    Raises:
        AuditLitError: If it is of another type, empty, or text that no path can have, as ``error``.
    """
    if not isinstance(given, str | Path):
        raise error(f"got {given!r:.80} for {what}; expected a path, as text or as a Path.")
    try:
        is_none = not str(given) or b"\0" in os.fsencode(given)
    except UnicodeEncodeError:
        is_none = True
    if is_none:
        raise error(f"got {str(given)!r:.80} for {what}, which no path can be; expected one such as 'folder/name'.")
    return Path(given)
