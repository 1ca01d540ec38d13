"""A run folder: what the run is, and a line for each finished dialog, written as soon as it is finished.

Every process appends to its own file, so none waits for another. A line that a killed run left half-written is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from audit_lit.answers.patching import Heatmap
from audit_lit.errors import Incomplete, ScanError
from audit_lit.files import read_json, write_whole
from audit_lit.scan.records import Record, record_from_dict, record_to_json

RUN = "run.json"
RECORDS = "records-{rank}.jsonl"
HEATMAPS = "heatmaps.json"
REPORT = "report.json"
Heatmaps = dict[str, dict[str, Heatmap]]
"""By question and dialog."""


class RunFolder:
    """A folder of one audit."""

    def __init__(self, path: Path) -> None:
        """Name it; nothing is read or written yet."""
        self.path = path

    @contextmanager
    def claimed(self, manifest: dict[str, Any]) -> Iterator[None]:
        """Create the folder or go on in it, and keep other runs out meanwhile.

        Raises:
            ScanError: If it holds another run, is in use, or cannot be written.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as err:
            raise ScanError(f"{self.path} is in use by another run; wait for it, or name another with --out.") from err
        except OSError as err:
            raise ScanError(
                f"{self.path} cannot be used as a folder ({err.strerror}); name another with --out."
            ) from err
        try:
            self._claim(manifest)
            yield
        finally:
            lock.release()

    def _claim(self, manifest: dict[str, Any]) -> None:
        path = self.path / RUN
        if path.is_file():
            kept, new = self.manifest(), json.loads(json.dumps(manifest))
            if different := sorted(key for key in new if kept.get(key) != new[key]):
                raise ScanError(
                    f"{self.path} holds an audit that differs in {', '.join(different)}; name another folder with "
                    "--out, or delete it."
                )
            return
        self.write(RUN, json.dumps(manifest, indent=2) + "\n")

    def manifest(self) -> dict[str, Any]:
        """Return what the run is.

        Raises:
            ScanError: If the folder holds none.
        """
        try:
            manifest = read_json(self.path / RUN, ScanError)
        except ScanError as err:
            raise ScanError(f"{self.path} is no folder of an audit: {err} Name a folder that 'scan' wrote.") from err
        if not isinstance(manifest, dict) or not {"recipe", "questions", "threshold", "n_dialogs"} <= set(manifest):
            raise ScanError(f"{self.path} is the folder of another kind of run; expected one that 'scan' wrote.")
        return manifest

    def records(self) -> Iterator[Record]:
        """Yield the finished dialogs, one at a time; a half-written line is left out.

        A dialog may come again: if its reading failed and was tried again, or its chunk was cut off.

        Raises:
            ScanError: If a line holds something else than a record.
        """
        for path in sorted(self.path.glob(RECORDS.format(rank="*"))):
            with path.open(encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file, start=1):
                    with suppress(json.JSONDecodeError):
                        yield _record(json.loads(line), f"{path}, line {number}")

    def append(self, rank: int, records: Sequence[Record]) -> None:
        """Add finished dialogs.

        Raises:
            Incomplete: If they cannot be written, for example to a full disk.
        """
        path = self.path / RECORDS.format(rank=rank)
        try:
            with path.open("ab+") as file:
                file.seek(max(0, file.seek(0, 2) - 1))
                half = file.read(1) not in (b"", b"\n")  # a line that a killed run left, which is skipped
                lines = "".join(record_to_json(record) + "\n" for record in records)
                file.write(b"\n" * half + lines.encode())
        except OSError as err:
            raise Incomplete(
                f"{path} cannot be written ({err.strerror}); what is finished is kept. Make room, and run it again."
            ) from err

    def write(self, name: str, content: str) -> None:
        """Write a file as a whole, or not at all.

        Raises:
            Incomplete: If it cannot be written.
        """
        path = self.path / name
        try:
            write_whole(path, content)
        except OSError as err:
            raise Incomplete(f"{path} cannot be written ({err.strerror}). Make room, and run it again.") from err

    def heatmaps(self) -> Heatmaps:
        """Return what was written of where the evidence sits, by question and dialog.

        Raises:
            ScanError: If the file holds something else.
        """
        path = self.path / HEATMAPS
        if not path.is_file():
            return {}
        try:
            return TypeAdapter(Heatmaps).validate_python(read_json(path, ScanError))
        except ValidationError as err:
            raise ScanError(
                f"{path} holds no heatmaps ({err.error_count()} problems). Delete it, and run again."
            ) from err


def _record(content: Any, where: str) -> Record:
    try:
        return record_from_dict(content)
    except (ValidationError, TypeError) as err:
        raise ScanError(f"{where} is no record of an audit; expected one that 'scan' wrote. Delete the line.") from err
