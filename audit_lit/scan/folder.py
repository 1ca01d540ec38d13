"""A run folder: what the run is, and a line for each finished dialog, written as soon as it is finished.

Every process appends to its own file, so none waits for another. A line that a killed run left half-written is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from audit_lit.answers.patching import Heatmap
from audit_lit.answers.rivals import Panel
from audit_lit.errors import Incomplete, ScanError
from audit_lit.files.documents import decode_json
from audit_lit.files.reading import read_json, require_regular
from audit_lit.files.writing import RUN, dump_json, locked, open_to_append, require_writable, write_whole
from audit_lit.scan.records import Record
from audit_lit.settings import explain

RECORD: TypeAdapter[Record] = TypeAdapter(Record)
RECORDS = "records-{rank}.jsonl"
HEATMAPS = "heatmaps.json"
REPORT = "report.json"
RIVALS = "rivals.json"
Heatmaps = dict[str, dict[str, Heatmap]]
"""Heatmaps by the id of the question, then by the id of the dialog."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one audit; it need not exist yet."""

    path: Path

    def owns(self, path: Path) -> bool:
        """Return whether a path is that of a file of the run itself."""
        is_part = path.name in (RUN, HEATMAPS, REPORT, RIVALS) or path.name.startswith(RECORDS.partition("{")[0])
        return is_part and path.resolve().parent == self.path.resolve()

    @contextmanager
    def claimed(self, manifest: dict[str, Any]) -> Iterator[None]:
        """Create the folder or go on in it, and keep other runs out meanwhile."""
        require_writable(self.path, RUN, ScanError)
        self._check(manifest)  # before a lock is put into a folder of others
        with locked(self.path, ScanError):
            self._check(manifest)
            if not (self.path / RUN).is_file():
                self.write(RUN, dump_json(manifest, indent=2) + "\n")
            yield

    def _check(self, manifest: dict[str, Any]) -> None:
        """Raise if the folder holds another run."""
        if not (self.path / RUN).is_file():
            return
        kept, new = self.manifest(), json.loads(dump_json(manifest))
        if kept.get("versions", {}).get("transformer_lens") == "unknown":  # first versions did not write it down
            kept["versions"]["transformer_lens"] = new["versions"]["transformer_lens"]
        if different := sorted(key for key in new if kept.get(key) != new[key]):
            raise ScanError(
                f"{self.path} holds an audit that differs in {', '.join(different)}; name another folder with --out, "
                "or delete it."
            )

    def manifest(self) -> dict[str, Any]:
        """Return what the run depends on."""
        try:
            manifest = read_json(self.path / RUN, ScanError)
        except ScanError as err:
            raise ScanError(
                f"{self.path} is not the folder of an audit: {err} Name a folder that 'scan' wrote."
            ) from err
        if not isinstance(manifest, dict) or not {"recipe", "questions", "threshold", "n_dialogs"} <= set(manifest):
            raise ScanError(f"{self.path} is the folder of another kind of run; expected one that 'scan' wrote.")
        return manifest

    def records(self) -> Iterator[Record]:
        """Yield the finished dialogs, one at a time; half-written lines are left out.

        The same dialog may come more than once, if it could not be read and was tried again.
        """
        for path in sorted(self.path.glob(RECORDS.format(rank="*"))):
            try:
                require_regular(path)
                with path.open(encoding="utf-8", errors="replace") as file:
                    for number, line in enumerate(file, start=1):
                        yield from _record(line, f"{path}, line {number}")
            except ScanError:
                raise
            except OSError as err:
                raise ScanError(f"{path} could not be read ({err}); expected what 'scan' wrote.") from err

    def append(self, rank: int, records: Sequence[Record]) -> None:
        """Add finished dialogs; raise ``Incomplete`` if they cannot be written, for example to a full disk."""
        path = self.path / RECORDS.format(rank=rank)
        try:
            with open_to_append(path) as file:
                file.seek(max(0, file.seek(0, 2) - 1))
                cut_off = file.read(1) not in (b"", b"\n")  # a killed run left half a line, which readers skip
                lines = "".join(dump_json(asdict(record)) + "\n" for record in records)
                file.write(b"\n" * cut_off + lines.encode())
        except OSError as err:
            raise Incomplete(
                f"{path} cannot be written ({err.strerror}); what is finished is kept. Make room, and run it again."
            ) from err

    def write(self, name: str, content: str) -> None:
        """Write a file as a whole, or not at all."""
        path = self.path / name
        try:
            write_whole(path, content)
        except OSError as err:
            raise Incomplete(f"{path} cannot be written ({err.strerror}). Make room, and run it again.") from err

    def write_rivals(self, panels: Sequence[Panel]) -> None:
        """Write what other ways of looking show."""
        self.write(RIVALS, dump_json([asdict(panel) for panel in panels]))

    def rivals(self) -> tuple[Panel, ...]:
        """Return what other ways of looking show; nothing if they have not been tried."""
        path = self.path / RIVALS
        try:
            return TypeAdapter(tuple[Panel, ...]).validate_python(read_json(path, ScanError)) if path.is_file() else ()
        except ValidationError as err:
            raise ScanError(
                f"{path} does not hold panels ({err.error_count()} problems). Delete it, and run again."
            ) from err

    def write_heatmaps(self, heatmaps: Heatmaps) -> None:
        """Write the heatmaps in place of those that are there."""
        self.write(HEATMAPS, dump_json(TypeAdapter(Heatmaps).dump_python(heatmaps)))

    def heatmaps(self) -> Heatmaps:
        """Return the heatmaps that were written; none if there is no file of them yet."""
        path = self.path / HEATMAPS
        if not path.is_file():
            return {}
        try:
            return TypeAdapter(Heatmaps).validate_python(read_json(path, ScanError))
        except ValidationError as err:
            raise ScanError(
                f"{path} does not hold heatmaps ({err.error_count()} problems). Delete it, and run again."
            ) from err


def _record(line: str, where: str) -> Iterator[Record]:
    """Yield the record of a line; none for a line that was left half-written."""
    try:
        yield RECORD.validate_python(decode_json(line))
    except json.JSONDecodeError:
        return
    except ValueError as err:
        raise ScanError(
            f"{where} is not a record of an audit; expected one that 'scan' wrote ({explain(err)[:300]}). Delete it."
        ) from err
