"""What callers pass for one dialog or text, or for several: each is told from the other before it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from audit_lit.chat.dialog import Dialog
from audit_lit.errors import AuditLitError, DialogError
from audit_lit.files.documents import check_text

ONE = '[{"role": "user", "content": "..."}]'


def one_dialog(dialog: Any) -> Dialog:
    """Return a dialog as it is, or as a list if it comes from a generator.

    Raises:
        DialogError: If it is a list of dialogs, or no list at all.
    """
    messages = _listed(dialog, f"expected one dialog, a list of messages such as {ONE}")
    if messages and all(isinstance(message, list | tuple) for message in messages):
        raise DialogError(
            f"got a list of {len(messages)} dialogs where one is meant; expected a list of messages such as {ONE}. "
            "Call it once for each dialog."
        )
    return messages


def many_dialogs(dialogs: Any) -> list[Dialog]:
    """Return dialogs as a list, which they need not be.

    Raises:
        DialogError: If it is a single dialog, or nothing that can be listed.
    """
    listed = _listed(dialogs, f"expected a list of dialogs such as [{ONE}]")
    if any(isinstance(dialog, Mapping) and "role" in dialog for dialog in listed):
        raise DialogError(f"got one dialog where a list of dialogs is meant; expected [dialog], such as [{ONE}].")
    return listed


def texts(values: Any, what: str, error: type[AuditLitError]) -> list[str]:
    """Return texts as a list, which they need not be.

    Args:
        values: Several texts.
        what: What each is, such as "question".
        error: What to raise.

    Raises:
        AuditLitError: If it is a single text, or holds anything but texts in characters of Unicode, as ``error``.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise error(f"got {values!r:.80} for several {what}s; expected a list of texts.")
    listed = list(values)
    for text in listed:
        if not isinstance(text, str):
            raise error(f"got {text!r:.80} for a {what}; expected text.")
        check_text(text, f"the {what}", error)
    return listed


def _listed(value: Any, expected: str) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise DialogError(f"got {f'{value!r:.80}' if value is None else f'a {type(value).__name__}'}; {expected}.")
    return list(value)
