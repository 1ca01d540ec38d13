"""Commands of error messages, run as a user pastes them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit_lit.chat.formats import DialogFile
from audit_lit.errors import DialogError

COMMAND = re.compile(r"(?:jq|python|gzip) -.* > (dialogs2?\.jsonl)", re.DOTALL)


def converted(path: Path, folder: Path, read: Callable[[Any], Any] = list, **names: str) -> list[list[tuple[str, str]]]:
    """Return what is read of a file after the command of its error has been pasted once, in a folder."""
    with pytest.raises(DialogError) as caught:
        read(DialogFile(path))
    command = COMMAND.search(str(caught.value).replace(str(path), "", 1))  # where the error is
    assert command, str(caught.value)
    text = command[0]
    if "jq " in text and not shutil.which("jq"):
        pytest.skip("jq is not installed")
    for name, key in names.items():
        text = text.replace(f"${name}", key).replace(f"== {name}", f"== {key}")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(text, shell=True, cwd=folder, env=environment, check=True, timeout=60)
    return said(DialogFile(folder / command[1]))


def require_converted(documents: list[Any], expected: list[Any], folder: Path, *, as_array: bool) -> None:
    """Fail unless the command of the error makes documents, in lines or as an array, the expected dialog or dialogs."""
    if as_array and (len(documents) > 1 or isinstance(documents[0], list)):
        pytest.skip("its lines belong together, or are arrays already")
    path = folder / "chat logs.json"
    path.write_text(json.dumps(documents, indent=1) if as_array else "\n".join(map(json.dumps, documents)))
    assert converted(path, folder) == (expected if isinstance(expected[0], list) else [expected])


def said(dialogs: Any) -> list[list[tuple[str, str]]]:
    """Return who says what in each dialog."""
    return [[(message["role"], message["content"]) for message in dialog.messages] for dialog in dialogs]
