"""What an unfinished calibration has measured so far, a line for each chunk: an interruption loses one chunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from audit_lit.errors import Incomplete
from audit_lit.files.documents import decode_json
from audit_lit.files.reading import is_file, read_text
from audit_lit.files.writing import dump_json, open_to_append

Item = TypeVar("Item")


@dataclass(frozen=True)
class Journal:
    """A file of chunks: the part of the calibration, where in it the chunk begins, and a value for each item."""

    path: Path
    batch_size: int

    def measured(
        self, part: str, items: Sequence[Item], measure: Callable[[Sequence[Item], int], Sequence[Any]]
    ) -> list[Any]:
        """Return the value of each item; those that are written down are not measured again.

        Args:
            part: Name of the part, which stands beside its progress.
            items: What is measured.
            measure: Returns the values of a chunk of items, given also the place of the first.

        Raises:
            Incomplete: If what is measured cannot be written.
        """
        values = self._read(part)
        values = values[: len(items)]
        with tqdm(desc=f"calibrate: {part}", total=len(items), initial=len(values)) as progress:
            while (first := len(values)) < len(items):
                chunk = items[first : first + self.batch_size]
                new = json.loads(dump_json(list(measure(chunk, first))))
                self._append({"part": part, "first": first, "values": new})
                values += new
                progress.update(len(new))
        return values

    def clear(self) -> None:
        """Remove the file: the calibration is finished."""
        self.path.unlink(missing_ok=True)

    def _read(self, part: str) -> list[Any]:
        values: list[Any] = []
        for line in read_text(self.path).splitlines() if is_file(self.path) else ():
            with suppress(ValueError, TypeError, KeyError):  # a killed run left half of it
                entry = decode_json(line)
                if entry["part"] == part and entry["first"] == len(values):
                    values += entry["values"]
        return values

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open_to_append(self.path) as file:
                file.write(b"\n" + dump_json(entry).encode() + b"\n")
        except OSError as err:
            raise Incomplete(
                f"{self.path} cannot be written ({err.strerror}); what is finished is kept. Make room, or set "
                "AUDIT_LIT_CACHE to another folder, and run it again."
            ) from err
