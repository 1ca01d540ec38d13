"""LatentQA's layout: what is hidden, and what is malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_latentqa_layout(tmp_path: Path) -> None:
    from audit_lit.data.rows import load_rows
    from audit_lit.errors import DataError

    def write(name: str, content: Any) -> None:
        (tmp_path / name).write_text(json.dumps(content))

    with pytest.raises(DataError, match="LatentQA's layout"):
        load_rows(tmp_path)
    write("system.json", [{"system": "S.", "stimulus_user": "u", "label": "goal-a-b"}])
    write(
        "stimulus_completion.json",
        [{"control_user": "c", "control_model": "m", "stimulus_user": "u", "stimulus_model": "v", "label": "goal-x"}],
    )
    write("control.json", [{"control_user": "c", "label": "goal-y"}])
    write("qa.json", {"goal-x": [["q", "a"]]})
    system, completion, control = load_rows(tmp_path)
    assert system.label_words == "goal: a b" and system.system == "S." and not system.qa
    assert [bool(m.get("hidden")) for m in completion.messages] == [True, True, False, False]
    assert completion.qa == (("q", "a"),) and not control.messages[0]["hidden"]
    write("system.json", [{"system": "S."}])
    with pytest.raises(DataError, match=r"system.json\[0\] is malformed"):
        load_rows(tmp_path)
    (tmp_path / "qa.json").write_text("{")
    with pytest.raises(DataError, match=r"qa.json could not be read"):
        load_rows(tmp_path)


def test_text_that_is_not_utf8_is_malformed_data(tmp_path: Path) -> None:
    from audit_lit.data.rows import load_rows
    from audit_lit.errors import DataError

    (tmp_path / "system.json").write_bytes(b"[\xff]")
    with pytest.raises(DataError, match=r"system.json could not be read"):
        load_rows(tmp_path)


def test_one_text_in_so_many_is_held_out() -> None:
    from audit_lit.data.rows import held_out

    share = sum(held_out(f"text {index}", 10) for index in range(2000)) / 2000
    assert 0.07 < share < 0.13 and held_out("a", 1)


def test_too_few_rows_cannot_be_measured() -> None:
    from audit_lit.data.rows import MIN_ROWS, Row, measurable
    from audit_lit.errors import DataError

    row = Row("goal-x", ({"role": "system", "content": "S.", "hidden": True}, {"role": "user", "content": "u"}))
    other = Row("goal-y", ({"role": "user", "content": "u"},))
    assert measurable([row, other] * MIN_ROWS) == [row] * MIN_ROWS
    with pytest.raises(DataError, match="the split has 3 hidden system prompts with a user line; expected 4 or more"):
        measurable([row, other] * (MIN_ROWS - 1), "the split")
