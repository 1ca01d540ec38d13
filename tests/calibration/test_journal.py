"""The journal: what is written down is not measured again, and half a line is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_lit.errors import Incomplete


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(n=st.integers(0, 12), batch_size=st.integers(1, 5), cut=st.floats(0, 1))
def test_a_file_cut_anywhere_gives_the_same_values(tmp_path: Path, n: int, batch_size: int, cut: float) -> None:
    from audit_lit.calibration.journal import Journal

    journal, calls = Journal(tmp_path / "journal.jsonl", batch_size), []

    def double(chunk: Any, first: int) -> list[int]:
        calls.extend(chunk)
        assert list(chunk) == list(range(first, first + len(chunk)))
        return [2 * item for item in chunk]

    journal.clear()
    journal.measured("other", range(3), lambda chunk, _: chunk)
    values = journal.measured("part", range(n), double)
    assert values == [2 * item for item in range(n)] and calls == list(range(n))
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[: int(cut * len(content))])
    assert journal.measured("part", range(n), double) == values
    calls.clear()
    assert journal.measured("part", range(n), double) == values and not calls


def test_a_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    from audit_lit.calibration.journal import Journal

    (tmp_path / "file").write_text("")
    with pytest.raises(Incomplete, match="what is finished is kept"):
        Journal(tmp_path / "file" / "journal.jsonl", 2).measured("part", [1], lambda chunk, _: chunk)
