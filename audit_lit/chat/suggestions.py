"""Commands that turn a file of dialogs into one that is read, for error messages.

``FILE`` stands for the path until that is known (see ``Shell``). Names from the document stand in programs of jq alone,
where JSON escapes control characters: no document can write ``FILE`` into a command, and no path holds it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audit_lit.errors import FILE, OF_A_FILE, DialogError

EACH = "arrays[], objects | "
"""What begins a filter of jq: the dialogs of an array, or the one of a line."""
OUT, OTHER_OUT = "dialogs.jsonl", "dialogs2.jsonl"
JQ = r"""jq -\w+ (?:'[^']*'|"'")+"""
"""What a command of jq begins with: its program is one word, as ``shlex`` quotes it."""


def jq(program: str, options: str = "-c") -> str:
    """Return the command that applies a program of jq (https://jqlang.org) to the file."""
    return f"jq {options} {shlex.quote(program)}{OF_A_FILE}"


def python(code: str) -> str:
    """Return the command that runs Python code on the file, which it names ``sys.argv[1]``."""
    return f'python -c "{code}" {FILE} > {OUT}'


def field(key: str) -> str:
    """Return jq's name of a key."""
    return f".{key}" if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else f".[{json.dumps(key)}]"


def without(keys: Iterable[str]) -> str:
    """Return the command that deletes some keys of each dialog."""
    return jq(f"{EACH}del({', '.join(map(field, keys))})")


def without_anywhere(keys: Iterable[str]) -> str:
    """Return the command that deletes some keys wherever they stand."""
    return jq(f"del(..|{', '.join(f'{field(key)}?' for key in keys)})")


def piped(text: str, step: str) -> str:
    """Return an error message whose programs of jq read what a command writes, in place of the file."""
    return re.sub(f"({JQ}) {FILE} >", lambda command: f"{step} | {command[1]} >", text) if step else text


def quoted(path: str) -> str:
    """Return a path as one word of a command, which takes it for no option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


@dataclass(frozen=True)
class Shell:
    """How a shell names a file of dialogs, and the command that writes it as text in UTF-8 where it is none.

    The path is None for dialogs in memory.
    """

    path: str | None = None
    to_json: str = ""

    def pasteable(self, text: str) -> str:
        """Return an error message whose commands can be pasted."""
        if self.path is None:
            return str(DialogError(text))
        text = piped(text, self.to_json)
        if Path(self.path).name == OUT:  # the shell would empty the file before it is read
            text = re.sub(rf"({FILE}(?: \| {JQ})?) > {OUT}", rf"\1 > {OTHER_OUT}", text)
        return text.replace(FILE, quoted(self.path))
