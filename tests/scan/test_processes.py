"""An audit in two processes: the same findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.processes import launched


@pytest.mark.slow
def test_two_processes_audit_like_one(target: Any, make_decoder: Any, tiny_folder: Path, tmp_path: Path) -> None:
    from audit_lit import Auditor, Decoder
    from audit_lit.scan.engine import CHUNK

    make_decoder().save(tmp_path / "decoder")
    dialogs = [[{"role": "user", "content": f"Hello number {index}."}] for index in range(CHUNK + 3)]
    (tmp_path / "dialogs.jsonl").write_text("".join(json.dumps(dialog) + "\n" for dialog in dialogs))
    fast = {"samples": 1, "max_new_tokens": 4, "twins": 2, "min_lift": 0.1}
    command = ["scan", str(tiny_folder), "--decoder", str(tmp_path / "decoder"), "--recipe", "persona", "--json"]
    command += [part for key, value in fast.items() for part in ("--set", f"{key}={value}")]
    done = launched([*command, "--dialogs", str(tmp_path / "dialogs.jsonl"), "--out", str(tmp_path / "two")], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    decoder = Decoder.from_pretrained(str(tmp_path / "decoder"), target=target)
    alone = Auditor(target, decoder).scan(dialogs, "persona", **fast)
    two = json.loads(done.stdout)
    assert two["findings"] == json.loads(alone.to_json())["findings"]
    assert [len(path.read_text().splitlines()) for path in sorted((tmp_path / "two").glob("records-*"))] == [CHUNK, 3]
