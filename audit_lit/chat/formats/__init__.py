"""The formats in which people have dialogs, one module per family; each is told from the others by its content."""

from audit_lit.chat.formats.detect import BY_NAME, FORMATS, NAMES
from audit_lit.chat.formats.files import (
    Census,
    DialogFile,
    DialogList,
    Dialogs,
    NamedDialog,
    Unreadable,
    digest,
    read_dialogs,
)

__all__ = [
    "BY_NAME",
    "FORMATS",
    "NAMES",
    "Census",
    "DialogFile",
    "DialogList",
    "Dialogs",
    "NamedDialog",
    "Unreadable",
    "digest",
    "read_dialogs",
]
